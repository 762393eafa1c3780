"""Linear-quadratic control with multiplicative noise and entropy: exact values and policies, in float64.

dX = (A X + B u) dt + sum_j (C_j X + D_j u) dW_j + sigma dB
r(x, u) = -(x'M x / 2 + u'R x + u'N u / 2 + P'x + Q'u) per second, plus temperature times the entropy of the policy

The value of a linear Gaussian policy is V(x) = x'K x / 2 + k'x + k0. With G = N - sum_j D_j'K D_j, l = B'k - Q and
S = B'K + sum_j D_j'K C_j - R the optimal policy is N(G^-1 (S x + l), temperature G^-1), and K solves
beta K = -M + A'K + K A + sum_j C_j'K C_j + S'G^-1 S. Letters: n state, m action, j and w noise.

Source: Wang, Zariphopoulou and Zhou, JMLR 21(198), 2020; Jia and Zhou, JMLR 23(275), 2022.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlcore.checks import check_not_negative
from rlcore.errors import ConfigError, NumericsError, ShapeError
from rlcore.functional import second_moments

Array = NDArray[np.floating[Any]]  # float64 throughout
MOST_NODES = 1 << 26  # of a product rule, over all states: some GB

MARGIN = 1e-9  # 1/s: growth rates nearer than this to the discount rate count as reaching it


@dataclass(frozen=True, eq=False)
class LqProblem:
    """The coefficients of a linear-quadratic problem; anything array-like is taken."""

    A: Array  # [n, n] 1/s
    B: Array  # [n, m]
    C: Array  # [j, n, n] per square root of a second
    D: Array  # [j, n, m]
    sigma: Array  # [n, w]
    M: Array  # [n, n]
    N: Array  # [m, m]
    R: Array  # [m, n]
    P: Array  # [n]
    Q: Array  # [m]
    temperature: float = 0.0
    """Weight of the entropy [reward]; 0 asks for the deterministic optimum."""
    discount_rate: float = 0.0
    """beta [1/s]; 0 means reward per second over an infinite time."""

    def __post_init__(self) -> None:
        for name in ("A", "B", "C", "D", "sigma", "M", "N", "R", "P", "Q"):
            value = np.array(getattr(self, name), dtype=np.float64)
            if not np.isfinite(value).all():
                raise ConfigError(f"{name} must be finite numbers, got {value.tolist()}")
            object.__setattr__(self, name, value)
        if self.B.ndim != 2 or self.C.ndim != 3 or self.sigma.ndim != 2:
            raise ShapeError("need B [n, m], C [j, n, n] and sigma [n, w]; give a scalar as a 1 by 1 matrix")
        (n, m), j, w = self.B.shape, len(self.C), self.sigma.shape[1]
        shapes = {"A": (n, n), "C": (j, n, n), "D": (j, n, m), "sigma": (n, w), "M": (n, n), "N": (m, m), "R": (m, n)}
        for name, shape in {**shapes, "P": (n,), "Q": (m,)}.items():
            if getattr(self, name).shape != shape:
                raise ShapeError(f"{name} must have shape {list(shape)}, got {list(getattr(self, name).shape)}")
        for name in ("M", "N"):
            value = getattr(self, name)
            if not np.allclose(value, value.T, rtol=1e-12, atol=1e-12):
                raise ConfigError(f"{name} must be symmetric, got {value.tolist()}; use ({name} + {name}') / 2")
        check_not_negative("temperature", self.temperature)
        check_not_negative("discount_rate", self.discount_rate, "1/s")


@dataclass(frozen=True, eq=False)
class LqSolution:
    """The policy u ~ N(gain x + offset, covariance) and its value V(x) = x'K x / 2 + k'x + k0."""

    K: Array  # [n, n]
    k: Array  # [n]
    k0: float
    """Constant of the value; 0 when the discount rate is 0, where V is unique only up to a constant."""
    gain: Array  # [m, n]
    offset: Array  # [m]
    covariance: Array  # [m, m]
    value_per_second: float
    """beta k0; with discount rate 0 the long-run reward per second, entropy included; NaN where the problem ends."""

    def value(self, x: ArrayLike) -> Array:  # [..., n] -> [...]
        """V(x)."""
        x = np.asarray(x, dtype=np.float64)
        return np.asarray(0.5 * np.einsum("...i,ij,...j->...", x, self.K, x) + x @ self.k + self.k0)

    def mean(self, x: ArrayLike) -> Array:  # [..., n] -> [..., m]
        """The mean action."""
        return np.asarray(np.asarray(x, dtype=np.float64) @ self.gain.T + self.offset)


def precision(problem: LqProblem, K: Array) -> Array:  # -> [m, m]
    """G = N - sum_j D_j'K D_j, which must be positive definite for an optimal action to exist."""
    G: Array = problem.N - np.einsum("jnm,nk,jkl->ml", problem.D, K, problem.D)
    lowest = float(np.linalg.eigvalsh(G)[0])
    if not lowest > 0.0:
        raise NumericsError(
            f"the linear-quadratic problem has no best action: the smallest eigenvalue of N - D'KD must be positive, "
            f"got {lowest:.3g}; raise N or M"
        )
    return G


