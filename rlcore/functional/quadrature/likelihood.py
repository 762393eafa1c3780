"""The length scale that makes sampled windows most likely.

    log p(y | l, sigma best) = -1/2 [N log(y'K^-1 y / N) + log det K] + constant,   summed over windows

Every window has its own sigma, in closed form; the length scale is one for all, for otherwise the weights of a window
would depend on its values. The integrands of optimal control are far smoother than a Matern prior, so the likelihood
rises for long: hence the bound on l / T, beyond which the weights are those of a spline anyway.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from rlcore.checks import check_positive
from rlcore.errors import ConfigError
from rlcore.functional.quadrature.nodes import End, check_nodes
from rlcore.functional.quadrature.rules import Matern, SquaredExponential

Prior = TypeVar("Prior", Matern, SquaredExponential)


def fit_length_scale(
    rule: Prior,
    times: Tensor,
    values: Tensor,
    start: End = None,
    end: End = None,
    observed: Tensor | None = None,
    *,
    bounds: tuple[float, float] = (0.05, 1e3),
) -> Prior:
    """The rule with the length scale of greatest likelihood, to 0.1 %, between `bounds` times the longest window.

    Values [..., N] are windows at nodes [..., N]. Windows that are zero throughout say nothing and do not count.
    """
    if not isinstance(rule, Matern | SquaredExponential):
        raise ConfigError(
            f"rule must be a Matern or SquaredExponential, got {type(rule).__name__}: it has no length scale"
        )
    check_positive("the lower bound of l / T", bounds[0])
    if not bounds[0] < bounds[1] < math.inf:
        raise ConfigError(f"bounds must rise, got {bounds}; give them as multiples of the window, such as (0.05, 1e3)")
    first, last = check_nodes(times, start, end, observed)
    rank = max(times.ndim, values.ndim, 0 if observed is None else observed.ndim) - 1
    width = float((last - first).max())

    def likelihood(logarithms: Tensor) -> Tensor:  # [K] -> [K]
        scales = (width * logarithms.exp()).reshape(-1, *[1] * rank)
        quadrature = replace(rule, length_scale=scales).at(times, start, end, observed)
        counts = quadrature.energy(values) > 0.0
        if not bool(counts.any()):
            raise ConfigError("need values that are not all 0; give windows away from the equilibrium")
        return torch.where(counts, quadrature.log_likelihood(values), 0.0).reshape(len(scales), -1).sum(-1)

    low, high = math.log(bounds[0]), math.log(bounds[1])
    for count in (33, 9, 9, 9, 9):
        grid = torch.linspace(low, high, count, dtype=torch.float64, device=times.device)
        best = int(likelihood(grid).argmax())
        low, high = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, count - 1)])
    return replace(rule, length_scale=width * math.exp(float(grid[best])))
