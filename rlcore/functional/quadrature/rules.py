"""The rules that users name: priors over the integrand, each with its integral's weights and variance on given nodes.

>>> rule = Matern(3, length_scale=1.0)            # smoothness 7/2
>>> quadrature = rule.at(torch.linspace(0.0, 1.0, 9, dtype=torch.float64))
>>> quadrature.integral(values), quadrature.deviation(values)       # values [..., 9]

Nodes may be uneven, may leave the ends of the window out, and may be missing (`observed`). A rule is a small frozen
object: it holds what is known of the integrand, not the nodes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rlcore.checks import check_integer, check_not_negative, check_positive
from rlcore.errors import ConfigError, NumericsError
from rlcore.functional.quadrature.log_scale import differentiable
from rlcore.functional.quadrature.markov import matern_prior, wiener_prior
from rlcore.functional.quadrature.nodes import End, Quadrature, check_broadcast, check_nodes
from rlcore.functional.quadrature.square_root import SquareRootFilter
from rlcore.functional.quadrature.squared_exponential import squared_exponential


@dataclass(frozen=True, eq=False)
class Matern:
    """Bayesian quadrature under a Matern prior of smoothness order + 1/2, in O(N) and without jitter."""

    order: int
    """0 to 4: smoothness 1/2 to 9/2. A smooth integrand on even nodes is integrated to O(h^(order + 2))."""
    length_scale: float | Tensor
    """In seconds; a tensor [...] is a batch of them, and gradients reach it."""
    mean_degree: int | None = None
    """Degree of a polynomial mean with unknown coefficients, which is then integrated exactly; None: the mean is 0."""
    noise: float = 0.0
    """Variance of the measurement noise, in units of the prior's variance."""

    def __post_init__(self) -> None:
        check_order(self.order, "for smoothness 1/2 to 9/2")
        check_prior(self.length_scale, self.mean_degree, self.noise)

    def at(self, times: Tensor, start: End = None, end: End = None, observed: Tensor | None = None) -> Quadrature:
        """Weights and variance on nodes [..., N] over [start, end]; see `Rule`."""
        first, last = check_nodes(times, start, end, observed, least=max(2, coefficients(self.mean_degree)))
        prior = matern_prior(self.order, self.mean_degree)
        scale = beside_windows(self.length_scale, times)

        def solve(length: Tensor) -> Quadrature:
            rate = math.sqrt(2.0 * self.order + 1.0) / length
            found = SquareRootFilter(prior, times, first, last, rate, torch.full_like(rate, self.noise), observed)
            return answer(found, times, rate.to(times.dtype), torch.ones_like(rate, dtype=times.dtype), observed)

        return differentiable(solve, scale, times.ndim - 1) if scale.requires_grad else solve(scale)


@dataclass(frozen=True)
class IntegratedWiener:
    """Bayesian quadrature under a Wiener process integrated `order` times, with diffuse polynomials of degree `order`.

    The posterior mean is the natural spline of degree 2 order + 1, so there is no length scale to choose; order 0 is
    the trapezoidal rule with an error bar.
    """

    order: int
    """0 to 4. A smooth integrand on even nodes is integrated to O(h^(order + 2))."""
    noise: float = 0.0
    """Variance of the measurement noise, in units of the variance that the highest derivative gains in one second."""

    def __post_init__(self) -> None:
        check_order(self.order, "for splines of degree 1 to 9")
        check_not_negative("noise", self.noise)

    def at(self, times: Tensor, start: End = None, end: End = None, observed: Tensor | None = None) -> Quadrature:
        """As `Matern.at`; at least order + 1 nodes must be observed."""
        first, last = check_nodes(times, start, end, observed, least=max(2, self.order + 1))
        width = (last - first).squeeze(-1)
        unit = width ** (self.order + 0.5)  # of the values, when time is counted in windows
        noise = self.noise / unit.double() ** 2
        found = SquareRootFilter(wiener_prior(self.order), times, first, last, 1.0 / width.double(), noise, observed)
        return answer(found, times, 1.0 / width, unit, observed)


