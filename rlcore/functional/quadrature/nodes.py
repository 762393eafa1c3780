"""What a quadrature rule is asked, and what it answers: nodes in time, weights, and how far the answer may be off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from rlcore.checks import check_finite, check_real
from rlcore.errors import ConfigError, NumericsError, ShapeError

End = Tensor | float | None
"""An end of the window in seconds, a number or one for each window [...]; None: the outer node."""


@dataclass(frozen=True, eq=False)
class Quadrature:
    """A rule on given nodes: the integral of l over [start, end] is near sum_k w_k l(t_k).

    Leading dimensions are batches of windows or of length scales. The weights do not depend on the values, so one
    `Quadrature` serves every window with the same pattern of nodes: `values @ quadrature.weights`.
    """

    times: Tensor
    """Nodes [..., N], in seconds."""
    weights: Tensor
    """[..., N], in seconds; 0 at a node that was not observed."""
    variance: Tensor | None = None
    """Posterior variance of the integral [...], s^2, for a prior of unit scale; its root is the worst case over the
    unit ball of the kernel's Hilbert space. None for a rule without a prior."""
    squares: Callable[[Tensor], Tensor] | None = None
    """Values [..., N] -> y'K^-1 y [...], and its least value over the mean's coefficients where they are diffuse."""
    degrees: int | Tensor = 0
    """How many squares that sums [...]: the nodes observed, less the diffuse coefficients."""
    log_determinant: Tensor | None = None
    """log det of the covariance of the values [...] under the unit prior, without the diffuse part."""
    observed: Tensor | None = None
    """Which nodes have a value, bool [..., N]; None: all of them. What stands at the others is never read."""

    def integral(self, values: Tensor) -> Tensor:  # [..., N] -> [...]
        """The integral of the sampled function; raises `NumericsError` for a value that is not finite."""
        kept = self.kept(values)
        one = self.weights.ndim == 1 and kept.dtype == self.weights.dtype
        found = kept @ self.weights if one else (kept * self.weights).sum(-1)
        if not bool(torch.isfinite(found.detach()).all()):
            self.refuse(kept)
        return found

    def scale(self, values: Tensor) -> Tensor:  # [..., N] -> [...]
        """The scale sigma of the prior that makes the values most likely, sqrt(y'K^-1 y / N)."""
        return self.mean_energy(values).sqrt()

    def deviation(self, values: Tensor) -> Tensor:  # [..., N] -> [...]
        """Standard deviation of the integral, in the integral's own unit: sigma sqrt(variance)."""
        scale = self.scale(values)
        assert self.variance is not None  # a rule with a scale has a prior
        return scale * self.variance.sqrt()

    def log_likelihood(self, values: Tensor) -> Tensor:  # [..., N] -> [...]
        """Log density of the values under the prior of most likely scale, up to a constant."""
        energy = self.mean_energy(values)
        assert self.log_determinant is not None
        return -0.5 * (self.degrees * energy.log() + self.log_determinant)

    def mean_energy(self, values: Tensor) -> Tensor:  # [..., N] -> [...]
        """y'K^-1 y for each value beyond those that fix the mean; raises `ConfigError` where there is none."""
        energy = self.energy(values)
        if bool(((torch.as_tensor(self.degrees, device=energy.device) < 1) & torch.isfinite(energy.detach())).any()):
            raise ConfigError(
                "a scale needs more observed nodes than the prior has unknown coefficients; take a lower order or mean "
                "degree, or more nodes"
            )
        return energy / self.degrees

    def energy(self, values: Tensor) -> Tensor:  # [..., N] -> [...]
        """y'K^-1 y of a rule that has a prior."""
        if self.squares is None:
            raise ConfigError("this rule has no prior, so no error bar; use IntegratedWiener or Matern")
        kept = self.kept(values)
        if not bool(torch.isfinite(kept.detach()).all()):
            self.refuse(kept)
        return self.squares(kept)

    def kept(self, values: Tensor) -> Tensor:  # [..., N]
        """One value for each node that was observed, and 0 at the others."""
        count = self.weights.shape[-1]
        if not isinstance(values, Tensor) or values.ndim == 0 or values.shape[-1] != count:
            raise ShapeError(f"values must be a tensor [..., {count}], one for each node, got {describe(values)}")
        check_broadcast("values", values.shape, "the weights", self.weights.shape)
        return values if self.observed is None else torch.where(self.observed, values, 0.0)

    def refuse(self, values: Tensor) -> None:
        """Say which value is to blame for a result that is not finite."""
        for where in torch.nonzero(~torch.isfinite(values.detach())).tolist():
            raise NumericsError(
                f"the sampled values must be finite, got {values[tuple(where)].item()} at index {where}; mark the node "
                "as not observed or look for what diverged"
            )
        raise NumericsError("the sampled values are too large for their dtype; give them in a larger unit")


