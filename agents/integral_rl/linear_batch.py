"""Integral RL for thousands of linear-quadratic problems at once, each with a bound on its own error.

    PEV   x(0)'P_i x(0) - x(T)'P_i x(T) = sum_k w_k x_k'(Q + K_i'R K_i) x_k       for a basis of starts x(0)
    PIM   K_{i+1} = R^-1 B'P_i

The plants stay outside: a function of the gains that returns sampled states, so the drift is unknown. One step is a
fixed sequence of batched operations without a look at a number, which a GPU runs without waiting for the CPU.

What is left at the end. With E the error of the last evaluation and d = |P_i - P_{i-1}|, Newton's step on the Riccati
equation gives

    P_i - P* = int_0^inf e^{A_i't} D'R D e^{A_i t} dt + E,   D = R^-1 B'(P_{i-1} - P*),   A_i = A - B K_i
    |P_i - P*| <= |E| + kappa (|P_i - P*| + d)^2,   kappa = |R^-1/2 B'|^2 tr int_0^inf e^{A_i't} e^{A_i t} dt

and the last integral is the value of the cost rate |x|^2, which the same windows tell. All norms are Frobenius'.
Source: Cao and Pan, ICLR 2024, theorem 1, for Newton's method with an error; the identity is Kleinman's, 1968.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from rlcore.checks import check_shape, check_tensors
from rlcore.errors import ConfigError, ShapeError
from rlcore.functional.bases import quadratic, symmetric
from rlcore.functional.least_squares import LeastSquares, least_squares
from rlcore.functional.quadrature import Quadrature

Plant = Callable[[Tensor], Tensor]  # gains [P, m, n] -> states at the nodes [P, N, S, n] under u = -K x
ROUNDINGS = 32.0
"""Relative rounding error of a window's equation, in units of the dtype's epsilon."""


class Iterate(NamedTuple):
    """Where policy iteration stands in every problem."""

    value: Tensor  # P_i [P, n, n]
    former: Tensor  # P_{i-1} [P, n, n]
    states: Tensor  # [P, N, S, n] under K_i, the policy that P_i is the value of
    gain: Tensor  # K_i [P, m, n]
    fit: LeastSquares


class ErrorBound(NamedTuple):
    """How far the result may be from the optimum, problem by problem; inf where no bound holds."""

    evaluation: Tensor  # of |E| [P]
    value: Tensor  # of |P_i - P*| [P]
    gain: Tensor  # of |K_{i+1} - K*| [P]


@dataclass(frozen=True, eq=False)
class LinearBatch:
    """What is known of a batch of problems: input gain, cost and the quadrature rule of the windows."""

    b: Tensor  # [P, n, m]
    q: Tensor  # [P, n, n]
    r: Tensor  # [P, m, m]
    quadrature: Quadrature  # on nodes [N]

    def __post_init__(self) -> None:
        check_tensors(b=self.b, q=self.q, r=self.r)
        sizes = self.b.shape if self.b.ndim == 3 and self.b.is_floating_point() else (-1, -1, -1)
        p, n, m = sizes
        if self.q.shape != (p, n, n) or self.r.shape != (p, m, m) or not self.b.dtype == self.q.dtype == self.r.dtype:
            raise ShapeError(
                f"need B [P, n, m], Q [P, n, n] and R [P, m, m] of one dtype, got {list(self.b.shape)}, "
                f"{list(self.q.shape)} and {list(self.r.shape)}"
            )
        if not bool((torch.linalg.eigvalsh(self.r)[:, 0] > 0.0).all()):
            raise ConfigError("R must be positive definite in every problem: every action must cost something")

    def run(self, plant: Plant, gain: Tensor, steps: int) -> Iterate:
        """`steps` policy iterations from stabilising gains [P, m, n]; no step depends on a number."""
        if steps < 2:
            raise ConfigError(f"need at least 2 steps, to see the last change, got {steps}")
        check_shape("gain", gain, tuple(self.b.mT.shape))
        inverse = torch.linalg.inv(self.r) @ self.b.mT  # R^-1 B'
        value = torch.zeros_like(self.q)
        for _ in range(steps):
            former = value
            states = plant(gain)
            fit = self.evaluate(states, self.q + gain.mT @ self.r @ gain)
            value = symmetric(fit.solution)
            last, gain = gain, inverse @ value
        return Iterate(value, former, states, last, fit)

    def evaluate(self, states: Tensor, rate: Tensor) -> LeastSquares:  # [P, N, S, n], [P, n, n]
        """The value of the cost rate x'M x along the windows, as weights of `quadratic(n)`."""
        (p, n), nodes = self.b.shape[:2], self.quadrature.weights.shape[-1]
        if states.ndim != 4 or (*states.shape[:2], states.shape[3]) != (p, nodes, n):
            raise ShapeError(f"the plant must give states [{p}, {nodes}, S, {n}], got {list(states.shape)}")
        spent = torch.einsum("pks,k->ps", forms(states, rate), self.quadrature.weights)
        basis = quadratic(states.shape[-1])
        return least_squares(basis(states[:, 0]) - basis(states[:, -1]), spent)

    def bound(self, found: Iterate, inflation: float = 2.0) -> ErrorBound:
        """The error bound; `inflation` multiplies the standard deviation of every window.

        It is inf where the iteration diverged, or has not come near enough to its end for the quadratic to have a root.
        """
        rate = self.q + found.gain.mT @ self.r @ found.gain
        cost = forms(found.states, rate).mT  # [P, S, N]
        finite = torch.isfinite(cost).all(-1).all(-1)[:, None, None]
        cost = torch.where(finite, cost, 1.0)
        deviation = inflation * self.quadrature.deviation(cost)
        basis, size = quadratic(self.q.shape[-1]), found.fit.solution.abs().unsqueeze(1)
        ends = ((basis(found.states[:, 0]).abs() + basis(found.states[:, -1]).abs()) * size).sum(-1)
        rounding = (
            ROUNDINGS * torch.finfo(cost.dtype).eps * (ends + (cost.abs() * self.quadrature.weights.abs()).sum(-1))
        )
        weights = (found.fit.pseudo_inverse.abs() @ (deviation + rounding).unsqueeze(-1)).squeeze(-1)
        error = symmetric(weights)  # |E|, entry by entry
        epsilon = torch.linalg.matrix_norm(error)
        unit = torch.eye(self.q.shape[-1], dtype=rate.dtype, device=rate.device).expand_as(rate)
        spread = symmetric(self.evaluate(found.states, unit).solution)  # int e^{A't} e^{At} dt
        loop = torch.where(finite, spread, unit)
        fine = finite.flatten() & (torch.linalg.eigvalsh(loop)[:, 0] > 0.0)  # otherwise A_i is not stable
        push = torch.linalg.solve_triangular(torch.linalg.cholesky(self.r), self.b.mT, upper=False)  # R^-1/2 B'
        kappa = torch.linalg.matrix_norm(push).square() * spread.diagonal(dim1=-2, dim2=-1).sum(-1)
        change = torch.linalg.matrix_norm(found.value - found.former)
        value = torch.where(fine, smaller_root(kappa, change, epsilon), torch.inf)
        gain = torch.linalg.matrix_norm(torch.linalg.inv(self.r) @ self.b.mT, ord=2) * value
        return ErrorBound(epsilon, value, gain)


