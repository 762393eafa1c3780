"""Test functions xi: what the increments of the martingale must be orthogonal to, E sum_k xi_k delta_k = 0.

The choice decides in which sense a value function outside the family is approximated. Each is a linear operator on the
gradient of the value, so it is given twice: applied to gradients (`forward`, which linear solvers use), and to
increments (`adjoint`, sum_k xi_k delta_k = sum_k gradient_k adjoint(delta)_k: one backward pass for any network).
Source: Jia and Zhou, JMLR 23 (154), 2022, section 4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from rlcore.data import Trajectory
from rlcore.errors import ConfigError
from rlcore.functional.increments import per_step


class Instrument(Protocol):
    """A test function: a linear, adapted operator, so that xi_k depends on the path up to t_k only."""

    def forward(self, gradient: Tensor, batch: Trajectory) -> Tensor: ...  # [K, B, p] -> [K, B, p]

    def adjoint(self, delta: Tensor, batch: Trajectory) -> Tensor: ...  # [K, B] -> [K, B]


@dataclass(frozen=True)
class Gradient:
    """xi = dJ/dtheta: CTD(0), CLSTD(0)."""

    def forward(self, gradient: Tensor, batch: Trajectory) -> Tensor:
        return gradient

    def adjoint(self, delta: Tensor, batch: Trajectory) -> Tensor:
        return delta


GRADIENT = Gradient()


@dataclass(frozen=True)
class Trace:
    """xi_t = int_0^t lambda^(t-s) dJ/dtheta ds: CTD(lambda), CLSTD(lambda).

    On a grid xi_k = lambda^dt xi_{k-1} + dJ/dtheta_k dt: lambda is per second, so halving dt changes little.
    """

    decay: float = 0.5
    """lambda, what is left of a gradient after one second, in (0, 1]."""

    def __post_init__(self) -> None:
        if not 0.0 < self.decay <= 1.0:
            raise ConfigError(f"decay must lie in (0, 1], got {self.decay}; Gradient() is the limit 0")

    def factor(self, batch: Trajectory) -> Tensor:  # -> [K]
        """lambda^dt of the step before each; the first is 0."""
        factor = self.decay**batch.dt
        return torch.cat([torch.zeros_like(factor[:1]), factor[:-1]])

    def forward(self, gradient: Tensor, batch: Trajectory) -> Tensor:
        factor, scaled = self.factor(batch).to(gradient.dtype), gradient * per_step(batch.dt, gradient)
        return torch.stack(accumulate(factor, scaled))

    def adjoint(self, delta: Tensor, batch: Trajectory) -> Tensor:
        factor = self.factor(batch).to(delta.dtype)
        back = torch.cat([torch.zeros_like(factor[:1]), factor[1:].flip(0)])
        return torch.stack(accumulate(back, delta.flip(0))).flip(0) * per_step(batch.dt, delta)


def accumulate(factor: Tensor, terms: Tensor) -> list[Tensor]:  # [K], [K, ...] -> K of [...]
    """y_k = factor_k y_{k-1} + terms_k."""
    state = torch.zeros_like(terms[0])
    found = []
    for f, term in zip(factor.unbind(), terms.unbind(), strict=True):
        state = f * state + term
        found.append(state)
    return found


@dataclass(frozen=True)
class Weighted:
    """xi = w(x) times another test function; a bounded weight keeps xi square-integrable under heavy-tailed data."""

    weight: Callable[[Tensor], Tensor]  # [..., d] -> [...]
    inner: Instrument = GRADIENT

    def forward(self, gradient: Tensor, batch: Trajectory) -> Tensor:
        return self.inner.forward(gradient, batch) * self.weight(batch.obs[:-1]).unsqueeze(-1)

    def adjoint(self, delta: Tensor, batch: Trajectory) -> Tensor:
        return self.inner.adjoint(delta * self.weight(batch.obs[:-1]), batch)


@dataclass(frozen=True)
class Given:
    """xi = f(x), functions of the user's own, whatever the value function; only linear solvers take it.

    More functions than unknowns make the problem overdetermined, which is `Gmm`'s.
    """

    functions: Callable[[Tensor], Tensor]  # [..., d] -> [..., p]

    def forward(self, gradient: Tensor, batch: Trajectory) -> Tensor:
        return self.functions(batch.obs[:-1]).to(gradient.dtype)

    def adjoint(self, delta: Tensor, batch: Trajectory) -> Tensor:
        raise ConfigError("Given test functions do not follow the gradient; solve with Clstd or Gmm instead")


def bounded(strength: float) -> Callable[[Tensor], Tensor]:
    """The weight (1 + c |x|^2)^-2, under which quadratic test functions are bounded."""

    def weight(x: Tensor) -> Tensor:  # [..., d] -> [...]
        return (1.0 + strength * (x**2).sum(-1)) ** -2

    return weight