def greedy(problem: LqProblem, K: Array, k: Array) -> tuple[Array, Array, Array]:
    """Gain [m, n], offset [m] and covariance [m, m] of the best policy against the value with these K and k."""
    G = precision(problem, K)
    S = problem.B.T @ K + np.einsum("jnm,nk,jkl->ml", problem.D, K, problem.C) - problem.R
    gain: Array = np.linalg.solve(G, S)
    offset: Array = np.linalg.solve(G, problem.B.T @ k - problem.Q)
    covariance: Array = problem.temperature * np.linalg.inv(G)
    return gain, offset, covariance


def closed_loop(problem: LqProblem, gain: Array) -> tuple[Array, Array]:  # -> [n, n] 1/s, [j, n, n] 1/sqrt(s)
    """Drift and noise of X under u = gain x."""
    return problem.A + problem.B @ gain, problem.C + problem.D @ gain


def growth_rate(problem: LqProblem, gain: Array) -> float:
    """Growth rate of E|X|^2 [1/s] under u = gain x; the value is finite when it lies below the discount rate."""
    return second_moments.growth_rate(*closed_loop(problem, gain))


def quadratic_value(problem: LqProblem, gain: Array, discount_rate: float) -> Array:  # -> [n, n]
    """K of u = gain x, a linear equation in K."""
    weight = problem.M + gain.T @ problem.R + problem.R.T @ gain + gain.T @ problem.N @ gain
    drift, noise = closed_loop(problem, gain)
    K = second_moments.solve_values(drift - 0.5 * discount_rate * np.eye(len(drift)), noise, weight)
    return np.asarray(0.5 * (K + K.T))


def evaluate_linear_gaussian(
    problem: LqProblem, gain: ArrayLike, offset: ArrayLike, covariance: ArrayLike
) -> LqSolution:
    """The exact value of u ~ N(gain x + offset, covariance), from 'beta V = generator of V + reward' term by term."""
    F, f, cov = (np.asarray(value, dtype=np.float64) for value in (gain, offset, covariance))
    (n, m), beta = problem.B.shape, problem.discount_rate
    for name, value, shape in (("gain", F, (m, n)), ("offset", f, (m,)), ("covariance", cov, (m, m))):
        if value.shape != shape:
            raise ShapeError(f"{name} must have shape {list(shape)}, got {list(value.shape)}")
        if not np.isfinite(value).all():
            raise ConfigError(f"{name} must be finite numbers, got {value.tolist()}")
    growth = growth_rate(problem, F)
    if not growth < beta:
        raise NumericsError(
            f"the value of this policy is not finite: E|X|^2 must grow slower than the discount rate {beta:.6g} 1/s, "
            f"got {growth:.6g} 1/s; choose a stabilising gain"
        )
    K = quadratic_value(problem, F, beta)
    drift, noise = closed_loop(problem, F)
    push = K @ problem.B @ f + np.einsum("jkn,kl,jlm,m->n", noise, K, problem.D, f)
    price = problem.P + F.T @ problem.Q + problem.R.T @ f + F.T @ problem.N @ f
    k = np.linalg.solve(drift.T - beta * np.eye(n), price - push)
    second = np.outer(f, f) + cov  # E[uu'] at x = 0
    curvature = problem.N - np.einsum("jnm,nk,jkl->ml", problem.D, K, problem.D)
    rate = -0.5 * np.sum(curvature * second) - problem.Q @ f + k @ problem.B @ f
    rate += 0.5 * np.sum(K * (problem.sigma @ problem.sigma.T)) + entropy_rate(problem.temperature, cov)
    return LqSolution(K, k, float(rate) / beta if beta > 0.0 else 0.0, F, f, cov, float(rate))


