"""The converse HJB construction: choose the value, and get a problem whose optimum it is.

    f = (J - S + g R^-1 g' / 4) grad V,   q = grad V'S grad V,   J' = -J,   S >= 0
    saturated at lambda:   f = (J - S) grad V + lambda g ln cosh(D) / D,   D = R^-1 g'grad V / (2 lambda)

The HJB equation then holds identically, and along the optimal loop dV/dt = -grad V'S grad V - W(u*) <= 0. Any V > 0
with V(0) = 0, any dimension; the gradient comes from automatic differentiation.
Source: Nevistic and Primbs, "Constrained nonlinear optimal control: a converse HJB approach", Caltech CDS 96-021, 1996.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rlcore.envs.affine.problem import AffineProblem, Basis, Matrix, Rows, gradient
from rlcore.errors import ConfigError, ShapeError
from rlcore.functional.bases import StateMap
from rlcore.functional.saturation import log_cosh_ratio

PROBES = 64  # states at which what the user gives is checked


def converse(
    value: StateMap,
    input_gain: StateMap | Rows,
    control_weight: Rows,
    skew: StateMap | Rows,
    damping: StateMap | Rows,
    *,
    state_dim: int,
    saturation: float = math.inf,
    basis: Basis | None = None,
    value_gradient: StateMap | None = None,
) -> AffineProblem:
    """The problem whose optimal value is `value`, [B, n] -> [B].

    `input_gain` g [n, m], `skew` J and `damping` S [n, n] are matrices or functions [B, n] -> [B, ...] of the state.
    `value_gradient` is optional and only quickens what automatic differentiation finds. J, S and V are checked at
    states of the unit box; where S is not definite, q vanishes outside of 0 too.
    """
    n = state_dim
    g, J, S = (part if callable(part) else Matrix(part) for part in (input_gain, skew, damping))
    probe = 2.0 * torch.rand(PROBES, n, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 1.0
    m = check_parts(value, g(probe), J(probe), S(probe), probe)
    inverse = Matrix(torch.linalg.inv(torch.as_tensor(control_weight, dtype=torch.float64)).tolist())

    def slope_at(x: Tensor) -> Tensor:
        return gradient(value, x) if value_gradient is None else value_gradient(x)

    if not torch.allclose(slope_at(probe), gradient(value, probe), rtol=1e-9, atol=1e-9):
        raise ConfigError("value_gradient must be the gradient of value, but differs from it; leave it out")

    def f(x: Tensor) -> Tensor:
        slope, gain = slope_at(x), g(x)
        pull = 0.5 * torch.einsum("...nm,...n,mk->...k", gain, slope, inverse.like(x))
        push = 0.5 * pull if math.isinf(saturation) else saturation * log_cosh_ratio(pull / saturation)
        return torch.einsum("...ij,...j->...i", J(x) - S(x), slope) + torch.einsum("...nm,...m->...n", gain, push)

    def q(x: Tensor) -> Tensor:
        slope = slope_at(x)
        return torch.einsum("...i,...ij,...j->...", slope, S(x), slope)

    return AffineProblem(n, m, f, g, q, control_weight, value, saturation, basis, value_gradient)


def check_parts(value: StateMap, g: Tensor, J: Tensor, S: Tensor, probe: Tensor) -> int:
    """Raise unless V > 0 = V(0), J is skew and S positive semidefinite at the probes -> m."""
    n, levels = probe.shape[1], value(probe)
    for name, part, shape in (("value", levels, ()), ("skew", J, (n, n)), ("damping", S, (n, n))):
        if tuple(part.shape[1:]) != shape:
            raise ShapeError(f"{name} must give [B{''.join(f', {k}' for k in shape)}], got {list(part.shape)}")
    if g.ndim != 3 or g.shape[1] != n:
        raise ShapeError(f"input_gain must give [B, {n}, m], got {list(g.shape)}")
    lowest, at_zero = float(levels.min()), float(value(torch.zeros_like(probe[:1])))
    if not lowest > 0.0 or not abs(at_zero) <= 1e-12:
        raise ConfigError(f"value must be positive and 0 at 0, got {lowest:.3g} and, at 0, {at_zero:.3g}; shift it")
    if not bool(((J + J.mT).abs() <= 1e-12 * (1.0 + J.abs())).all()):
        raise ConfigError("skew must be minus its transpose everywhere; use (J - J') / 2")
    lowest = float(torch.linalg.eigvalsh(0.5 * (S + S.mT)).min())
    if not lowest >= -1e-12:
        raise ConfigError(f"damping must be positive semidefinite everywhere, got an eigenvalue {lowest:.3g}")
    return g.shape[2]
