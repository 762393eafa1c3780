"""Features of the state in which a value is linear, V(x) = phi(x)'w, with their derivatives.

    grad V(x) = (d phi / dx)' w

Monomials have both written out; any other function of the state gets them by automatic differentiation. A state is
[..., n], each by itself; weights are [L..., p], and their leading dimensions are the first ones of the state.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from rlcore.errors import ConfigError, ShapeError

StateMap = Callable[[Tensor], Tensor]  # [..., n] -> [..., *], each row by itself


class Basis(Protocol):
    """phi with what differentiates it."""

    def __call__(self, x: Tensor) -> Tensor:  # [..., n] -> [..., p]
        """phi(x)."""
        ...

    def jacobian(self, x: Tensor) -> Tensor:  # [..., n] -> [..., p, n]
        """d phi / dx."""
        ...

    def gradient(self, x: Tensor, weights: Tensor) -> Tensor:  # [L..., *, n], [L..., p] -> [L..., *, n]
        """grad V."""
        ...


def beside(parameter: Tensor, x: Tensor, own: int = 1) -> Tensor:
    """A parameter [L..., *own] of each problem beside states [L..., *, n]: ones between L and its own dimensions."""
    lead = parameter.ndim - own
    return parameter.reshape(*parameter.shape[:lead], *[1] * max(0, x.ndim - 1 - lead), *parameter.shape[lead:])


class Monomials:
    """x_1^a_1 x_2^a_2 ... for each tuple of powers, with derivatives written out."""

    def __init__(self, *powers: tuple[int, ...]) -> None:
        if not powers or len({len(power) for power in powers}) != 1 or min(map(min, powers)) < 0:
            raise ConfigError(f"powers must be tuples of one length, none of them negative, got {powers}")
        self.powers = powers

    def __call__(self, x: Tensor) -> Tensor:  # [..., n] -> [..., p]
        columns = self.columns(x)
        return torch.stack([product(columns, power) for power in self.powers], dim=-1)

    def jacobian(self, x: Tensor) -> Tensor:  # [..., n] -> [..., p, n]
        columns = self.columns(x)
        rows = [torch.stack([slope(columns, power, k) for k in range(len(power))], -1) for power in self.powers]
        return torch.stack(rows, dim=-2)

    def columns(self, x: Tensor) -> tuple[Tensor, ...]:
        """The components of the state, if there are as many as powers."""
        if x.ndim == 0 or x.shape[-1] != len(self.powers[0]):
            raise ShapeError(f"states must be [..., {len(self.powers[0])}] for this basis, got {list(x.shape)}")
        return x.unbind(-1)

    def gradient(self, x: Tensor, weights: Tensor) -> Tensor:
        return torch.einsum("...pn,...p->...n", self.jacobian(x), beside(weights, x))


def quadratic(state_dim: int) -> Monomials:
    """x_i x_j with i <= j, in the order of the upper triangle: n (n + 1) / 2 features, none twice."""
    pairs = ((i, j) for i in range(state_dim) for j in range(i, state_dim))
    return Monomials(*(tuple((k == i) + (k == j) for k in range(state_dim)) for i, j in pairs))


class Features:
    """Any function of the state as a basis; derivatives by automatic differentiation."""

    def __init__(self, function: StateMap) -> None:
        self.function = function

    def __call__(self, x: Tensor) -> Tensor:
        return self.function(x)

    def jacobian(self, x: Tensor) -> Tensor:
        value, pull = torch.func.vjp(self.function, x)[:2]
        eye = torch.eye(value.shape[-1], dtype=value.dtype, device=value.device)
        directions = eye.reshape(len(eye), *[1] * (value.ndim - 1), len(eye)).expand(len(eye), *value.shape)
        (rows,) = torch.func.vmap(pull)(directions)  # [p, ..., n]
        return rows.movedim(0, -2)  # type: ignore[no-any-return]

    def gradient(self, x: Tensor, weights: Tensor) -> Tensor:
        value, pull = torch.func.vjp(self.function, x)[:2]
        return pull(beside(weights, x).expand_as(value))[0]  # type: ignore[no-any-return]


def curvature(basis: Basis, state_dim: int, step: float = 1e-4) -> Tensor:  # -> [p, n, n]
    """Second derivatives of the features at x = 0, float64, by central differences of their Jacobian."""
    ends = step * torch.eye(state_dim, dtype=torch.float64)
    slopes = basis.jacobian(torch.cat([ends, -ends]))  # [2 n, p, n]
    bend = (slopes[:state_dim] - slopes[state_dim:]).movedim(0, -1) / (2.0 * step)
    return 0.5 * (bend + bend.mT)


def symmetric(weights: Tensor) -> Tensor:  # [..., n (n + 1) / 2] -> [..., n, n]
    """P of x'P x = phi'w in the basis `quadratic`."""
    n = (math.isqrt(8 * weights.shape[-1] + 1) - 1) // 2
    i, j = torch.triu_indices(n, n, device=weights.device)
    p = weights.new_zeros(*weights.shape[:-1], n, n)
    p[..., i, j] = 0.5 * weights
    return p + p.mT


def half_vector(p: Tensor) -> Tensor:  # [..., n, n] -> [..., n (n + 1) / 2]
    """The inverse of `symmetric`."""
    n = p.shape[-1]
    i, j = torch.triu_indices(n, n, device=p.device)
    doubled: Tensor = (p + p.mT)[..., i, j] * torch.where(i == j, 0.5, 1.0).to(p)
    return doubled


def product(columns: tuple[Tensor, ...], power: tuple[int, ...]) -> Tensor:
    """One monomial [...], by multiplications."""
    factors = [column for column, times in zip(columns, power, strict=True) for _ in range(times)]
    return math.prod(factors[1:], start=factors[0]) if factors else torch.ones_like(columns[0])


def slope(columns: tuple[Tensor, ...], power: tuple[int, ...], k: int) -> Tensor:
    """Its derivative in the direction of x_k."""
    if power[k] == 0:
        return torch.zeros_like(columns[0])
    lower = tuple(times - (i == k) for i, times in enumerate(power))
    return power[k] * product(columns, lower)
