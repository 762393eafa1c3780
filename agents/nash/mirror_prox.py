"""Nash Mirror Prox, the exact proximal point that it approximates, and EGPO, which is the same in other letters.

With a weight lambda of the KL to the last policy, the exact proximal step

    pi_{k+1} = argmax_pi pi^T P pi_{k+1} - beta KL(pi | mu) - lambda KL(pi | pi_k)

is a game against itself, better conditioned than the first, and KL(pi* | .) falls by lambda / (beta + lambda) for any
lambda. Mirror prox replaces the opponent pi_{k+1} by one extrapolation and needs lambda (lambda + beta) >= 1/4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rlcore.agents.nash.method import Iterate, mirror_step
from rlcore.checks import check_positive
from rlcore.functional.games import PreferenceGame, equilibrium
from rlcore.functional.games.regularised import scaled_sum


def least_weight(beta: float | Tensor) -> float | Tensor:
    """lambda = (sqrt(1 + beta^2) - beta) / 2, the smallest with lambda (lambda + beta) >= 1/4.

    The contraction factor of KL(pi* | pi_k) per iteration is then (sqrt(1 + beta^2) - beta)^2, instead of
    1 / (1 + 2 beta) with lambda = 1/2.
    """
    root = (1.0 + beta**2) ** 0.5
    return 0.5 * (root - beta)


@dataclass(frozen=True)
class NashMp:
    """Nash Mirror Prox: both steps start from pi_k, the second against the policy that the first one found.

        pi_{k+1/2} = argmax_pi pi^T P pi_k       - beta KL(pi | mu) - lambda KL(pi | pi_k)
        pi_{k+1}   = argmax_pi pi^T P pi_{k+1/2} - beta KL(pi | mu) - lambda KL(pi | pi_k)

    KL(pi* | pi_k) <= (1 + 2 beta)^-k KL(pi* | mu) for lambda = 1/2, whatever the number of actions; 2 queries a step.
    Source: Tiapkin et al., "Accelerating Nash learning from human feedback via mirror prox", arXiv 2505.19731.
    """

    weight: float | None = 0.5
    """lambda, in units of the preference; None takes `least_weight(beta)`."""

    def __post_init__(self) -> None:
        if self.weight is not None:
            check_positive("weight", self.weight)

    def step(self, game: PreferenceGame, at: Iterate) -> Iterate:
        weight = least_weight(game.beta) if self.weight is None else self.weight
        last, rate = at.log_policy, 1.0 / (game.beta + weight)
        mixed = game.mixture(last, weight)  # where both pulls lead, common to both steps
        half = torch.softmax(scaled_sum(mixed, game.payoffs(last), rate), -1)
        full = torch.log_softmax(scaled_sum(mixed, game.preference(half), rate), -1)
        return Iterate(full, last, at.step + 1, at.queries + 2)


@dataclass(frozen=True)
class NashProx:
    """Nash Prox: the proximal point itself, each step the exact equilibrium of the anchored game.

    Counts one query per step, though each solves a game: compare its steps with those of others, not its queries.
    Source: Tiapkin et al., "Proximal point Nash learning from human feedback", arXiv 2505.19731v2.
    """

    weight: float = 0.5
    """lambda, in units of the preference."""

    def __post_init__(self) -> None:
        check_positive("weight", self.weight)

    def step(self, game: PreferenceGame, at: Iterate) -> Iterate:
        found = equilibrium(game.anchored(at.log_policy, self.weight), at.log_policy)
        return Iterate(found, at.log_policy, at.step + 1, at.queries + 1)


@dataclass(frozen=True)
class Egpo:
    """Extragradient preference optimisation: two steps of the log-policy, with no normalisation in between.

        theta_{t+1/2} = (1 - eta beta) theta_t + eta beta (log mu + P pi_t / beta),   theta_{t+1} with P pi_{t+1/2}

    It is `NashMp` with lambda = 1 / eta - beta.
    Source: Zhou, Fazel and Du, "Extragradient preference optimization", COLM 2025.
    """

    rate: float | None = None
    """eta, per unit of the preference; None takes the paper's 1 / (beta + 3)."""

    def __post_init__(self) -> None:
        if self.rate is not None:
            check_positive("rate", self.rate)

    def step(self, game: PreferenceGame, at: Iterate) -> Iterate:
        rate = 1.0 / (game.beta + 3.0) if self.rate is None else self.rate
        keep, pull, last = 1.0 - rate * game.beta, rate * game.beta, at.log_policy
        half = keep * last + pull * game.log_reference + rate * game.payoffs(last)
        full = mirror_step(last, game.log_reference, game.payoffs(torch.log_softmax(half, -1)), keep, pull, rate)
        return Iterate(full, last, at.step + 1, at.queries + 2)


def iterations_to(tolerance: float, beta: float) -> int:
    """Iterations of `NashMp()` after which KL(pi* | pi_k) <= tolerance in every game: KL(pi* | mu) <= 1 / (2 beta)."""
    check_positive("tolerance", tolerance)
    check_positive("beta", beta)
    return max(0, math.ceil(math.log(1.0 / (2.0 * beta * tolerance)) / math.log1p(2.0 * beta)))
