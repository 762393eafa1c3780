"""Rivals with one query per step: mirror descent with a magnet, without one, and with one that moves.

All of them are pi_{k+1} proportional to pi_k^a mu^b exp(c P opponent) and differ in a, b, c, the opponent, and in what
plays the part of mu. Letters: beta strength of the regularisation, eta step size per unit of the preference.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from rlcore.agents.nash.method import Iterate, mirror_step
from rlcore.checks import check_integer, check_positive
from rlcore.errors import ConfigError
from rlcore.functional.games import PreferenceGame


@dataclass(frozen=True)
class NashMd:
    """Nash mirror descent: the opponent, and the point to start from, is the mixture pi^(1 - eta beta) mu^(eta beta).

    With eta_k = 2 / (beta (k + 2)) KL(pi* | pi_k) falls like 1 / k; with a constant eta the limit is not pi*.
    Source: Munos et al., "Nash learning from human feedback", ICML 2024.
    """

    rate: float | None = None
    """eta; None takes the schedule."""

    def __post_init__(self) -> None:
        if self.rate is not None:
            check_positive("rate", self.rate)

    def step(self, game: PreferenceGame, at: Iterate) -> Iterate:
        rate = 2.0 / (game.beta * (at.step + 2.0)) if self.rate is None else self.rate
        pull = rate * game.beta
        mixture = torch.log_softmax((1.0 - pull) * at.log_policy + pull * game.log_reference, -1)
        found = mirror_step(mixture, mixture, game.payoffs(mixture), 1.0, 0.0, rate)
        return Iterate(found, mixture, at.step + 1, at.queries + 1)


@dataclass(frozen=True)
class Mmd:
    """Magnetic mirror descent: pi_{k+1}^(1 + eta beta) proportional to pi_k mu^(eta beta) exp(eta P pi_k).

    Converges linearly for eta <= 4 beta, in O(1 / beta^2) queries.
    Source: Sokota et al., "A unified approach to reinforcement learning, quantal response equilibria, and two-player
    zero-sum games", ICLR 2023.
    """

    rate: float | None = None
    """eta; None takes 4 beta."""

    def __post_init__(self) -> None:
        if self.rate is not None:
            check_positive("rate", self.rate)

    def step(self, game: PreferenceGame, at: Iterate) -> Iterate:
        rate = 4.0 * game.beta if self.rate is None else self.rate
        return magnetic(game, at, at.log_policy, rate)


def magnetic(game: PreferenceGame, at: Iterate, last: torch.Tensor, rate: float | torch.Tensor) -> Iterate:
    """A step of `Mmd` whose magnet is the iterate's anchor, which begins as mu."""
    whole = 1.0 + rate * game.beta
    found = mirror_step(last, at.anchor, game.payoffs(last), 1.0 / whole, rate * game.beta / whole, rate / whole)
    return Iterate(found, at.anchor, at.step + 1, at.queries + 1)


@dataclass(frozen=True)
class Mpo:
    """Magnetic preference optimisation: `Mmd` whose magnet becomes the current policy every `reset_every` steps.

    It goes to an equilibrium of the game without regularisation.
    Source: Wang et al., "Magnetic preference optimization", ICLR 2025.
    """

    reset_every: int = 50
    """Steps between two resets of the magnet."""
    rate: float | None = None
    """eta; None takes 4 beta."""

    def __post_init__(self) -> None:
        check_resets(self.reset_every)
        Mmd(self.rate)

    def step(self, game: PreferenceGame, at: Iterate) -> Iterate:
        return with_reset(Mmd(self.rate).step(game, at), self.reset_every)


@dataclass(frozen=True)
class Inpo:
    """Iterative Nash policy optimisation: pi_{k+1} proportional to pi_k^(1 - beta/eta) mu^(beta/eta) exp(P pi_k / eta).

    It is `Mmd` with eta = beta + 1 / eta_mmd: here eta is a weight, not a rate.
    Source: Zhang et al., "Iterative Nash policy optimization", ICLR 2025.
    """

    weight: float | None = None
    """eta > beta, in units of the preference; None takes beta + 1 / (4 beta), which is `Mmd()`."""

    def __post_init__(self) -> None:
        if self.weight is not None:
            check_positive("weight", self.weight)

    def step(self, game: PreferenceGame, at: Iterate) -> Iterate:
        weight = game.beta + 0.25 / game.beta if self.weight is None else self.weight
        pull, last = game.beta / weight, at.log_policy
        found = mirror_step(last, at.anchor, game.payoffs(last), 1.0 - pull, pull, 1.0 / weight)
        return Iterate(found, at.anchor, at.step + 1, at.queries + 1)


@dataclass(frozen=True)
class Comal:
    """Convergent meta-alignment: solve the regularised game by `Inpo`, make the answer the reference, and again.

    It goes to an equilibrium of the game without regularisation, in the last iterate.
    Source: Liu et al., "COMAL", arXiv 2410.23223.
    """

    reset_every: int = 50
    """Steps of the inner loop, between two changes of the reference."""
    weight: float | None = None
    """eta of `Inpo`."""

    def __post_init__(self) -> None:
        check_resets(self.reset_every)
        Inpo(self.weight)

    def step(self, game: PreferenceGame, at: Iterate) -> Iterate:
        return with_reset(Inpo(self.weight).step(game, at), self.reset_every)


@dataclass(frozen=True)
class MultiplicativeWeights:
    """pi_{k+1} proportional to pi_k exp(eta P pi_k), the tabular form of SPPO and DNO: no regularisation at all.

    Only the average over iterates converges; the last one cycles outwards.
    Source: Freund and Schapire, 1999; Wu et al., "Self-play preference optimization", 2024.
    """

    rate: float = 0.1
    """eta, per unit of the preference."""

    def __post_init__(self) -> None:
        check_positive("rate", self.rate)

    def step(self, game: PreferenceGame, at: Iterate) -> Iterate:
        last = at.log_policy
        found = mirror_step(last, last, game.payoffs(last), 1.0, 0.0, self.rate)
        return Iterate(found, at.anchor, at.step + 1, at.queries + 1)


@dataclass(frozen=True)
class OptimisticWeights:
    """pi_{k+1} proportional to pi_k exp(eta (2 P pi_k - P pi_{k-1})): its last iterate converges.

    No regularisation. P pi_{k-1} is kept from the last step in `anchor`, so that a step is one query.
    Source: Daskalakis and Panageas, ITCS 2019; Chen et al., 2025, for preferences.
    """

    rate: float = 0.1
    """eta, per unit of the preference."""

    def __post_init__(self) -> None:
        check_positive("rate", self.rate)

    def step(self, game: PreferenceGame, at: Iterate) -> Iterate:
        payoffs = game.payoffs(at.log_policy)
        ahead = payoffs if at.step == 0 else 2.0 * payoffs - at.anchor
        found = mirror_step(at.log_policy, at.log_policy, ahead, 1.0, 0.0, self.rate)
        return Iterate(found, payoffs, at.step + 1, at.queries + 1)


def with_reset(at: Iterate, every: int) -> Iterate:
    """The iterate with its anchor moved to its policy, every so many steps."""
    return at._replace(anchor=at.log_policy) if at.step % every == 0 else at


def check_resets(every: int) -> None:
    """Raise unless this is a number of steps."""
    check_integer("reset_every", every)
    if every < 1:
        raise ConfigError(f"reset_every must be at least 1 step, got {every}")
