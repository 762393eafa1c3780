"""Integrators of dX = b dt + sigma dW over one control interval, with the action held.

| integrator     | for                       | strong order          | weak order           | reward over dt    |
|----------------|---------------------------|-----------------------|----------------------|-------------------|
| EulerMaruyama  | any diffusion             | 1/2 (1 if additive)   | 1                    | left end          |
| Heun           | any diffusion (Ito)       | 1/2 (1 if additive)   | 1 (2 if additive)    | trapezoid         |
| Rk4            | no noise                  | 4                     | 4                    | Runge-Kutta       |
| ExactLinear    | linear drift, additive    | exact                 | exact                | left end          |

"Additive" means that sigma depends on neither x nor u. Without noise, Euler-Maruyama is of order 1 and Heun of order 2.
Source: Kloeden and Platen, Numerical Solution of Stochastic Differential Equations, 1992, sections 10.2, 14.1 and 15.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from rlcore.checks import check_integer
from rlcore.errors import ConfigError
from rlcore.simulation.environment import Dynamics, Integrator


def check_substeps(substeps: int) -> None:
    """Raise unless there is at least one substep."""
    check_integer("substeps", substeps)
    if substeps < 1:
        raise ConfigError(f"substeps must be at least 1, got {substeps}")


@dataclass(frozen=True)
class EulerMaruyama(Integrator):
    """X' = X + b h + sigma dW in `substeps` equal steps of length h."""

    substeps: int = 1

    def __post_init__(self) -> None:
        check_substeps(self.substeps)

    def noise_dim(self, process_noise_dim: int) -> int:
        return self.substeps * process_noise_dim

    def step(
        self, problem: Dynamics, t: Tensor, x: Tensor, u: Tensor, dt: float, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        h, w = dt / self.substeps, noise.shape[-1] // self.substeps
        reward = h * problem.reward_rate(t, x, u)
        for k in range(self.substeps):
            if k:
                t = t + h
                reward = torch.add(reward, problem.reward_rate(t, x, u), alpha=h)
            after = torch.add(x, problem.drift(t, x, u), alpha=h)
            if w:
                dw = noise[:, k * w : (k + 1) * w] if self.substeps > 1 else noise
                after = torch.add(after, problem.diffuse(t, x, u, dw), alpha=math.sqrt(h))
            x = after
        return x, reward


@dataclass(frozen=True)
class Heun(Integrator):
    """Ito predictor-corrector: the drift is averaged over both ends, the diffusion is taken at the left one."""

    substeps: int = 1

    def __post_init__(self) -> None:
        check_substeps(self.substeps)

    def noise_dim(self, process_noise_dim: int) -> int:
        return self.substeps * process_noise_dim

    def step(
        self, problem: Dynamics, t: Tensor, x: Tensor, u: Tensor, dt: float, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        h, w = dt / self.substeps, noise.shape[-1] // self.substeps
        reward = torch.zeros_like(t)
        for k in range(self.substeps):
            slope, rate = problem.drift(t, x, u), problem.reward_rate(t, x, u)
            shift = torch.zeros_like(x)
            if w:
                shift = math.sqrt(h) * problem.diffuse(t, x, u, noise[:, k * w : (k + 1) * w])
            after = x + 0.5 * h * (slope + problem.drift(t + h, x + h * slope + shift, u)) + shift
            reward = reward + 0.5 * h * (rate + problem.reward_rate(t + h, after, u))
            x, t = after, t + h
        return x, reward


@dataclass(frozen=True)
class Rk4(Integrator):
    """The classical Runge-Kutta rule for problems without noise; the reward is integrated by the same rule."""

    substeps: int = 1

    def __post_init__(self) -> None:
        check_substeps(self.substeps)

    def noise_dim(self, process_noise_dim: int) -> int:
        if process_noise_dim:
            raise ConfigError(f"Rk4 integrates problems without noise, got noise_dim={process_noise_dim}; use Heun")
        return 0

    def step(
        self, problem: Dynamics, t: Tensor, x: Tensor, u: Tensor, dt: float, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        h = dt / self.substeps
        reward = torch.zeros_like(t)
        for _ in range(self.substeps):
            k1, r1 = problem.drift(t, x, u), problem.reward_rate(t, x, u)
            x2 = x + 0.5 * h * k1
            k2, r2 = problem.drift(t + 0.5 * h, x2, u), problem.reward_rate(t + 0.5 * h, x2, u)
            x3 = x + 0.5 * h * k2
            k3, r3 = problem.drift(t + 0.5 * h, x3, u), problem.reward_rate(t + 0.5 * h, x3, u)
            x4 = x + h * k3
            k4, r4 = problem.drift(t + h, x4, u), problem.reward_rate(t + h, x4, u)
            x = x + (h / 6.0) * (k1 + 2.0 * (k2 + k3) + k4)
            reward = reward + (h / 6.0) * (r1 + 2.0 * (r2 + r3) + r4)
            t = t + h
        return x, reward


@dataclass(frozen=True, eq=False)
class ExactLinear(Integrator):
    """Exact in law for dX = (A X + B u + c) dt + sigma dW with constant matrices and the action held.

    X' = F X + G u + g + L z with F = exp(A dt) and L L' the covariance of the noise accumulated over dt, both from
    matrix exponentials (Van Loan, IEEE Transactions on Automatic Control 23, 1978).
    """

    a: Tensor  # [n, n] 1/s
    b: Tensor  # [n, m]
    c: Tensor  # [n]
    sigma: Tensor  # [n, w]
    _cache: dict[tuple[float, torch.dtype, torch.device], tuple[Tensor, ...]] = field(default_factory=dict, init=False)

    def noise_dim(self, process_noise_dim: int) -> int:
        return self.a.shape[0] if process_noise_dim else 0

    def matrices(self, dt: float, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
        """F [n, n], G [n, m], g [n], L [n, n] of the exact one-step map."""
        key = (dt, dtype, device)
        if key not in self._cache:
            a, b, c, sigma = (value.double().cpu().numpy() for value in (self.a, self.b, self.c, self.sigma))
            n, inputs = a.shape[0], np.concatenate([b, c[:, None]], axis=1)
            joint = np.zeros((n + inputs.shape[1],) * 2)
            joint[:n, :n], joint[:n, n:] = a, inputs
            flow = scipy.linalg.expm(joint * dt)
            loan = scipy.linalg.expm(np.block([[-a, sigma @ sigma.T], [np.zeros((n, n)), a.T]]) * dt)
            covariance = loan[n:, n:].T @ loan[:n, n:]
            values, vectors = np.linalg.eigh(0.5 * (covariance + covariance.T))
            root = vectors * np.sqrt(np.clip(values, 0.0, None))  # L L' = covariance, also where it is singular
            parts = (flow[:n, :n], flow[:n, n:-1], flow[:n, -1], root)
            self._cache[key] = tuple(torch.as_tensor(part, dtype=dtype, device=device) for part in parts)
        return self._cache[key]

    def step(
        self, problem: Dynamics, t: Tensor, x: Tensor, u: Tensor, dt: float, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        flow, gain, offset, root = self.matrices(dt, x.dtype, x.device)
        after = x @ flow.T + u @ gain.T + offset
        if noise.shape[-1]:
            after = after + noise @ root.T
        return after, dt * problem.reward_rate(t, x, u)