def smaller_root(kappa: Tensor, change: Tensor, epsilon: Tensor) -> Tensor:
    """The smaller e with e = epsilon + kappa (e + change)^2; inf where there is none."""
    middle = 1.0 - 2.0 * kappa * change
    discriminant = middle.square() - 4.0 * kappa * (epsilon + kappa * change.square())
    fine = (discriminant >= 0.0) & (middle > 0.0) & (kappa > 0.0)  # none of them where a nan came in
    root = 2.0 * (epsilon + kappa * change.square()) / (middle + discriminant.clamp(min=0.0).sqrt())
    return torch.where(fine, root, torch.inf)


def forms(states: Tensor, rate: Tensor) -> Tensor:  # [P, N, S, n], [P, n, n] -> [P, N, S]
    """x'M x at every node."""
    columns = states.movedim(-1, 1).flatten(2)  # [P, n, N S]
    return (columns * (rate @ columns)).sum(1).reshape(states.shape[:3])


def starts(state_dim: int, *, device: str | torch.device = "cpu") -> Tensor:  # -> [n (n + 1) / 2, n]
    """Initial states whose quadratic features are independent: e_i, and e_i + e_j; float64."""
    unit = torch.eye(state_dim, dtype=torch.float64, device=device)
    i, j = torch.triu_indices(state_dim, state_dim)
    return torch.where((i == j).to(unit.device)[:, None], unit[i], unit[i] + unit[j])
