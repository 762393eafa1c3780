"""Gradient steps on logits against the current policy, or against an average of the last ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from rlcore.agents.nash.method import Iterate, mirror_step
from rlcore.checks import check_positive
from rlcore.errors import ConfigError
from rlcore.functional.games import PreferenceGame


@dataclass(frozen=True)
class OnlineIpo:
    """Online IPO in expectation: gradient descent on the squared error of log-ratios under the policy's own pairs.

        L = E_{y, y' ~ sg(pi)}[(log(pi(y) mu(y') / (pi(y') mu(y))) - (P(y > y') - 1/2) / beta)^2]

    Its gradient with respect to the logits is -(4 / beta) times that of J(pi, sg(pi)),
    grad J = pi (g - <pi, g>), g = P pi - beta log(pi / mu): self-play policy gradient.
    Source: Calandriello et al., "Human alignment of large language models through online preference optimisation",
    ICML 2024.
    """

    rate: float = 0.5
    """Step size of the logits, per unit of L."""

    def __post_init__(self) -> None:
        check_positive("rate", self.rate)

    def step(self, game: PreferenceGame, at: Iterate) -> Iterate:
        last = at.log_policy
        policy, pull = last.exp(), game.payoffs(last) - game.beta * (last - game.log_reference)
        uphill = policy * (pull - (policy * pull).sum(-1, keepdim=True))
        found = torch.log_softmax(last + 4.0 * self.rate / game.beta * uphill, -1)
        return Iterate(found, at.anchor, at.step + 1, at.queries + 1)


@dataclass(frozen=True)
class MovingAnchor:
    """The single loop: a gradient step towards the proximal point, whose opponent and anchor are a moving average.

        theta   <- theta + alpha (P pi_a - beta (theta - log mu) - lambda (theta - theta_a))
        theta_a <- (1 - kappa) theta_a + kappa theta

    An approximation of mirror prox that keeps its fixed point, not its rate; stable for a small kappa only,
    kappa < 2 beta (beta + lambda) / (beta^2 + omega^2) with omega the frequencies of the game.
    """

    averaging: float = 0.1
    """kappa, in (0, 1]."""
    rate: float = 1.0
    """alpha, per unit of the preference."""
    weight: float = 0.5
    """lambda, in units of the preference."""

    def __post_init__(self) -> None:
        check_positive("rate", self.rate)
        check_positive("weight", self.weight)
        if not 0.0 < self.averaging <= 1.0:
            raise ConfigError(f"averaging must lie in (0, 1], got {self.averaging}")

    def step(self, game: PreferenceGame, at: Iterate) -> Iterate:
        theta, anchor = at.log_policy, at.anchor
        force = game.payoffs(anchor) - game.beta * (theta - game.log_reference) - self.weight * (theta - anchor)
        theta = torch.log_softmax(theta + self.rate * force, -1)
        anchor = torch.log_softmax((1.0 - self.averaging) * anchor + self.averaging * theta, -1)
        return Iterate(theta, anchor, at.step + 1, at.queries + 1)


@dataclass(frozen=True)
class MixtureOpponent:
    """Policy-gradient Nash-MD: natural gradient steps against the mixture pi^(1 - a) mu^a, as language trainers do it.

        theta <- theta + alpha (P pi_mix - beta (theta - log mu))

    Its limit solves beta log(pi / mu) = P pi_mix + c, which is not the equilibrium: the bias grows with the mixture,
    and only a of the order of eta beta is meant by the theory of `NashMd`.
    Source: Munos et al., ICML 2024, section 7; TRL's `NashMDTrainer` has a = 1/2.
    """

    mixture: float = 0.5
    """a, the share of the reference in the opponent, in [0, 1]; 0 is self-play."""
    rate: float = 0.1
    """alpha, per unit of the preference."""

    def __post_init__(self) -> None:
        check_positive("rate", self.rate)
        if not 0.0 <= self.mixture <= 1.0:
            raise ConfigError(f"mixture must lie in [0, 1], got {self.mixture}")

    def step(self, game: PreferenceGame, at: Iterate) -> Iterate:
        theta, log_mu = at.log_policy, game.log_reference
        opponent = torch.log_softmax((1.0 - self.mixture) * theta + self.mixture * log_mu, -1)
        pull = self.rate * game.beta
        found = mirror_step(theta, log_mu, game.payoffs(opponent), 1.0 - pull, pull, self.rate)
        return Iterate(found, opponent, at.step + 1, at.queries + 1)
