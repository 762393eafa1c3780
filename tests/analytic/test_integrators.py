"""Orders of the integrators, on problems whose solution is known.

Weak orders use no sampling: for linear dynamics one step maps (E X, E X^2) linearly, and Gauss-Hermite nodes give that
map exactly because the square of a step is a polynomial in the noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from rlcore.errors import ConfigError
from rlcore.simulation import EulerMaruyama, ExactLinear, Heun, Integrator, Rk4
from rlcore.simulation.noise import Stream, step_noise


@dataclass(frozen=True)
class Linear:
    """dX = (a X + c) dt + (s X + g) dW, reward rate X^2."""

    a: float
    c: float
    s: float
    g: float
    w: int = 1

    def drift(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:
        return self.a * x + self.c

    def diffuse(self, t: Tensor, x: Tensor, u: Tensor, z: Tensor) -> Tensor:
        return (self.s * x + self.g) * z.sum(-1, keepdim=True)

    def reward_rate(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:
        return x[:, 0] ** 2

    def moments(self, x0: float, time: float) -> tuple[float, float]:
        """E X and E X^2, from the matrix exponential of their linear equations."""
        rows = [[0, 0, 0], [self.c, self.a, 0], [self.g**2, 2 * (self.c + self.s * self.g), 2 * self.a + self.s**2]]
        generator = torch.tensor(rows, dtype=torch.float64)
        _, m1, m2 = (
            torch.linalg.matrix_exp(generator * time) @ torch.tensor([1.0, x0, x0**2], dtype=torch.float64)
        ).tolist()
        return m1, m2


MULTIPLICATIVE = Linear(a=-1.0, c=0.5, s=0.6, g=0.2)
ADDITIVE = Linear(a=-1.0, c=0.5, s=0.0, g=0.7)
NODES, WEIGHTS = (torch.as_tensor(part) for part in np.polynomial.hermite_e.hermegauss(8))


def slope(steps: list[int], errors: list[float]) -> float:
    """Order of convergence: minus the slope of log error over log steps."""
    return -float(np.polyfit(np.log(steps), np.log(errors), 1)[0])


def step(rule: Integrator, problem: Linear, x: Tensor, dt: float, noise: Tensor) -> tuple[Tensor, Tensor]:
    return rule.step(problem, torch.zeros(len(x), dtype=x.dtype), x, torch.zeros_like(x), dt, noise)


def moments_after(rule: Integrator, problem: Linear, x0: float, time: float, steps: int) -> tuple[float, float]:
    """E X and E X^2 of the scheme: the quadratic E[phi(X') | x] is fixed by its values at x = -1, 0, 1."""
    points = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64).repeat_interleave(len(NODES))[:, None]
    after, _ = step(rule, problem, points, time / steps, NODES.repeat(3)[:, None])
    weights = WEIGHTS / WEIGHTS.sum()
    mean, square = ((after[:, 0] ** power).view(3, -1) @ weights for power in (1, 2))
    rows = [[1, 0, 0]] + [[v[1], (v[2] - v[0]) / 2, (v[2] + v[0]) / 2 - v[1]] for v in (mean, square)]
    power = torch.linalg.matrix_power(torch.tensor(rows, dtype=torch.float64), steps)
    _, m1, m2 = (power @ torch.tensor([1.0, x0, x0**2], dtype=torch.float64)).tolist()
    return m1, m2


@pytest.mark.parametrize(
    ("rule", "problem", "order"),
    [
        (EulerMaruyama(), MULTIPLICATIVE, 1),
        (EulerMaruyama(), ADDITIVE, 1),
        (Heun(), MULTIPLICATIVE, 1),
        (Heun(), ADDITIVE, 2),
    ],
)
def test_weak_order(rule, problem, order):
    steps = [16, 32, 64, 128]
    exact = problem.moments(1.0, 1.0)
    second = [abs(moments_after(rule, problem, 1.0, 1.0, n)[1] - exact[1]) for n in steps]
    assert slope(steps, second) == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize(("rule", "order"), [(EulerMaruyama(), 0.5), (Heun(), 0.5)])
def test_strong_order_with_multiplicative_noise(rule, order):
    """Geometric Brownian motion, driven by the same Brownian path as its exact solution."""
    mu, sigma, rows, finest = 0.1, 0.8, 4000, 512
    problem = Linear(a=mu, c=0.0, s=sigma, g=0.0)
    fine = step_noise(7, torch.arange(rows), Stream.PROCESS, 0, finest, 1, torch.float64) / math.sqrt(finest)
    exact = torch.exp(mu - 0.5 * sigma**2 + sigma * fine.sum(0))
    steps, errors = [16, 32, 64, 128, 256], []
    for n in steps:
        noise = fine.view(n, finest // n, rows, 1).sum(1) * math.sqrt(n)
        x = torch.ones(rows, 1, dtype=torch.float64)
        for z in noise:
            x, _ = step(rule, problem, x, 1.0 / n, z)
        errors.append((x - exact).square().mean().sqrt().item())
    assert slope(steps, errors) == pytest.approx(order, abs=0.1)


def test_strong_order_with_additive_noise():
    """Euler-Maruyama gains half an order; the reference is its own path on a much finer grid."""
    rows, finest = 500, 2048
    fine = step_noise(3, torch.arange(rows), Stream.PROCESS, 0, finest, 1, torch.float64) / math.sqrt(finest)

    def end(n: int) -> Tensor:
        x = torch.ones(rows, 1, dtype=torch.float64)
        for z in fine.view(n, finest // n, rows, 1).sum(1) * math.sqrt(n):
            x, _ = step(EulerMaruyama(), ADDITIVE, x, 1.0 / n, z)
        return x

    steps, exact = [8, 16, 32, 64], end(finest)
    errors = [(end(n) - exact).square().mean().sqrt().item() for n in steps]
    assert slope(steps, errors) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(("rule", "order", "reward_order"), [(EulerMaruyama, 1, 1), (Heun, 2, 2), (Rk4, 4, 4)])
def test_order_without_noise(rule, order, reward_order):
    """dx = x (1 - x) dt: the logistic curve, and the integral of x^2 = x - x' along it."""

    class Logistic(Linear):
        def drift(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:
            return x * (1 - x)

    problem = Logistic(0, 0, 0, 0, w=0)
    x0, time = 0.1, 2.0
    end = x0 * math.exp(time) / (1 + x0 * (math.exp(time) - 1))
    earned = math.log(1 + x0 * (math.exp(time) - 1)) - (end - x0)
    steps, errors, reward_errors = [32, 64, 128, 256], [], []
    for n in steps:  # as substeps of one control interval
        after, reward = step(rule(n), problem, torch.full((1, 1), x0, dtype=torch.float64), time, torch.zeros(1, 0))
        errors.append(abs(after.item() - end))
        reward_errors.append(abs(reward.item() - earned))
    assert slope(steps, errors) == pytest.approx(order, abs=0.1)
    assert slope(steps, reward_errors) == pytest.approx(reward_order, abs=0.1)


def test_exact_linear_has_the_exact_moments():
    a = torch.tensor([[-1.0, 0.4], [0.2, -0.5]], dtype=torch.float64)
    b, c = torch.tensor([[1.0], [0.5]], dtype=torch.float64), torch.tensor([0.3, -0.2], dtype=torch.float64)
    sigma = torch.tensor([[0.7, 0.0], [0.2, 0.4]], dtype=torch.float64)
    dt = 0.8
    flow, gain, offset, root = ExactLinear(a, b, c, sigma).matrices(dt, torch.float64, torch.device("cpu"))
    decay = torch.linalg.matrix_exp(a * dt)
    assert torch.allclose(flow, decay, atol=1e-14)
    integral = torch.linalg.solve(a, decay - torch.eye(2).double())
    assert torch.allclose(gain, integral @ b, atol=1e-14)
    assert torch.allclose(offset, integral @ c, atol=1e-14)
    covariance = root @ root.T  # solves the Lyapunov equation a S + S a' = decay Q decay' - Q
    q = sigma @ sigma.T
    assert torch.allclose(a @ covariance + covariance @ a.T, decay @ q @ decay.T - q, atol=1e-14)


def test_exact_linear_in_one_step_is_two_halves():
    problem = ADDITIVE
    one = torch.ones(1, 1, dtype=torch.float64)
    rule = ExactLinear(problem.a * one, 0.0 * one, problem.c * one[0], problem.g * one)
    for n in (1, 2, 7):
        assert moments_after(rule, problem, 1.5, 1.0, n) == pytest.approx(problem.moments(1.5, 1.0), abs=1e-13)


@pytest.mark.parametrize("rule", [EulerMaruyama, Heun])
def test_substeps_are_smaller_steps(rule):
    problem, n = MULTIPLICATIVE, 4
    x = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]
    noise = step_noise(0, torch.arange(5), Stream.PROCESS, 0, 1, n, torch.float64)[0]
    together, earned = step(rule(n), problem, x, 0.2, noise)
    total = torch.zeros(5, dtype=torch.float64)
    for k in range(n):
        x, part = step(rule(), problem, x, 0.2 / n, noise[:, k : k + 1])
        total = total + part
    assert torch.allclose(together, x, atol=1e-14)
    assert torch.allclose(earned, total, atol=1e-14)


def test_misuse_is_refused():
    with pytest.raises(ConfigError, match="substeps must be at least 1, got 0"):
        EulerMaruyama(substeps=0)
    with pytest.raises(ConfigError, match="without noise"):
        Rk4().noise_dim(1)
