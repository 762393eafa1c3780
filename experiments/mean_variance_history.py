"""Mean-variance paths drawn from one history of a stock: what an investor has, who sees the market only once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from rlcore.data import Trajectory
from rlcore.envs.finance import MeanVariance
from rlcore.errors import ConfigError
from rlcore.simulation.policy import Policy
from rlcore.timegrid import steps_in
from rlcore.training.sources import Source


class HistorySource(Source[Trajectory]):
    """Whole paths whose returns are windows of one sampled history of `years`; starts are drawn at every call.

    x' = x + a R, R the excess return of the day. An investor without market impact may replay the past at will.
    """

    def __init__(self, env: MeanVariance, paths: int, years: int, *, seed: int) -> None:
        c = env.config
        self.env, self.paths, self.path_steps = env, paths, steps_in(c.horizon, c.dt)
        if years < c.horizon:
            raise ConfigError(f"years must be at least the horizon of {c.horizon:g} years, got {years}")
        self.generator = torch.Generator().manual_seed(seed)
        shocks = torch.randn(steps_in(float(years), c.dt), generator=self.generator, dtype=env.dtype)
        self.returns = (c.stock_return - c.interest_rate) * c.dt + c.volatility * math.sqrt(c.dt) * shocks

    @torch.no_grad()
    def next(self, policy: Policy) -> Trajectory:
        steps, c = self.path_steps, self.env.config
        first = torch.randint(len(self.returns) - steps + 1, (self.paths,), generator=self.generator)
        returns = self.returns[first + torch.arange(steps).unsqueeze(1)]  # [K, B]
        noise = torch.randn(steps, self.paths, policy.noise_dim, generator=self.generator, dtype=self.env.dtype)
        t = c.dt * torch.arange(steps + 1, dtype=torch.float64)
        obs = torch.empty(steps + 1, self.paths, 2, dtype=self.env.dtype)
        obs[0, :, 0] = c.initial_wealth
        obs[:, :, 1] = (c.horizon - t).unsqueeze(1)
        actions = []
        for k in range(steps):
            actions.append(policy.act(obs[k], noise=noise[k]))
            obs[k + 1, :, 0] = obs[k, :, 0] + actions[-1][:, 0] * returns[k]
        terminated = torch.zeros(steps, self.paths, dtype=torch.bool)
        terminated[-1] = True
        reward = torch.zeros(steps, self.paths, dtype=self.env.dtype)
        gap = obs[-1, :, 0] - self.env.multiplier
        reward[-1] = (self.env.multiplier - c.target) ** 2 - gap**2
        self.count(self.paths * steps, self.paths * c.horizon)
        return Trajectory(t, obs, torch.stack(actions), reward, t.diff(), terminated)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.generator.set_state(state["generator"].cpu())
