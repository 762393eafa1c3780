"""The divergences themselves, each a few lines of algebra under the convention of `base`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from rlcore.errors import ConfigError
from rlcore.functional.divergence.base import Divergence, exponential_difference


@dataclass(frozen=True)
class ReverseKl(Divergence):
    """KL(p | q): f = u log u."""

    def f(self, u: Tensor) -> Tensor:
        return torch.xlogy(u, u)

    def slope_at_log(self, d: Tensor) -> Tensor:
        return d + 1.0

    def slope_difference(self, d: Tensor, other: Tensor) -> Tensor:
        return d - other

    def inverse(self, v: Tensor) -> Tensor:
        return (v - 1.0).exp()

    def conjugate(self, v: Tensor) -> Tensor:
        return (v - 1.0).exp()


@dataclass(frozen=True)
class ForwardKl(Divergence):
    """KL(q | p): f = -log u."""

    highest_slope = 0.0

    def f(self, u: Tensor) -> Tensor:
        return -u.log()

    def slope_at_log(self, d: Tensor) -> Tensor:
        return -(-d).exp()

    def slope_difference(self, d: Tensor, other: Tensor) -> Tensor:
        return exponential_difference(-other, -d)

    def inverse(self, v: Tensor) -> Tensor:
        return -1.0 / v

    def conjugate(self, v: Tensor) -> Tensor:
        return -1.0 - (-v).log()


@dataclass(frozen=True)
class JensenShannon(Divergence):
    """KL(p | m) + KL(q | m), m = (p + q) / 2, twice the usual: f = u log u - (u + 1) log((u + 1) / 2)."""

    highest_slope = math.log(2.0)

    def f(self, u: Tensor) -> Tensor:
        return torch.xlogy(u, u) - (u + 1.0) * (0.5 * (u + 1.0)).log()

    def slope_at_log(self, d: Tensor) -> Tensor:
        return logsigmoid(d) + math.log(2.0)

    def slope_difference(self, d: Tensor, other: Tensor) -> Tensor:
        return logsigmoid(d) - logsigmoid(other)

    def inverse(self, v: Tensor) -> Tensor:
        return 1.0 / (2.0 * (-v).exp() - 1.0)

    def conjugate(self, v: Tensor) -> Tensor:
        return -(2.0 - v.exp()).log()


@dataclass(frozen=True)
class Alpha(Divergence):
    """f = (u^(1-a) - (1-a) u - a) / (a (a - 1)), 0 < a < 1: KL(p | q) as a -> 0 and KL(q | p) as a -> 1.

    This is the paper's a. TRL implements (t^(c-1) - 1) / (c - 1), which is this slope with c = 1 - a.
    """

    alpha: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha < 1.0:
            raise ConfigError(
                f"alpha must lie strictly between 0 and 1, got {self.alpha}; use ReverseKl for 0, ForwardKl for 1"
            )
        object.__setattr__(self, "highest_slope", 1.0 / self.alpha)

    def f(self, u: Tensor) -> Tensor:
        a = self.alpha
        return (u.pow(1.0 - a) - (1.0 - a) * u - a) / (a * (a - 1.0))

    def slope_at_log(self, d: Tensor) -> Tensor:
        return -torch.expm1(-self.alpha * d) / self.alpha

    def slope_difference(self, d: Tensor, other: Tensor) -> Tensor:
        return exponential_difference(-self.alpha * other, -self.alpha * d) / self.alpha

    def inverse(self, v: Tensor) -> Tensor:
        return (torch.log1p(-self.alpha * v) / -self.alpha).exp()

    def conjugate(self, v: Tensor) -> Tensor:
        return torch.expm1((1.0 - 1.0 / self.alpha) * torch.log1p(-self.alpha * v)) / (1.0 - self.alpha)


@dataclass(frozen=True)
class PearsonChiSquared(Divergence):
    """chi^2(p | q): f = (u - 1)^2. Policies that it holds can reach zero."""

    lowest_slope = -2.0

    def f(self, u: Tensor) -> Tensor:
        return (u - 1.0).square()

    def slope_at_log(self, d: Tensor) -> Tensor:
        return 2.0 * torch.expm1(d)

    def slope_difference(self, d: Tensor, other: Tensor) -> Tensor:
        return 2.0 * exponential_difference(d, other)

    def inverse(self, v: Tensor) -> Tensor:
        return (1.0 + 0.5 * v).clamp(min=0.0)

    def conjugate(self, v: Tensor) -> Tensor:
        inside = v.clamp(min=-2.0)
        return inside + 0.25 * inside.square()


@dataclass(frozen=True)
class NeymanChiSquared(Divergence):
    """chi^2(q | p): f = (1 - u)^2 / u."""

    highest_slope = 1.0

    def f(self, u: Tensor) -> Tensor:
        return (1.0 - u).square() / u

    def slope_at_log(self, d: Tensor) -> Tensor:
        return -torch.expm1(-2.0 * d)

    def slope_difference(self, d: Tensor, other: Tensor) -> Tensor:
        return exponential_difference(-2.0 * other, -2.0 * d)

    def inverse(self, v: Tensor) -> Tensor:
        return (1.0 - v).rsqrt()

    def conjugate(self, v: Tensor) -> Tensor:
        return 2.0 - 2.0 * (1.0 - v).sqrt()


@dataclass(frozen=True)
class SquaredHellinger(Divergence):
    """sum (sqrt p - sqrt q)^2: f = (sqrt u - 1)^2."""

    highest_slope = 1.0

    def f(self, u: Tensor) -> Tensor:
        return (u.sqrt() - 1.0).square()

    def slope_at_log(self, d: Tensor) -> Tensor:
        return -torch.expm1(-0.5 * d)

    def slope_difference(self, d: Tensor, other: Tensor) -> Tensor:
        return exponential_difference(-0.5 * other, -0.5 * d)

    def inverse(self, v: Tensor) -> Tensor:
        return (1.0 - v).pow(-2)

    def conjugate(self, v: Tensor) -> Tensor:
        return v / (1.0 - v)


@dataclass(frozen=True)
class ChiSquaredKl(Divergence):
    """chi^2(p | q) / 2 + KL(p | q): f = (u - 1)^2 / 2 + u log u, whose slope is u + log u: that of chi-PO.

    Source: Huang et al., "Correcting the mythos of KL-regularization", arXiv 2407.13399, section 3.
    """

    def f(self, u: Tensor) -> Tensor:
        return 0.5 * (u - 1.0).square() + torch.xlogy(u, u)

    def slope_at_log(self, d: Tensor) -> Tensor:
        return d.exp() + d

    def slope_difference(self, d: Tensor, other: Tensor) -> Tensor:
        return d - other + exponential_difference(d, other)

    def inverse(self, v: Tensor) -> Tensor:
        """The Wright function omega(v), u + log u = v, by Newton's method on x = log u, e^x + x = v."""
        x = torch.where(v > 1.0, v.clamp(min=1.0).log(), v)
        for _ in range(8):
            x = x - (x.exp() + x - v) / (x.exp() + 1.0)
        return x.exp()

    def conjugate(self, v: Tensor) -> Tensor:
        u = self.inverse(v)
        return 0.5 * u.square() + u - 0.5  # u v - f(u) with v = u + log u