class Rule(Protocol):
    """A quadrature rule before it meets its nodes."""

    def at(self, times: Tensor, start: End = None, end: End = None, observed: Tensor | None = None) -> Quadrature:
        """The rule on nodes [..., N] over [start, end], by default between the outer nodes.

        `observed`, bool [..., N], leaves nodes out. Raises `ConfigError` for nodes out of order, repeated or too few.
        """
        ...


def check_nodes(
    times: Tensor, start: End, end: End, observed: Tensor | None = None, least: int = 2
) -> tuple[Tensor, Tensor]:
    """The two ends of the window [..., 1], by default the outer nodes.

    Raises unless the nodes rise strictly inside the window and at least `least` of them are observed.
    """
    if not isinstance(times, Tensor) or times.dtype not in (torch.float32, torch.float64) or times.ndim == 0:
        raise ShapeError(f"times must be a float32 or float64 tensor [..., N], got {describe(times)}; convert them")
    count = times.shape[-1]
    if count < least:
        raise ConfigError(f"the rule needs at least {least} nodes, got {count}; sample the window more often")
    check_finite("times", times)
    steps = times.diff(dim=-1)
    if not bool((steps > 0.0).all()):
        where = torch.nonzero(~(steps > 0.0))[0].tolist()
        raise ConfigError(
            f"times must rise strictly, got {float(times[(*where[:-1], where[-1])])} before "
            f"{float(times[(*where[:-1], where[-1] + 1)])} at index {where}; sort the nodes and drop the repeated ones"
        )
    first = times[..., :1] if start is None else column("start", start, times)
    last = times[..., -1:] if end is None else column("end", end, times)
    if bool((first > times[..., :1]).any()) or bool((last < times[..., -1:]).any()):
        raise ConfigError("start and end must enclose the nodes; widen the window or drop the nodes outside")
    if observed is not None:
        mask = isinstance(observed, Tensor) and observed.dtype == torch.bool and observed.ndim > 0
        if not mask or observed.shape[-1] != count:
            raise ShapeError(f"observed must be a bool tensor [..., {count}], got {describe(observed)}")
        check_broadcast("observed", observed.shape, "times", times.shape)
        fewest = int(observed.sum(-1).min())
        if fewest < least:
            raise ConfigError(f"the rule needs at least {least} observed nodes, got a window with {fewest}")
    return first, last


def column(name: str, value: Tensor | float, times: Tensor) -> Tensor:  # [...] -> [..., 1]
    """An end of the window beside the nodes."""
    if not isinstance(value, Tensor):
        check_real(name, value)
    found = torch.as_tensor(value, dtype=times.dtype, device=times.device).unsqueeze(-1)
    check_broadcast(name, found.shape, "times", times.shape)
    check_finite(name, found)
    return found


def check_broadcast(name: str, shape: tuple[int, ...], beside: str, other: tuple[int, ...]) -> None:
    """Raise unless the dimensions before the last one fit each other."""
    fits = all(1 in (a, b) or a == b for a, b in zip(shape[-2::-1], other[-2::-1], strict=False))
    if not fits:
        raise ShapeError(
            f"{name} {list(shape[:-1])} must fit {beside} {list(other[:-1])} in their leading dimensions; expand one "
            "of them, or give it a dimension of size 1"
        )


def describe(value: object) -> str:
    """Type and shape of what came, in one line."""
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def over_patterns(weigh: Callable[[Tensor], Tensor], times: Tensor, observed: Tensor | None) -> Tensor:
    """Weights [..., N] from a function of the observed nodes alone, called once for each pattern of `observed`."""
    if observed is None:
        return weigh(times)
    shape, count = np.broadcast_shapes(times.shape, observed.shape), times.shape[-1]
    times, observed = times.expand(shape), observed.expand(shape)
    patterns, which = torch.unique(observed.reshape(-1, count), dim=0, return_inverse=True)
    rows, weights = times.reshape(-1, count), times.new_zeros(which.shape[0], count)
    for i, pattern in enumerate(patterns):
        part = torch.zeros_like(rows[which == i])
        part[:, pattern] = weigh(rows[which == i][:, pattern])
        weights[which == i] = part
    return weights.reshape(times.shape)