def entropy_rate(temperature: float, covariance: Array) -> float:
    """temperature log det(2 pi e covariance) / 2, reward per second."""
    if temperature == 0.0:
        return 0.0
    sign, log_det = np.linalg.slogdet(2.0 * math.pi * math.e * covariance)
    if sign <= 0.0:
        raise ConfigError(
            "covariance must be positive definite, or its entropy is -inf; give it noise or set temperature to 0"
        )
    return float(0.5 * temperature * log_det)


def average_reward(problem: LqProblem, gain: ArrayLike, offset: ArrayLike, covariance: ArrayLike) -> float:
    """Long-run reward per second of u ~ N(gain x + offset, covariance), without entropy and without discount."""
    undiscounted = replace(problem, temperature=0.0, discount_rate=0.0)
    return evaluate_linear_gaussian(undiscounted, gain, offset, covariance).value_per_second


def stationary_moments(
    problem: LqProblem, gain: ArrayLike, offset: ArrayLike, covariance: ArrayLike
) -> tuple[Array, Array]:
    """Mean [n] and covariance [n, n] of X in the long run under u ~ N(gain x + offset, covariance)."""
    F, f, cov = (np.asarray(value, dtype=np.float64) for value in (gain, offset, covariance))
    growth = growth_rate(problem, F)
    if not growth < 0.0:
        raise NumericsError(f"there is no stationary law: E|X|^2 grows at {growth:.6g} 1/s; choose a stabilising gain")
    drift, noise = closed_loop(problem, F)
    mean: Array = -np.linalg.solve(drift, problem.B @ f)
    cross = np.outer(problem.B @ f, mean) + np.einsum("jnk,k,jlm,m->nl", noise, mean, problem.D, f)
    source = cross + cross.T + np.einsum("jnm,mi,jli->nl", problem.D, np.outer(f, f) + cov, problem.D)
    source += problem.sigma @ problem.sigma.T
    second = second_moments.solve_moments(drift, noise, -source)
    return mean, second - np.outer(mean, mean)


def stabilising_gain(problem: LqProblem, *, iterations: int = 300) -> Array:  # -> [m, n]
    """A gain under which E|X|^2 grows slower than the discount rate, whatever the rewards of the problem.

    It solves the problem with unit costs at a discount rate where doing nothing is good enough, and lowers that rate to
    the wanted one, each time by nine tenths of the margin that the present gain has.
    """
    (n, m), beta = problem.B.shape, problem.discount_rate
    unit = replace(problem, M=np.eye(n), N=np.eye(m), R=np.zeros((m, n)))
    gain: Array = np.zeros((m, n))
    growth = growth_rate(unit, gain)
    rate = growth + 1.0
    for _ in range(iterations):
        if growth < beta - MARGIN:
            return gain
        if rate - growth < MARGIN:
            break
        gain = greedy(unit, quadratic_value(unit, gain, rate), np.zeros(n))[0]
        growth = growth_rate(unit, gain)
        rate = max(beta, rate - 0.9 * (rate - growth))
    raise NumericsError(
        "the linear-quadratic problem has no stabilising solution: some policy must keep the growth of E|X|^2 below "
        f"the discount rate {beta:.6g} 1/s, the best found reaches {growth:.6g} 1/s; check B and D, lower A or C, or "
        "raise the discount rate"
    )


