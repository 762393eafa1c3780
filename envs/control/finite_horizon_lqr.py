"""A linear-quadratic problem of any size that ends at a fixed time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rlcore.checks import check_not_negative, check_positive
from rlcore.envs.control.linear_policies import ScheduledGaussian, square_root
from rlcore.envs.control.matrix_lqr import LinearQuadratic, random_lq
from rlcore.functional.linear_quadratic_horizon import FiniteHorizonSolution, solve_finite_horizon
from rlcore.simulation import ControlSpec, EnvState
from rlcore.timegrid import steps_in


@dataclass(frozen=True)
class FiniteHorizonLqrConfig:
    """Settings; x and u have no unit."""

    state_dim: int = 2
    action_dim: int = 2
    problem_seed: int = 0
    """Which problem of the family `random_lq`."""
    terminal_weight: float = 2.0
    """H = terminal_weight times the identity, in the terminal reward -X'H X / 2."""
    temperature: float = 0.1
    """Weight of the policy's entropy in the closed forms and the agents [reward]."""
    discount_rate: float = 0.0
    """beta [1/s]."""
    dt: float = 0.01
    """Control interval [s]."""
    substeps: int = 1
    """Euler-Maruyama steps per control interval."""
    horizon: float = 1.0
    """T [s], where the problem ends."""
    initial_sd: float = 1.0
    """Standard deviation of each component of the initial state, around 0."""
    action_bound: float = 3.0
    """Actions in [-bound, bound] are declared to Gymnasium; the dynamics do not clip."""


class FiniteHorizonLqr(LinearQuadratic):
    """A linear-quadratic problem that ends at time T with a terminal cost.

    ## Dynamics
    dX = (A X + B u) dt + sum_j (C_j X + D_j u) dW_j + sigma dB for 0 <= t <= T

    ## Observation and action
    | num      | observation            | low  | high | unit |     | num      | action | low | high | unit |
    |----------|------------------------|------|------|------|-----|----------|--------|-----|------|------|
    | 0..n - 1 | X                      | -inf | inf  | none |     | 0..m - 1 | u      | -3  | 3    | none |
    | n        | remaining time T - t   | 0    | T    | s    |     |          |        |     |      |      |

    The action bounds are declared, not enforced.

    ## Reward
    r = -(X'M X / 2 + u'R X + u'N u / 2 + P'X + Q'u) per second, and -X_T'H X_T / 2 once at T; without entropy.

    ## Start and end
    X_0 ~ N(0, initial_sd^2 I). The episode terminates at T, `horizon`.

    ## Closed form
    V(t, x) = x'K(t) x / 2 + k(t)'x + k0(t) from the Riccati equations backwards in time: `solution`, `optimal_value`,
    `optimal_policy`.

    ## Parameters
    The problem is the one that `random_lq` draws from `problem_seed`; H = terminal_weight I.

    Source: Wang, Zariphopoulou and Zhou, JMLR 21(198), 2020; Yong and Zhou, Stochastic Controls, 1999, chapter 6.
    """

    def __init__(
        self,
        config: FiniteHorizonLqrConfig = FiniteHorizonLqrConfig(),
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        self.config = config
        check_not_negative("terminal_weight", config.terminal_weight)
        check_positive("action_bound", config.action_bound)
        steps_in(config.horizon, config.dt)
        problem = random_lq(
            config.state_dim,
            config.action_dim,
            config.problem_seed,
            temperature=config.temperature,
            discount_rate=config.discount_rate,
        )
        spec = ControlSpec(
            "rlcore/FiniteHorizonLqr-v0",
            state_dim=config.state_dim,
            action_dim=config.action_dim,
            noise_dim=len(problem.C) + problem.sigma.shape[1],
            dt=config.dt,
            horizon=config.horizon,
            discount_rate=config.discount_rate,
            action_low=-config.action_bound,
            action_high=config.action_bound,
            observation_dim=config.state_dim + 1,
        )
        super().__init__(problem, spec, config.substeps, config.initial_sd, dtype=dtype, device=device)

    def observe(self, state: EnvState) -> Tensor:  # -> [B, n + 1]
        remaining = (self.config.horizon - state.t).to(state.x.dtype)
        return torch.cat([state.x, remaining.unsqueeze(-1)], dim=-1)

    def terminated(self, state: EnvState) -> Tensor:  # -> bool [B]
        return state.t >= self.config.horizon - 0.5 * self.config.dt

    def terminal_reward(self, state: EnvState) -> Tensor:  # -> [B]
        return -0.5 * self.config.terminal_weight * (state.x**2).sum(-1)

    def solution(self) -> FiniteHorizonSolution:
        """The exact optimum at every time."""
        n, k = self.config.state_dim, self.config
        return solve_finite_horizon(self.problem, k.terminal_weight * np.eye(n), np.zeros(n), k.horizon)

    def optimal_value(self, t: float, x: Tensor) -> Tensor:  # s, [B, n] -> [B]
        """V(t, x)."""
        return torch.as_tensor(self.solution().at(t).value(x.double().cpu().numpy()), dtype=x.dtype, device=x.device)

    def optimal_policy(self) -> ScheduledGaussian:
        """The exact optimum, held over each control step, as a policy."""
        steps, found = steps_in(self.config.horizon, self.config.dt), self.solution()
        points = [found.at(k * self.config.dt) for k in range(steps)]
        parts = [(p.gain, p.offset, square_root(p.covariance)) for p in points]
        gain, offset, root = (
            torch.as_tensor(np.stack(part), dtype=self.dtype, device=self.device) for part in zip(*parts, strict=True)
        )
        return ScheduledGaussian(gain, offset, root, self.config.dt)
