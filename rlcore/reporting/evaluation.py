"""What a policy earns: many paths on noise of their own, the same for every policy evaluated with the same seed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from rlcore.checks import check_not_negative
from rlcore.errors import ConfigError
from rlcore.reporting.statistics import Interval, mean, stratified_bootstrap
from rlcore.seeding import derive_seed
from rlcore.simulation.environment import Environment
from rlcore.simulation.policy import Policy
from rlcore.simulation.rollout import begin, rollout
from rlcore.timegrid import steps_in

CHUNK_NUMBERS = 1 << 20  # numbers of a trajectory held at once


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Rewards of B independent paths, counted from the end of the burn-in."""

    returns: NDArray[np.float64]  # [B] discounted rewards; that of a step counts as if earned evenly over the step
    totals: NDArray[np.float64]  # [B] the same without discount
    average_reward: NDArray[np.float64]  # [B] total per second lived
    seconds: float
    """Length of the measured part [s]."""

    @property
    def mean(self) -> float:
        """Mean discounted return."""
        return float(self.returns.mean())

    @property
    def interval(self) -> Interval:
        """95 % bootstrap interval of the mean discounted return."""
        return stratified_bootstrap(self.returns, mean)

    @property
    def mean_average_reward(self) -> float:
        """Mean reward per second."""
        return float(self.average_reward.mean())

    @property
    def average_reward_interval(self) -> Interval:
        """95 % bootstrap interval of the mean reward per second."""
        return stratified_bootstrap(self.average_reward, mean)


@torch.no_grad()
def evaluate(
    policy: Policy,
    env: Environment,
    *,
    paths: int = 256,
    steps: int | None = None,
    seed: int = 0,
    deterministic: bool = True,
    burn_in: float = 0.0,
) -> Evaluation:
    """Run `paths` paths and measure `steps` control steps after `burn_in` seconds.

    `steps` None measures up to the environment's horizon. The noise depends on `seed` and the path only, and never
    coincides with a training source's: two policies evaluated with one seed can be compared path by path.
    """
    spec = env.spec
    check_not_negative("burn_in", burn_in, "s")
    skipped = steps_in(burn_in, spec.dt) if burn_in else 0
    if steps is None:
        if math.isinf(spec.horizon):
            raise ConfigError(f"{spec.name} has an infinite horizon; say how many steps to evaluate")
        steps = round(spec.horizon / spec.dt) - skipped
    if steps < 1:
        raise ConfigError(f"need at least 1 step to evaluate after a burn-in of {burn_in} s, got {steps}")
    stand = begin(env, paths, seed=derive_seed(seed, "evaluation"))
    chunk = max(1, CHUNK_NUMBERS // (paths * (spec.observation_dim + spec.action_dim + 2)))
    returns, totals = torch.zeros(2, paths, dtype=torch.float64, device=env.device)
    lived = torch.zeros(paths, dtype=torch.int64, device=env.device)  # steps
    spread = -math.expm1(-spec.discount_rate * spec.dt) / (spec.discount_rate * spec.dt) if spec.discount_rate else 1.0
    step = -skipped
    while step < steps:
        count = min(chunk, (steps if step >= 0 else 0) - step)
        over = env.terminated(stand.env)
        trajectory, stand = rollout(env, policy, stand, count, deterministic=deterministic)
        if step >= 0:
            reward = trajectory.reward.double()
            start = spec.dt * torch.arange(step, step + count, dtype=torch.float64, device=env.device)  # [K] s
            returns += spread * (torch.exp(-spec.discount_rate * start) @ reward)
            totals += reward.sum(0)
            lived += (trajectory.alive & ~over).sum(0)
        step += count
    average = totals / (spec.dt * lived.clamp_min(1).double())
    return Evaluation(returns.cpu().numpy(), totals.cpu().numpy(), average.cpu().numpy(), steps * spec.dt)
