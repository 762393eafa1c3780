"""Orders of convergence of the integrators, fitted on problems with known solutions.

    rlcore run integrator_orders

Strong errors are taken between a path and the exact solution driven by the same Brownian increments; weak errors are
exact, because on linear problems the moments of a scheme follow from Gauss-Hermite quadrature over one step, without
sampling.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rlcore.simulation import EulerMaruyama, ExactLinear, Heun, Integrator, Rk4
from rlcore.simulation.noise import Stream, normals
from rlcore.training.recorder import SILENT, Recorder

DTYPE = torch.float64


@dataclass(frozen=True)
class Linear:
    """dX = a X dt + (c X + s) dW with reward rate X^2, as an integrator sees a problem."""

    a: float
    c: float
    s: float

    def drift(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:
        return self.a * x

    def diffuse(self, t: Tensor, x: Tensor, u: Tensor, z: Tensor) -> Tensor:
        return (self.c * x + self.s) * z

    def reward_rate(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:
        return x[:, 0] ** 2


@dataclass(frozen=True)
class Logistic:
    """dx = x (1 - x) dt without noise; its reward rate x integrates to log(1 - x_0 + x_0 e^t)."""

    def drift(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:
        return x * (1.0 - x)

    def diffuse(self, t: Tensor, x: Tensor, u: Tensor, z: Tensor) -> Tensor:
        return torch.zeros_like(x)

    def reward_rate(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:
        return x[:, 0]


def fitted_slope(dt: Sequence[float], error: Sequence[float]) -> float:
    """Slope of log error against log dt."""
    return float(np.polyfit(np.log(dt), np.log(error), 1)[0])


def carry(
    integrator: Integrator, problem: Linear | Logistic, x: Tensor, dt: float, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """All the steps in noise [K, B, w], from x [B, 1] -> the last state, the total reward."""
    t, u, reward = x.new_zeros(len(x)), torch.zeros_like(x), x.new_zeros(len(x))
    for z in noise:
        x, earned = integrator.step(problem, t, x, u, dt, z)
        t, reward = t + dt, reward + earned
    return x, reward


def strong_order(integrator: Integrator, *, additive: bool, paths: int = 20_000, seed: int = 0) -> float:
    """Root-mean-square error at T = 1 s against the exact solution on the same Brownian path.

    Multiplicative: geometric Brownian motion. Additive: Ornstein-Uhlenbeck, whose exact solution is a stochastic
    integral, taken on a grid 64 times finer than the finest step.
    """
    problem = Linear(-1.0, 0.0, 0.8) if additive else Linear(0.5, 0.6, 0.0)
    counts = (8, 16, 32, 64)
    fine = counts[-1] * (64 if additive else 1)
    small = 1.0 / fine
    z = normals(seed, torch.arange(paths // (10 if additive else 1)), Stream.PROCESS, 0, fine, DTYPE)  # [fine, B]
    start = torch.ones(z.shape[1], 1, dtype=DTYPE)
    if additive:
        ends = torch.arange(1, fine + 1, dtype=DTYPE) * small
        kernel = torch.exp(problem.a * (1.0 - ends + 0.5 * small))  # midpoint of each fine step
        exact = math.exp(problem.a) * start[:, 0] + problem.s * math.sqrt(small) * (kernel @ z)
    else:
        brownian = math.sqrt(small) * z.sum(0)
        exact = torch.exp((problem.a - 0.5 * problem.c**2) + problem.c * brownian)
    errors = []
    for count in counts:
        noise = z.view(count, fine // count, -1).sum(1) / math.sqrt(fine // count)  # [count, B]
        found, _ = carry(integrator, problem, start, 1.0 / count, noise.unsqueeze(-1))
        errors.append(float((found[:, 0] - exact).square().mean().sqrt()))
    return fitted_slope([1.0 / count for count in counts], errors)


def moment_map(integrator: Integrator, problem: Linear, dt: float) -> tuple[np.ndarray, np.ndarray]:
    """One step of a scheme as E[X'] = m . (1, x) and E[X'^2] = s . (1, x, x^2), by quadrature over its noise."""
    node, mass = np.polynomial.hermite_e.hermegauss(12)
    weight = torch.as_tensor(mass / mass.sum())
    x = torch.tensor([[-1.0], [0.0], [1.0]], dtype=DTYPE)
    rows, z = x.repeat_interleave(len(node), 0), torch.as_tensor(node).repeat(3).unsqueeze(1)
    after, _ = integrator.step(problem, rows.new_zeros(len(rows)), rows, torch.zeros_like(rows), dt, z)
    after = after.view(3, len(node))
    first, second = (after @ weight).numpy(), (after**2 @ weight).numpy()
    vandermonde = np.vander([-1.0, 0.0, 1.0], 3, increasing=True)
    return np.linalg.solve(vandermonde, first)[:2], np.linalg.solve(vandermonde, second)


def weak_errors(integrator: Integrator, *, additive: bool, counts: Sequence[int]) -> list[float]:
    """|E X_T^2 - exact| at T = 1 s for each number of steps."""
    problem = Linear(-1.0, 0.0, 0.8) if additive else Linear(0.5, 0.6, 0.0)
    growth = 2.0 * problem.a + problem.c**2
    exact = math.exp(growth) + problem.s**2 * math.expm1(growth) / growth
    errors = []
    for count in counts:
        first, second = moment_map(integrator, problem, 1.0 / count)
        mean, square = 1.0, 1.0
        for _ in range(count):
            mean, square = float(first @ (1.0, mean)), float(second @ (1.0, mean, square))
        errors.append(abs(square - exact))
    return errors


def weak_order(integrator: Integrator, *, additive: bool) -> float:
    """Fitted order of the error of E X_T^2."""
    counts = (16, 32, 64, 128)
    return fitted_slope([1.0 / count for count in counts], weak_errors(integrator, additive=additive, counts=counts))


def deterministic_order(integrator: Integrator) -> tuple[float, float]:
    """Fitted orders of the state and of the integrated reward at T = 2 s, without noise."""
    start, counts = 0.1, (8, 16, 32, 64)
    growth = start * math.exp(2.0)
    exact, total = growth / (1.0 - start + growth), math.log(1.0 - start + growth)
    errors: list[tuple[float, float]] = []
    for count in counts:
        x = torch.full((1, 1), start, dtype=DTYPE)
        found, reward = carry(integrator, Logistic(), x, 2.0 / count, torch.zeros(count, 1, 0, dtype=DTYPE))
        errors.append((abs(float(found) - exact), abs(float(reward) - total)))
    dt = [2.0 / count for count in counts]
    state, earned = zip(*errors, strict=True)
    return fitted_slope(dt, state), fitted_slope(dt, earned)


def exact_linear() -> ExactLinear:
    """The exact rule for the additive problem above."""
    one = torch.ones(1, 1, dtype=DTYPE)
    return ExactLinear(a=-one, b=0.0 * one, c=0.0 * one[0], sigma=0.8 * one)


THEORY: dict[str, tuple[float, Callable[[], float]]] = {
    "euler_strong": (0.5, lambda: strong_order(EulerMaruyama(), additive=False)),
    "euler_strong_additive": (1.0, lambda: strong_order(EulerMaruyama(), additive=True)),
    "euler_weak": (1.0, lambda: weak_order(EulerMaruyama(), additive=False)),
    "euler_weak_additive": (1.0, lambda: weak_order(EulerMaruyama(), additive=True)),
    "heun_strong": (0.5, lambda: strong_order(Heun(), additive=False)),
    "heun_strong_additive": (1.0, lambda: strong_order(Heun(), additive=True)),
    "heun_weak": (1.0, lambda: weak_order(Heun(), additive=False)),
    "heun_weak_additive": (2.0, lambda: weak_order(Heun(), additive=True)),
    "euler_ode": (1.0, lambda: deterministic_order(EulerMaruyama())[0]),
    "heun_ode": (2.0, lambda: deterministic_order(Heun())[0]),
    "rk4_ode": (4.0, lambda: deterministic_order(Rk4())[0]),
    "rk4_reward": (4.0, lambda: deterministic_order(Rk4())[1]),
}
"""Order that theory predicts, and the measurement of it."""


@dataclass(frozen=True)
class Config:
    """Nothing to set: the orders are what they are."""


PRESETS = {"quick": Config(), "paper": Config()}


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Measure every order."""
    return {f"order/{name}": measure() for name, (_, measure) in THEORY.items()}
