"""f-divergences under one convention: D_f(p | q) = E_q[f(u)], u = p / q, f convex with f(1) = 0.

Of each: f, its slope f', the slope's inverse and the conjugate f*(v) = max over u >= 0 of u v - f(u), attained at
u = inverse(v). Likelihood ratios of sequences span hundreds of nats, so slopes are also given as functions of
d = log u: `slope_at_log`, and `slope_difference`, the difference of two, in which constants cancel and nothing
overflows.

The argument of `inverse` and `conjugate` must lie below `highest_slope`, the least upper bound of f'. Where f'(0) is
finite (`lowest_slope` > -inf) u = 0 is reached and the inverse is clipped there.
Source: Ali and Silvey, JRSS B 28 (1966); f' and inverses as in Wang et al., "Beyond reverse KL", ICLR 2024, table 1.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

LARGEST_EXPONENT = 30.0
"""Beyond e^30 the exponential in `slope_difference` goes on as a straight line: finite, and still with a gradient."""


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:  # [..., n], [..., n] -> [...]
    """KL(p | q) = sum p (e^d - 1 - d), d = log q - log p, of normalised log-probabilities.

    All terms are positive, so that nothing cancels: divergences of 1e-30 are resolved, where sum p log(p / q) is lost
    at 1e-16. An action without mass in p costs nothing.
    """
    d = log_q - log_p
    series = d * d * (0.5 + d * (1.0 / 6.0 + d * (1.0 / 24.0 + d / 120.0)))
    near = torch.where(d.abs() < 1e-3, series, torch.expm1(d.clamp(max=30.0)) - d)
    p, q = log_p.exp(), log_q.exp()
    far = q - torch.where(p > 0.0, p * (1.0 + d), 0.0)  # where e^d may overflow, q = p e^d does not
    return torch.where(d < 30.0, p * near, far).sum(-1)


class Divergence(ABC):
    """One f and what belongs to it; every function acts element by element."""

    lowest_slope: float = -math.inf
    """f'(0)."""
    highest_slope: float = math.inf
    """sup f'."""

    @abstractmethod
    def f(self, u: Tensor) -> Tensor:
        """f(u), u > 0."""

    @abstractmethod
    def slope_at_log(self, d: Tensor) -> Tensor:
        """f'(e^d)."""

    @abstractmethod
    def inverse(self, v: Tensor) -> Tensor:
        """The u >= 0 at which f'(u) = v, or 0 where v <= f'(0)."""

    @abstractmethod
    def conjugate(self, v: Tensor) -> Tensor:
        """f*(v) = max over u >= 0 of u v - f(u)."""

    def slope(self, u: Tensor) -> Tensor:
        """f'(u)."""
        return self.slope_at_log(u.log())

    def slope_difference(self, d: Tensor, other: Tensor) -> Tensor:
        """f'(e^d) - f'(e^other), finite for all finite d, with a finite gradient."""
        return self.slope_at_log(d) - self.slope_at_log(other)

    def between(self, log_p: Tensor, log_q: Tensor) -> Tensor:  # [..., n], [..., n] -> [...]
        """D_f(p | q) of normalised log-probabilities."""
        return (log_q.exp() * self.f((log_p - log_q).exp())).sum(-1)


def exponential_difference(a: Tensor, b: Tensor) -> Tensor:
    """e^a - e^b without overflow and without cancellation, each exponential a straight line beyond e^30.

    As e^max(a, b) times 1 - e^-|a - b| the difference of two close ones keeps its digits.
    """
    top = LARGEST_EXPONENT
    first = a >= b  # not minimum and maximum, which share the gradient of equals: policies begin at their reference
    low, high = torch.where(first, b, a).clamp(max=top), torch.where(first, a, b).clamp(max=top)
    inside = -high.exp() * torch.expm1(low - high) * torch.where(first, 1.0, -1.0)
    return inside + math.exp(top) * ((a - top).clamp(min=0.0) - (b - top).clamp(min=0.0))


def clipped_exponential(x: Tensor, largest: float = 10.0) -> Tensor:
    """e^x, and its tangent beyond `largest`: for log-ratios of whole sequences, which overflow."""
    return x.clamp(max=largest).exp() * (1.0 + (x - largest).clamp(min=0.0))
