"""How strongly the occupancy is held: a constant, a dual variable that meets a target, or the certified lambda*."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from rlcore.checks import check_not_negative, check_positive
from rlcore.functional.occupancy import best_lambda, check_correlation


class Strength(Protocol):
    """lambda, in units of the proxy per step."""

    def first(self, proxy_sd: float, r: float | None) -> float:
        """At the beginning, from the proxy's deviation on reference data and its correlation with the truth."""

    def after(self, strength: Tensor, root: Tensor) -> Tensor:  # [S], [S] -> [S]
        """Once the root of chi^2 has been measured."""


@dataclass(frozen=True)
class Constant:
    """lambda as given."""

    value: float
    """lambda [reward per step]."""

    def __post_init__(self) -> None:
        check_not_negative("lambda", self.value)

    def first(self, proxy_sd: float, r: float | None) -> float:
        return self.value

    def after(self, strength: Tensor, root: Tensor) -> Tensor:
        return strength


@dataclass(frozen=True)
class DualAscent:
    """lambda <- lambda exp(rate (C - target)): holds sqrt(chi^2) at a target."""

    target: float
    """C to be held."""
    value: float = 0.01
    """lambda at the beginning [reward per step]."""
    rate: float = 0.1
    """Step size of the logarithm per unit of C; steps are kept below 1/2."""

    def __post_init__(self) -> None:
        check_positive("target", self.target)
        check_positive("lambda", self.value)
        check_positive("rate", self.rate)

    def first(self, proxy_sd: float, r: float | None) -> float:
        return self.value

    def after(self, strength: Tensor, root: Tensor) -> Tensor:
        return strength * torch.exp((self.rate * (root - self.target)).clamp(-0.5, 0.5))


@dataclass(frozen=True)
class Certified:
    """lambda* = sd(P) sqrt(1 - r^2), for which what is maximised is a lower bound of the true gain."""

    def first(self, proxy_sd: float, r: float | None) -> float:
        assert r is not None  # the regulariser has refused to begin without it
        return best_lambda(proxy_sd, check_correlation(r))

    def after(self, strength: Tensor, root: Tensor) -> Tensor:
        return strength
