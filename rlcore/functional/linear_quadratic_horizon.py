"""Linear-quadratic control up to a finite time: the Riccati equations run backwards from the terminal cost.

With t the time, K, k, k0, G, S and l as in `rlcore.functional.linear_quadratic`:

    -dK/dt = -M + A'K + K A + sum_j C_j'K C_j + S'G^-1 S - beta K
    -dk/dt = -P + A'k + S'G^-1 l - beta k
    -dk0/dt = tr(sigma'K sigma) / 2 + l'G^-1 l / 2 + temperature log det(2 pi temperature G^-1) / 2 - beta k0

Source: Yong and Zhou, Stochastic Controls, 1999, chapter 6; Wang, Zariphopoulou and Zhou, JMLR 21(198), 2020.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.integrate
from numpy.typing import ArrayLike

from rlcore.checks import check_positive
from rlcore.errors import NumericsError, ShapeError
from rlcore.functional.linear_quadratic import Array, LqProblem, LqSolution, entropy_rate, greedy, precision


@dataclass(frozen=True, eq=False)
class FiniteHorizonSolution:
    """The optimal policy and value at every time t in [0, horizon]."""

    problem: LqProblem
    horizon: float  # s
    curve: Callable[[float], Array]  # time to go -> K, k and k0 in one vector

    def at(self, t: float) -> LqSolution:
        """Policy and value at time t [s]."""
        K, k, k0 = unpack(self.curve(self.horizon - t), len(self.problem.A))
        gain, offset, covariance = greedy(self.problem, K, k)
        return LqSolution(K, k, k0, gain, offset, covariance, math.nan)


def solve_finite_horizon(
    problem: LqProblem, terminal: ArrayLike, linear: ArrayLike, horizon: float
) -> FiniteHorizonSolution:
    """The optimum over [0, horizon] with terminal reward h(x) = -(x'H x / 2 + h1'x): terminal H [n, n], linear h1 [n].

    The Riccati equations run backwards in time, by an explicit rule of order 8.
    """
    check_positive("horizon", horizon, "s")
    n, beta = len(problem.A), problem.discount_rate
    H, h1 = np.asarray(terminal, dtype=np.float64), np.asarray(linear, dtype=np.float64)
    if H.shape != (n, n) or h1.shape != (n,):
        raise ShapeError(f"need terminal [{n}, {n}] and linear [{n}], got {list(H.shape)} and {list(h1.shape)}")

    def slope(_: float, packed: Array) -> Array:  # derivative in the time to go
        K, k, k0 = unpack(packed, n)
        G = precision(problem, K)
        gain, offset, covariance = greedy(problem, K, k)
        K_rate = -problem.M + problem.A.T @ K + K @ problem.A - beta * K + gain.T @ G @ gain
        K_rate += np.einsum("jkn,kl,jlm->nm", problem.C, K, problem.C)
        k_rate = -problem.P + problem.A.T @ k - beta * k + gain.T @ G @ offset
        k0_rate = 0.5 * np.sum(K * (problem.sigma @ problem.sigma.T)) + 0.5 * offset @ G @ offset - beta * k0
        k0_rate += entropy_rate(problem.temperature, covariance) - 0.5 * problem.temperature * len(G)
        return np.concatenate([K_rate.reshape(-1), k_rate, [k0_rate]])

    start = np.concatenate([-0.5 * (H + H.T).reshape(-1), -h1, [0.0]])
    found = scipy.integrate.solve_ivp(
        slope, (0.0, horizon), start, method="DOP853", rtol=1e-12, atol=1e-13, dense_output=True
    )
    if not found.success or not np.isfinite(found.y).all():
        raise NumericsError(f"the Riccati equation breaks down within {horizon} s: {found.message} Shorten the horizon")
    return FiniteHorizonSolution(problem, horizon, found.sol)


def unpack(packed: Array, n: int) -> tuple[Array, Array, float]:
    """K [n, n], k [n] and k0 from one vector."""
    return packed[: n * n].reshape(n, n), packed[n * n : -1], float(packed[-1])
