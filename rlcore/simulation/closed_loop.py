"""Paths of a closed loop to rounding, at any times: the feedback acts at every instant, not once per control interval.

    linear, u = -K x:   x(t) = exp((A - B K) t) x(0)
    smooth:             x(t) = x(0) + int_0^t F(x) ds,   F(x) = velocity(x, u(x))

A smooth loop is solved panel by panel: F is a polynomial through Gauss nodes, found by Picard's iteration, and its
integral gives the state at every time of the panel. This is the Gauss-Legendre Runge-Kutta method of order 2 S, with S
= 20. A panel is halved until the iteration converges and the last Legendre coefficients of F have died away.
Source: Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I, 1993, section II.7; Clenshaw and Norton,
Computer Journal 6, 1963, for Picard's iteration in orthogonal polynomials.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlcore.checks import check_positive, check_tensors
from rlcore.errors import ConfigError, ShapeError
from rlcore.functional.linear_flow import matrix_exponential
from rlcore.simulation.policy import Policy

Array = NDArray[np.float64]

STAGES = 20
SWEEPS = 60
"""Picard iterations before a panel counts as too long."""
SHORTEST = 1e-4
"""Panels are not halved below this share of the first one: a kink of F is passed in so short a step, with an error of
its square; a path whose iteration does not settle there has no finite continuation."""
LARGEST = 1e9
"""A path with a component beyond this has left for infinity; its later states are nan."""


class Paths(Protocol):
    """How a system moves under a policy."""

    def at(self, policy: Policy, start: Tensor, times: Tensor) -> Tensor:  # [..., n], [T] s -> [..., T, n]
        """States at rising times, none of them before 0, the time of `start`; nan from where a path is lost."""
        ...


class LinearPaths:
    """dx = (A x + B u) dt, [..., n, n] and [..., n, m], under policies that are linear in the state.

    The gain is read off from the policy's actions at unit vectors. Starts are [L..., S, n] with S states for each
    system or policy of the leading dimensions.
    """

    def __init__(self, a: Tensor, b: Tensor) -> None:
        check_tensors(a=a, b=b)
        if a.ndim < 2 or b.ndim < 2 or not a.shape[-2] == a.shape[-1] == b.shape[-2] or a.dtype != b.dtype:
            raise ShapeError(f"need A [..., n, n] and B [..., n, m] of one dtype, got {list(a.shape)}, {list(b.shape)}")
        self.a, self.b = a, b

    def at(self, policy: Policy, start: Tensor, times: Tensor) -> Tensor:
        n = self.a.shape[-1]
        if start.shape[-1] != n or start.dtype != self.a.dtype:
            raise ShapeError(
                f"starts must be {self.a.dtype} [..., S, {n}] like A, got {start.dtype} {list(start.shape)}"
            )
        unit = torch.eye(n, dtype=start.dtype, device=start.device).expand(*start.shape[:-2], n, n)
        rows = policy.act(unit)  # -K' [..., n, m]
        if not torch.allclose(policy.act(-2.0 * unit), -2.0 * rows, rtol=1e-9, atol=1e-9, equal_nan=True):
            raise ConfigError("the policy must be linear in the state for LinearPaths; use SmoothPaths")
        closed = self.a + self.b @ rows.mT  # [..., n, n]
        flow = matrix_exponential(closed.unsqueeze(-3) * times.to(closed)[:, None, None])  # [..., T, n, n]
        return torch.einsum("...tij,...sj->...sti", flow, start)


class SmoothPaths:
    """dx = velocity(x, u) dt; the velocity takes [..., n] and [..., m], each row by itself, and is continuous.

    `panel` is the first step [s], `tolerance` the error of a step beside the size of its states.
    """

    def __init__(
        self, velocity: Callable[[Tensor, Tensor], Tensor], *, panel: float = 0.25, tolerance: float = 1e-14
    ) -> None:
        check_positive("panel", panel, "s")
        check_positive("tolerance", tolerance)
        self.velocity, self.panel, self.tolerance = velocity, panel, tolerance

    def at(self, policy: Policy, start: Tensor, times: Tensor) -> Tensor:
        clock = times.double().cpu().numpy()
        found = [start.new_zeros(*start.shape[:-1], 0, start.shape[-1])]
        now, width, done, x = 0.0, self.panel, 0, start
        while done < len(clock):
            width = min(width, max(float(clock[-1]) - now, 1e-12))
            lost = ~(torch.isfinite(x) & (x.abs() <= LARGEST)).all(-1)  # [...]
            slopes, settled, smooth, sweeps = self.solve(policy, torch.where(lost.unsqueeze(-1), 0.0, x), width)
            if width > SHORTEST * self.panel and not bool((settled & smooth | lost).all()):
                width *= 0.5
                continue
            lost = lost | ~settled
            inside = int(np.searchsorted(clock, now + width * (1.0 + 1e-12), side="right"))
            shares = np.append(np.clip((clock[done:inside] - now) / width, 0.0, 1.0), 1.0)
            moves = torch.as_tensor(width * integrals(shares), dtype=x.dtype, device=x.device) @ slopes
            states = torch.where(lost[..., None, None], torch.nan, x.unsqueeze(-2) + moves)
            found.append(states[..., :-1, :])
            x, now, done = states[..., -1, :], now + width, inside
            if sweeps < SWEEPS // 4:
                width *= 2.0
        return torch.cat(found, dim=-2)

    def solve(self, policy: Policy, x: Tensor, width: float) -> tuple[Tensor, Tensor, Tensor, int]:
        """F at the Gauss nodes of a panel [..., S, n]; whether the sweeps settled and resolved F [...]; how many."""
        nodes, _ = gauss()
        tolerance = max(self.tolerance, 8.0 * torch.finfo(x.dtype).eps)
        inside = torch.as_tensor(width * integrals(nodes), dtype=x.dtype, device=x.device)  # [S, S]
        spectrum = torch.as_tensor(legendre_transform(), dtype=x.dtype, device=x.device)  # [S, S]
        states = x.unsqueeze(-2).expand(*x.shape[:-1], STAGES, x.shape[-1])
        sweeps = 0
        while sweeps < SWEEPS:
            sweeps += 1
            slopes = self.velocity(states, policy.act(states))
            if slopes.shape != states.shape:
                raise ShapeError(f"velocity must give {list(states.shape)}, as the states, got {list(slopes.shape)}")
            after = x.unsqueeze(-2) + inside @ slopes
            size = after.abs().amax((-2, -1))
            settled = (after - states).abs().amax((-2, -1)) <= tolerance * size
            states = after
            if bool((settled | ~(size <= 10.0 * LARGEST)).all()):
                break
        coefficients = (spectrum @ slopes).abs().amax(-1)  # [..., S]
        tail = coefficients[..., -2:].amax(-1) * width <= 10.0 * tolerance * size
        return slopes, settled, tail, sweeps


@lru_cache(maxsize=1)
def gauss() -> tuple[Array, Array]:
    """Nodes in (0, 1) and weights."""
    nodes, weights = np.polynomial.legendre.leggauss(STAGES)
    return 0.5 * (nodes + 1.0), 0.5 * weights


@lru_cache(maxsize=1)
def legendre_transform() -> Array:
    """Values at the Gauss nodes -> Legendre coefficients, [S, S]."""
    nodes, weights = gauss()
    degrees = 2.0 * np.arange(STAGES) + 1.0
    values = np.polynomial.legendre.legvander(2.0 * nodes - 1.0, STAGES - 1)
    return np.asarray((values * weights[:, None] * degrees).T)


def integrals(ends: Array) -> Array:  # [T] in [0, 1] -> [T, S]
    """Integral from 0 to each end of the polynomial through given values at the Gauss nodes."""
    degrees = 2.0 * np.arange(STAGES) + 1.0
    values = np.polynomial.legendre.legvander(2.0 * ends - 1.0, STAGES)  # P_0 ... P_S
    whole = np.empty((len(ends), STAGES))
    whole[:, 0] = ends
    whole[:, 1:] = 0.5 * (values[:, 2:] - values[:, :-2]) / degrees[1:]
    return np.asarray(whole @ legendre_transform())