@dataclass(frozen=True)
class NaturalSpline:
    """The integral of the natural interpolating spline of odd degree, 1 to 9, on any nodes: cubic by default."""

    degree: int = 3

    def __post_init__(self) -> None:
        check_integer("degree", self.degree)
        if self.degree not in (1, 3, 5, 7, 9):
            raise ConfigError(f"degree must be odd, 1 to 9, got {self.degree}; take the next odd number")

    def at(self, times: Tensor, start: End = None, end: End = None, observed: Tensor | None = None) -> Quadrature:
        """As `Matern.at`; at least (degree + 1) / 2 nodes must be observed."""
        return IntegratedWiener((self.degree - 1) // 2).at(times, start, end, observed)


@dataclass(frozen=True, eq=False)
class SquaredExponential:
    """Bayesian quadrature under a squared-exponential prior, for few nodes: large scales suffer from Runge's effect."""

    length_scale: float | Tensor
    """As in `Matern`; at least a twentieth of the window."""
    mean_degree: int | None = None
    """As in `Matern`."""
    noise: float = 0.0
    """As in `Matern`."""

    def __post_init__(self) -> None:
        check_prior(self.length_scale, self.mean_degree, self.noise)

    def at(self, times: Tensor, start: End = None, end: End = None, observed: Tensor | None = None) -> Quadrature:
        """As `Matern.at`, in O(N^3)."""
        degrees = coefficients(self.mean_degree)
        first, last = check_nodes(times, start, end, observed, least=max(2, degrees))
        scale = beside_windows(self.length_scale, times)

        def solve(length: Tensor) -> Quadrature:
            return squared_exponential(length, times, first, last, observed, self.noise, degrees)

        return differentiable(solve, scale, times.ndim - 1) if scale.requires_grad else solve(scale)


def coefficients(degree: int | None) -> int:
    """How many a polynomial mean has."""
    return 0 if degree is None else degree + 1


def beside_windows(length_scale: float | Tensor, times: Tensor) -> Tensor:  # -> [...]
    """The length scale in float64, if it fits the windows."""
    scale = torch.as_tensor(length_scale, dtype=torch.float64, device=times.device)
    check_broadcast("length_scale", (*scale.shape, 1), "times", times.shape)
    return scale


def check_order(order: int, what: str) -> None:
    """Raise unless the order is 0 to 4."""
    check_integer("order", order)
    if not 0 <= order <= 4:
        raise ConfigError(f"order must be 0 to 4, {what}, got {order}")


def check_prior(length_scale: float | Tensor, mean_degree: int | None, noise: float) -> None:
    """Raise unless a stationary prior is whole."""
    if isinstance(length_scale, Tensor):
        if not bool(((length_scale > 0.0) & torch.isfinite(length_scale)).all()):
            raise ConfigError(
                "length_scale must be positive and finite in every row; take the exponential of a parameter"
            )
    else:
        check_positive("length_scale", length_scale, "s")
    if mean_degree is not None:
        check_integer("mean_degree", mean_degree)
        if not 0 <= mean_degree <= 4:
            raise ConfigError(f"mean_degree must be 0 to 4 or None, got {mean_degree}")
    check_not_negative("noise", noise)


def answer(found: SquareRootFilter, times: Tensor, rate: Tensor, unit: Tensor, observed: Tensor | None) -> Quadrature:
    """A filter's result in seconds: its time runs at `rate` per second, and its values are counted in `unit`s."""
    if not bool(torch.isfinite(found.weights).all()):
        raise NumericsError("nodes lie too close together for this dtype; use float64 or drop some of them")
    return Quadrature(
        times,
        found.weights / rate.unsqueeze(-1),
        found.variance * (unit / rate) ** 2,
        lambda values: found.squares(values / unit.unsqueeze(-1)),
        found.degrees,
        found.log_determinant + 2.0 * found.degrees * unit.log(),
        observed,
    )
