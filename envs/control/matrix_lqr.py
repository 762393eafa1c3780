"""Linear-quadratic problems of any size, over an infinite time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from rlcore.checks import check_integer, check_not_negative, check_positive
from rlcore.envs.control.linear_policies import LinearGaussian, square_root
from rlcore.errors import ConfigError
from rlcore.functional.linear_quadratic import (
    Array,
    LqProblem,
    LqSolution,
    average_reward,
    evaluate_linear_gaussian,
    solve_stationary,
)
from rlcore.simulation import ControlledDiffusion, ControlSpec, EnvState, EulerMaruyama


def random_lq(
    state_dim: int, action_dim: int, seed: int, *, temperature: float = 0.1, discount_rate: float = 0.5
) -> LqProblem:
    """A problem drawn from `seed`: stable in mean square without control, two multiplicative noises, one additive.

    M, N and R make a jointly convex cost, so a stabilising optimum exists for every seed and size.
    """
    check_integer("state_dim, action_dim, seed", state_dim, action_dim, seed)
    if min(state_dim, action_dim) < 1:
        raise ConfigError(f"need state_dim, action_dim >= 1, got {state_dim} and {action_dim}")
    rng = np.random.default_rng(seed)
    n, m, j = state_dim, action_dim, 2

    def draw(*shape: int, scale: float) -> Array:
        return scale * rng.standard_normal(shape) / math.sqrt(shape[-1])

    A, B = draw(n, n, scale=0.7), draw(n, m, scale=1.0)
    C, D = draw(j, n, n, scale=0.2), draw(j, n, m, scale=0.2)
    noise = sum(np.linalg.norm(c, 2) ** 2 for c in C)
    A -= (np.linalg.eigvalsh(0.5 * (A + A.T))[-1] + 0.5 * noise + 0.25) * np.eye(n)  # d E|X|^2 / dt <= -E|X|^2 / 2
    root = draw(n + m, n + m, scale=1.0)
    weight = np.eye(n + m) + root @ root.T  # of (x, u)
    sigma = draw(n, n, scale=0.3)
    return LqProblem(
        A, B, C, D, sigma, weight[:n, :n], weight[n:, n:], weight[n:, :n], draw(n, scale=0.3), draw(m, scale=0.3),
        temperature, discount_rate,
    )  # fmt: skip


@dataclass(frozen=True)
class MatrixLqrConfig:
    """Settings; x and u have no unit."""

    state_dim: int = 3
    action_dim: int = 2
    problem_seed: int = 0
    """Which problem of the family `random_lq`."""
    temperature: float = 0.1
    """Weight of the policy's entropy in the closed forms and the agents [reward]."""
    discount_rate: float = 0.5
    """beta [1/s]; 0 means that the reward per second counts."""
    dt: float = 0.01
    """Control interval [s]."""
    substeps: int = 1
    """Euler-Maruyama steps per control interval."""
    horizon: float = 10.0
    """Length of an episode [s]; reaching it truncates. It may be inf."""
    initial_sd: float = 1.0
    """Standard deviation of each component of the initial state, around 0."""
    action_bound: float = 3.0
    """Actions in [-bound, bound] are declared to Gymnasium; the dynamics do not clip."""


