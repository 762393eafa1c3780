"""What a policy does in a Gymnasium environment, recorded as a data set, and what it earns there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import Tensor

from rlcore.data import Transitions, in_order
from rlcore.errors import ConfigError
from rlcore.interop.gym_source import GymSource
from rlcore.simulation.policy import Policy

MakeEnv = Callable[[], gymnasium.Env[Any, Any]]


def copies_of(
    make_env: MakeEnv, copies: int, *, dt: float, discount_rate: float, seed: int, steps_per_call: int = 1
) -> GymSource:
    """Copies of an environment as a source of rows, `copies` for each step."""
    if copies < 1:
        raise ConfigError(f"copies must be at least 1, got {copies}")
    envs = SyncVectorEnv([make_env] * copies, autoreset_mode=AutoresetMode.SAME_STEP)
    return GymSource(envs, dt=dt, discount_rate=discount_rate, seed=seed % 2**31, steps_per_call=steps_per_call)


def record(
    policy: Policy, make_env: MakeEnv, *, copies: int, steps: int, dt: float, discount_rate: float, seed: int
) -> Transitions:
    """`steps` steps of each copy under a policy with its noise -> rows in order [steps copies]."""
    source = copies_of(make_env, copies, dt=dt, discount_rate=discount_rate, seed=seed, steps_per_call=steps)
    rows = source.next(policy)
    source.envs.close()
    return in_order(rows.map(lambda x: x.view(steps, copies, *x.shape[1:])))


def returns(policy: Policy, make_env: MakeEnv, *, episodes: int, seed: int) -> Tensor:  # -> [episodes]
    """Undiscounted, of a policy with its noise, over the first episode of each of `episodes` copies; all must end."""
    source = copies_of(make_env, episodes, dt=1.0, discount_rate=0.0, seed=seed)
    earned, running = torch.zeros(episodes, dtype=torch.float64), torch.ones(episodes, dtype=torch.bool)
    while bool(running.any()):
        step = source.next(policy)
        earned += step.reward * running
        running &= ~step.extras["last"]
    source.envs.close()
    return earned


def mean_return(policy: Policy, make_env: MakeEnv, *, episodes: int, seed: int) -> float:
    """The mean of `returns`."""
    return float(returns(policy, make_env, episodes=episodes, seed=seed).mean())
