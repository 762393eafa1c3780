"""Control-affine problems as functions, and what follows from them: gradient, optimal action, HJB residual.

    dx = (f(x) + g(x) u) dt,   cost rate q(x) + W(u),   V*(x) = least cost from x over an infinite time, undiscounted
    W(u) = u'R u:         u* = -R^-1 g'grad V / 2,    grad V'f + q - grad V'g R^-1 g'grad V / 4 = 0
    |u| <= lambda:        u* = -lambda tanh D,        grad V'f + q - 2 lambda^2 sum_i R_i ln cosh D_i = 0
                          D = R^-1 g'grad V / (2 lambda), W as in `rlcore.functional.saturation`

Source: Cao and Pan, ICLR 2024; Abu-Khalaf and Lewis, Automatica 41, 2005, for inputs that saturate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rlcore.errors import ConfigError, ShapeError
from rlcore.functional.bases import Features, Monomials, StateMap
from rlcore.functional.saturation import log_cosh, saturated_action, saturated_cost

Rows = Sequence[Sequence[float]]


class Matrix:
    """A constant matrix, at hand in the dtype and on the device of any tensor; called, it is a map of the state."""

    def __init__(self, rows: Rows) -> None:
        self.rows = torch.as_tensor(rows, dtype=torch.float64)
        self._at: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def like(self, x: Tensor) -> Tensor:
        """The matrix beside x."""
        key = (x.dtype, x.device)
        if key not in self._at:
            self._at[key] = self.rows.to(x)
        return self._at[key]

    def __call__(self, x: Tensor) -> Tensor:  # [B, n] -> [B, *]
        found = self.like(x)
        return found.expand(*x.shape[:-1], *found.shape)


@dataclass(frozen=True, eq=False)
class Basis:
    """Features in which V* is a linear combination."""

    features: Features | Monomials  # [B, n] -> [B, p]
    optimal: tuple[float, ...]
    """The weights of V*, [p]."""
    admissible: tuple[float, ...]
    """Weights of a value whose best policy has a finite cost: where policy iteration may start."""


@dataclass(frozen=True, eq=False)
class AffineProblem:
    """The functions of a control-affine problem; every one takes a batch of states [B, n], each row by itself."""

    state_dim: int
    action_dim: int
    f: StateMap
    """What the state does without control, per second [B, n]; 0 at x = 0."""
    g: StateMap
    """How the action acts [B, n, m]."""
    q: StateMap
    """Cost rate of the state [B]; positive, and 0 at x = 0."""
    R: Rows
    """Weight of the action [m, m], positive definite; diagonal where the input saturates."""
    value: StateMap
    """V* [B]."""
    saturation: float = math.inf
    """lambda, the largest action of each component; inf for none."""
    basis: Basis | None = None
    value_gradient: StateMap | None = None
    """grad V* [B, n] written out, which is quicker; None takes it by automatic differentiation."""
    weight: Matrix = field(init=False)
    inverse: Matrix = field(init=False)
    """R^-1."""

    def __post_init__(self) -> None:
        R, m = torch.as_tensor(self.R, dtype=torch.float64), self.action_dim
        if tuple(R.shape) != (m, m):
            raise ShapeError(f"R must have shape [{m}, {m}], got {list(R.shape)}; it weighs the {m} actions")
        if not torch.equal(R, R.T) or not bool((torch.linalg.eigvalsh(R) > 0.0).all()):
            raise ConfigError(f"R must be symmetric and positive definite, got {R.tolist()}")
        if not self.saturation > 0.0:
            raise ConfigError(f"saturation must be positive, got {self.saturation}; inf means none")
        if math.isfinite(self.saturation) and not torch.equal(R, torch.diag(R.diagonal())):
            raise ConfigError(f"R must be diagonal where the input saturates, got {R.tolist()}")
        object.__setattr__(self, "weight", Matrix(R.tolist()))
        object.__setattr__(self, "inverse", Matrix(torch.linalg.inv(R).tolist()))

    @property
    def saturates(self) -> bool:
        """Whether the action has a bound."""
        return math.isfinite(self.saturation)

    def slope(self, x: Tensor) -> Tensor:  # [B, n] -> [B, n]
        """grad V*."""
        return gradient(self.value, x) if self.value_gradient is None else self.value_gradient(x)

    def pull(self, x: Tensor, slope: Tensor) -> Tensor:  # [B, n], [B, n] -> [B, m]
        """R^-1 g'grad V / 2: minus the best action where the input does not saturate."""
        return 0.5 * torch.einsum("...nm,...n,mk->...k", self.g(x), slope, self.inverse.like(x))

    def best_action(self, x: Tensor, slope: Tensor) -> Tensor:  # -> [B, m]
        """The u that minimises grad V'g u + W(u), for any gradient of any V: one policy improvement."""
        pull = self.pull(x, slope)
        return saturated_action(pull / self.saturation, self.saturation) if self.saturates else -pull

    def action_cost(self, u: Tensor) -> Tensor:  # [B, m] -> [B]
        """W(u), per second."""
        weight = self.weight.like(u)
        if self.saturates:
            return saturated_cost(u, weight.diagonal(), self.saturation)
        return torch.einsum("...m,mk,...k->...", u, weight, u)

    def velocity(self, x: Tensor, u: Tensor) -> Tensor:  # [B, n], [B, m] -> [B, n]
        """f(x) + g(x) u, with u within its bound."""
        if self.saturates:
            u = u.clamp(-self.saturation, self.saturation)
        return self.f(x) + torch.einsum("...nm,...m->...n", self.g(x), u)

    def residual(self, x: Tensor) -> Tensor:  # [B, n] -> [B]
        """The left side of the HJB equation at V*, per second; 0 where V* is right."""
        slope = self.slope(x)
        pull = self.pull(x, slope)
        if self.saturates:
            gain = log_cosh(pull / self.saturation) * self.weight.like(x).diagonal()
            saved = 2.0 * self.saturation**2 * gain.sum(-1)
        else:
            saved = torch.einsum("...m,mk,...k->...", pull, self.weight.like(x), pull)
        return (slope * self.f(x)).sum(-1) + self.q(x) - saved


def gradient(function: StateMap, x: Tensor) -> Tensor:  # [B, n] -> [B, n]
    """The gradient of a function of the state in every row, by automatic differentiation."""
    found: Tensor = torch.func.grad(lambda states: function(states).sum())(x)
    return found