class LinearQuadratic(ControlledDiffusion):
    """What `MatrixLqr` and `FiniteHorizonLqr` share: the coefficients of an `LqProblem`."""

    def __init__(
        self,
        problem: LqProblem,
        spec: ControlSpec,
        substeps: int,
        initial_sd: float,
        *,
        dtype: torch.dtype,
        device: str | torch.device,
    ) -> None:
        super().__init__(spec, EulerMaruyama(substeps), dtype=dtype, device=device)
        check_not_negative("initial_sd", initial_sd)
        self.problem = problem
        self.initial_sd = initial_sd
        n, m = problem.B.shape
        tensor = partial(torch.as_tensor, dtype=dtype, device=self.device)
        joint = np.block([[problem.M, problem.R.T], [problem.R, problem.N]])
        scale = np.concatenate([problem.C, problem.D], axis=-1).transpose(2, 1, 0)  # [n + m, n, j]
        self._flow = tensor(np.concatenate([problem.A, problem.B], axis=1).T)
        self._scale = tensor(scale.reshape(n + m, -1))
        self._sigma = tensor(problem.sigma)
        self._weight = tensor(-0.5 * joint)
        self._price = tensor(-np.concatenate([problem.P, problem.Q]))

    def initial_state(self, noise: Tensor) -> EnvState:
        t = torch.zeros(noise.shape[0], dtype=torch.float64, device=noise.device)
        return EnvState(t, self.initial_sd * noise)

    def drift(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:  # [B], [B, n], [B, m] -> [B, n]
        return torch.cat([x, u], dim=-1) @ self._flow

    def diffusion(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:  # -> [B, n, j + w]
        return torch.cat([self._multiplicative(x, u), self._sigma.expand(x.shape[0], -1, -1)], dim=-1)

    def diffuse(self, t: Tensor, x: Tensor, u: Tensor, z: Tensor) -> Tensor:  # z [B, j + w] -> [B, n]
        scaled = self._multiplicative(x, u)
        shaken = (scaled * z[:, : scaled.shape[-1]].unsqueeze(1)).sum(-1)
        return torch.addmm(shaken, z[:, scaled.shape[-1] :], self._sigma.T)

    def _multiplicative(self, x: Tensor, u: Tensor) -> Tensor:  # -> [B, n, j]
        """C_j x + D_j u."""
        return (torch.cat([x, u], dim=-1) @ self._scale).view(x.shape[0], x.shape[1], -1)

    def reward_rate(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:  # -> [B]
        both = torch.cat([x, u], dim=-1)
        return (both * (both @ self._weight + self._price)).sum(-1)


class MatrixLqr(LinearQuadratic):
    """A linear-quadratic problem of any size, drawn from a seed or given as an `LqProblem`.

    ## Dynamics
    dX = (A X + B u) dt + sum_j (C_j X + D_j u) dW_j + sigma dB

    ## Observation and action
    | num      | observation | low  | high | unit |     | num      | action | low | high | unit |
    |----------|-------------|------|------|------|-----|----------|--------|-----|------|------|
    | 0..n - 1 | X           | -inf | inf  | none |     | 0..m - 1 | u      | -3  | 3    | none |

    The action bounds are declared, not enforced.

    ## Reward
    r = -(X'M X / 2 + u'R X + u'N u / 2 + P'X + Q'u) per second, to be maximised; without entropy.

    ## Start and end
    X_0 ~ N(0, initial_sd^2 I). An episode never terminates; `horizon` truncates it.

    ## Closed form
    `solution`, `optimal_value`, `optimal_policy`, `value_of_policy`, `average_reward`;
    see `rlcore.functional.linear_quadratic`.

    ## Parameters
    Without `problem`, the one that `random_lq` draws from `problem_seed`. With it, its sizes, temperature and
    discount rate stand in for those of the config.

    Source: Wang, Zariphopoulou and Zhou, JMLR 21(198), 2020; Yong and Zhou, Stochastic Controls, 1999, chapter 6.
    """

    def __init__(
        self,
        config: MatrixLqrConfig = MatrixLqrConfig(),
        *,
        problem: LqProblem | None = None,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        self.config = config
        if problem is None:
            problem = random_lq(
                config.state_dim,
                config.action_dim,
                config.problem_seed,
                temperature=config.temperature,
                discount_rate=config.discount_rate,
            )
        check_positive("action_bound", config.action_bound)
        spec = ControlSpec(
            "rlcore/MatrixLqr-v0",
            state_dim=problem.B.shape[0],
            action_dim=problem.B.shape[1],
            noise_dim=len(problem.C) + problem.sigma.shape[1],
            dt=config.dt,
            horizon=config.horizon,
            discount_rate=problem.discount_rate,
            action_low=-config.action_bound,
            action_high=config.action_bound,
        )
        super().__init__(problem, spec, config.substeps, config.initial_sd, dtype=dtype, device=device)

    def solution(self) -> LqSolution:
        """The exact optimum."""
        return solve_stationary(self.problem)

    def optimal_value(self, x: Tensor) -> Tensor:  # [B, n] -> [B]
        """V(x); where the discount rate is 0, the relative value with V(0) = 0."""
        return torch.as_tensor(self.solution().value(x.double().cpu().numpy()), dtype=x.dtype, device=x.device)

    def optimal_policy(self) -> LinearGaussian:
        """The exact optimum as a policy."""
        best = self.solution()
        parts = (best.gain, best.offset, square_root(best.covariance))
        return LinearGaussian(*(torch.as_tensor(part, dtype=self.dtype, device=self.device) for part in parts))

    def value_of_policy(self, gain: Tensor, offset: Tensor, covariance: Tensor) -> LqSolution:
        """Exact value of u ~ N(gain x + offset, covariance), entropy included; shapes [m, n], [m], [m, m]."""
        return evaluate_linear_gaussian(self.problem, gain, offset, covariance)

    def average_reward(self, gain: Tensor, offset: Tensor, covariance: Tensor) -> float:
        """Exact long-run reward per second of u ~ N(gain x + offset, covariance), without entropy and discount."""
        return average_reward(self.problem, gain, offset, covariance)