def solve_stationary(problem: LqProblem, *, iterations: int = 100) -> LqSolution:
    """The stabilising optimum over an infinite time, discounted or ergodic.

    Newton's method on the Riccati equation, which is policy iteration (Kleinman, IEEE Transactions on Automatic Control
    13, 1968). It starts from a stabilising gain and every later gain is stabilising, so it cannot reach another root.
    """
    beta, gain = problem.discount_rate, stabilising_gain(problem)
    n, last = gain.shape[1], math.inf
    for _ in range(iterations):
        K = quadratic_value(problem, gain, beta)
        before, (gain, _, covariance) = gain, greedy(problem, K, np.zeros(n))
        if not growth_rate(problem, gain) < beta - MARGIN:
            break
        change = float(np.abs(gain - before).max() / (1.0 + np.abs(gain).max()))
        if change <= 1e-13 or last / 2.0 < change < 1e-7:  # converged, or only rounding is left
            drift = problem.A + problem.B @ gain  # -P + A'k + S'G^-1 (B'k - Q) = beta k
            k: Array = np.linalg.solve(drift.T - beta * np.eye(n), problem.P + gain.T @ problem.Q)
            return evaluate_linear_gaussian(problem, gain, greedy(problem, K, k)[1], covariance)
        last = change
    raise NumericsError(
        f"the linear-quadratic problem has no stabilising solution: its best gains approach a growth of E|X|^2 at the "
        f"discount rate {beta:.6g} 1/s; make the costs M and N positive definite"
    )


def hamiltonian(problem: LqProblem, solution: LqSolution, x: Array, u: Array) -> Array:  # [..., n], [..., m] -> [...]
    """Reward rate plus the generator of V, at state x and action u."""
    slope = x @ solution.K + solution.k
    drift = x @ problem.A.T + u @ problem.B.T
    noise = np.einsum("jnk,...k->j...n", problem.C, x) + np.einsum("jnm,...m->j...n", problem.D, u)
    cost = 0.5 * ((x @ problem.M) * x).sum(-1) + ((u @ problem.R) * x).sum(-1) + 0.5 * ((u @ problem.N) * u).sum(-1)
    second = (noise @ solution.K * noise).sum(axis=(0, -1)) + np.sum(solution.K * (problem.sigma @ problem.sigma.T))
    return np.asarray(-cost - x @ problem.P - u @ problem.Q + (drift * slope).sum(-1) + 0.5 * second)


def hjb_residual(
    problem: LqProblem, solution: LqSolution, x: ArrayLike, *, time_derivative: ArrayLike = 0.0, nodes: int = 48
) -> Array:  # [..., n] -> [...]
    """dV/dt + temperature log of the integral of exp(H(x, u) / temperature) du - beta V(x), which must vanish.

    The integral is a product Gauss-Hermite rule, wider than the policy and centred on it, so it does not presume that
    the policy is optimal. For temperature 0 the soft maximum is the Hamiltonian at the mean action.
    """
    x, time_derivative = np.asarray(x, dtype=np.float64), np.asarray(time_derivative, dtype=np.float64)
    ends = math.isnan(solution.value_per_second)
    held = problem.discount_rate * solution.value(x)
    if problem.discount_rate == 0.0 and not ends:
        held = held + solution.value_per_second
    mean = solution.mean(x)  # [..., m]
    if problem.temperature == 0.0:
        return np.asarray(time_derivative + hamiltonian(problem, solution, x, mean) - held)
    m = mean.shape[-1]
    if nodes**m * mean[..., 0].size > MOST_NODES:
        raise ConfigError(
            f"the product rule must not exceed {MOST_NODES:.0e} nodes over all states, got {nodes}^{m} for each of "
            f"{mean[..., 0].size}; give fewer nodes or states, or a problem of temperature 0"
        )
    node, weight = np.polynomial.hermite.hermgauss(nodes)
    grid = np.stack(np.meshgrid(*[node] * m, indexing="ij"), -1).reshape(-1, m)  # [nodes^m, m]
    logs = np.log(np.stack(np.meshgrid(*[weight] * m, indexing="ij"), -1)).reshape(-1, m).sum(-1) + (grid**2).sum(-1)
    root = np.linalg.cholesky(2.0 * 1.2 * solution.covariance)
    u = mean[..., None, :] + grid @ root.T  # [..., nodes^m, m]
    exponent = hamiltonian(problem, solution, x[..., None, :], u) / problem.temperature + logs
    top = exponent.max(-1, keepdims=True)
    soft = np.log(np.exp(exponent - top).sum(-1)) + top[..., 0] + np.linalg.slogdet(root)[1]
    return np.asarray(time_derivative + problem.temperature * soft - held)
