"""Classical rules: trapezoid and Simpson on given nodes, Gauss-Legendre and Clenshaw-Curtis on their own.

trapezoid         error O(h^2); the mean of the integral under a Wiener prior
Simpson           parabolas over pairs of steps, error O(h^4) on even nodes; an odd step at the end is closed with
                  the cubic through the last four nodes, so the order holds for every number of nodes
Gauss-Legendre    exact for polynomials of degree 2 N - 1
Clenshaw-Curtis   exact for polynomials of degree N - 1, nested under doubling, with both ends among the nodes
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rlcore.checks import check_integer, check_numbers
from rlcore.errors import ConfigError
from rlcore.functional.quadrature.nodes import End, Quadrature, check_nodes, over_patterns


def check_covers(times: Tensor, start: End, end: End, observed: Tensor | None) -> None:
    """Raise unless the window ends at the outer nodes: a rule without a prior does not extrapolate."""
    first, last = check_nodes(times, start, end, observed)
    seen = observed is None or bool(observed[..., [0, -1]].all())
    if not seen or not bool((first == times[..., :1]).all() and (last == times[..., -1:]).all()):
        raise ConfigError(
            "a classical rule needs an observed node at either end of the window; use IntegratedWiener or Matern, "
            "which reach beyond their nodes"
        )


@dataclass(frozen=True)
class Trapezoid:
    """The trapezoidal rule on any nodes. It has no prior, so no error bar: IntegratedWiener(0) is the same with one."""

    def at(self, times: Tensor, start: End = None, end: End = None, observed: Tensor | None = None) -> Quadrature:
        """The rule on nodes [..., N], N >= 2; see `Rule`."""
        check_covers(times, start, end, observed)
        return Quadrature(times, over_patterns(trapezoid_weights, times, observed), observed=observed)


@dataclass(frozen=True)
class Simpson:
    """The composite Simpson rule on any nodes, even or odd in number; on two it is the trapezoidal rule."""

    def at(self, times: Tensor, start: End = None, end: End = None, observed: Tensor | None = None) -> Quadrature:
        """The rule on nodes [..., N], N >= 2; see `Rule`."""
        check_covers(times, start, end, observed)
        return Quadrature(times, over_patterns(simpson_weights, times, observed), observed=observed)


def trapezoid_weights(times: Tensor) -> Tensor:  # [..., N] -> [..., N]
    """Half the step on either side."""
    half = 0.5 * times.diff(dim=-1)
    pad = torch.nn.functional.pad
    return pad(half, (0, 1)) + pad(half, (1, 0))


def simpson_weights(times: Tensor) -> Tensor:  # [..., N] -> [..., N]
    """Parabolas over pairs of steps; a step that is left over is closed with the last four nodes."""
    count = times.shape[-1]
    if count == 2:
        return trapezoid_weights(times)
    weights = torch.zeros_like(times)
    paired = count - 1 - (count - 1) % 2
    steps = times.diff(dim=-1)
    left, right = steps[..., 0:paired:2], steps[..., 1:paired:2]
    width = left + right
    weights[..., 0:paired:2] += width / 6.0 * (2.0 - right / left)
    weights[..., 1 : paired + 1 : 2] += width**3 / (6.0 * left * right)
    weights[..., 2 : paired + 1 : 2] += width / 6.0 * (2.0 - left / right)
    if paired < count - 1:
        weights[..., -4:] += last_step(times[..., -4:])
    return weights


def last_step(times: Tensor) -> Tensor:  # [..., 4] -> [..., 4]
    """Weights of the interpolating polynomial's integral over its last step."""
    step = times[..., -1:] - times[..., -2:-1]
    scaled = (times - times[..., -2:-1]) / step  # the step becomes [0, 1]
    powers = torch.arange(times.shape[-1], dtype=times.dtype, device=times.device)
    moments = (1.0 / (powers + 1.0)).expand(*times.shape[:-1], -1)
    found: Tensor = torch.linalg.solve(scaled.unsqueeze(-2) ** powers.unsqueeze(-1), moments)
    return step * found


def gauss_legendre(count: int, start: float = 0.0, end: float = 1.0) -> Quadrature:
    """The Gauss-Legendre rule with `count` nodes in (start, end), float64."""
    check_free(count, 1, start, end)
    nodes, weights = np.polynomial.legendre.leggauss(count)
    half = 0.5 * (end - start)
    return Quadrature(torch.from_numpy(start + half * (nodes + 1.0)), torch.from_numpy(half * weights))


def clenshaw_curtis(count: int, start: float = 0.0, end: float = 1.0) -> Quadrature:
    """The Clenshaw-Curtis rule with `count` nodes in [start, end], ends included, float64."""
    check_free(count, 2, start, end)
    n = count - 1
    angles = np.pi * np.arange(count) / n
    even = np.arange(0, count, 2)
    moments = 2.0 / (1.0 - even**2.0)  # integral of cos(k theta) sin(theta)
    ends = np.where((even == 0) | (even == n), 0.5, 1.0)
    weights = 2.0 / n * np.cos(np.outer(angles, even)) @ (ends * moments)
    weights[[0, -1]] *= 0.5
    half = 0.5 * (end - start)
    nodes = np.sin(0.5 * np.pi * (2.0 * np.arange(count) - n) / n)  # -cos(angles), exactly odd about the middle
    return Quadrature(torch.from_numpy(start + half * (nodes + 1.0)), torch.from_numpy(half * weights))


def check_free(count: int, least: int, start: float, end: float) -> None:
    """Raise unless a rule with nodes of its own has enough of them and a window."""
    check_integer("the number of nodes", count)
    if count < least:
        raise ConfigError(f"the rule needs at least {least} nodes, got {count}")
    check_numbers("start and end", start, end)
    if not end > start:
        raise ConfigError(f"end must lie after start, got [{start}, {end}]")