@dataclass(frozen=True)
class TotalVariation(Divergence):
    """sum |p - q| / 2: f = |u - 1| / 2. Its slope jumps at u = 1, so that it has no inverse but u = 1."""

    lowest_slope, highest_slope = -0.5, 0.5

    def f(self, u: Tensor) -> Tensor:
        return 0.5 * (u - 1.0).abs()

    def slope_at_log(self, d: Tensor) -> Tensor:
        return 0.5 * d.sign()

    def inverse(self, v: Tensor) -> Tensor:
        return torch.where(v < -0.5, 0.0, torch.where(v > 0.5, math.inf, 1.0)).to(v)

    def conjugate(self, v: Tensor) -> Tensor:
        return torch.where(v > 0.5, torch.full_like(v, math.inf), v.clamp(min=-0.5))


INTERIOR: dict[str, Divergence] = {
    "reverse KL": ReverseKl(),
    "forward KL": ForwardKl(),
    "Jensen-Shannon": JensenShannon(),
    "alpha = 1/2": Alpha(0.5),
    "Neyman chi^2": NeymanChiSquared(),
    "squared Hellinger": SquaredHellinger(),
    "chi^2 + KL": ChiSquaredKl(),
}
"""Those whose slope falls to -inf at 0, so that what they regularise keeps its support."""
ALL: dict[str, Divergence] = INTERIOR | {"Pearson chi^2": PearsonChiSquared(), "total variation": TotalVariation()}
