"""What the reference policy does, gathered once and kept on the device: its occupancy never changes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlcore.checks import check_integer
from rlcore.data import Transitions
from rlcore.errors import ConfigError, DataError
from rlcore.simulation.environment import Environment
from rlcore.simulation.policy import Policy
from rlcore.simulation.rollout import begin, rollout_with_reset


@dataclass(frozen=True)
class OccupancySpace:
    """What an occupancy is of, and how much each step of an episode counts."""

    state_only: bool = False
    """Whether of observations alone: certified only where both rewards look at nothing else."""
    columns: tuple[int, ...] | None = None
    """Which numbers of an observation; None takes all. Certified only where both rewards look at no others: then the
    bound is tighter, and the ratio of so few numbers is known from far fewer episodes."""
    arrived: bool = False
    """Whether of the observation after the step, where rewards look at what a step led to; else before it."""
    discount_weighting: bool = True
    """Whether a step at time t counts exp(-beta t), as in the theory; else all steps of an episode alike."""
    absorbing: bool = False
    """Whether an episode that ends early goes on in an absorbing state up to the horizon."""


@dataclass(frozen=True)
class Occupied:
    """Rows of an occupancy: features, what a row counts, and where absorbing rows belong."""

    features: Tensor  # [K, B, f]
    weight: Tensor  # [K, B] what a step counts, not normalised
    after_end: Tensor  # [K, B] what the absorbing state after a row counts; 0 where the row does not end the process
    onward: Tensor  # [K, B] discounted steps spent in that state, as seen from the row


def occupied(batch: Transitions, space: OccupancySpace, widths: tuple[int, int], horizon: float) -> Occupied:
    """Features and weights of consecutive rows; `widths` are those of the observation and the action without memory."""
    if "t" not in batch.extras:
        raise DataError("rows of an occupancy need the time in the episode, extras['t']; use RolloutSource")
    obs = (batch.next_obs if space.arrived else batch.obs)[..., : widths[0]]
    obs, action = obs if space.columns is None else obs[..., list(space.columns)], batch.action[..., : widths[1]]
    flag = torch.zeros_like(batch.reward).unsqueeze(-1)
    features = torch.cat([obs, flag] if space.state_only else [obs, action, flag], -1).float()
    dt, t = batch.dt.float(), batch.extras["t"].float()
    ended = batch.discount == 0.0
    kept = torch.where(ended, 1.0, batch.discount.float())
    rate = -(kept.log() / dt).amin()  # beta [1/s], the same everywhere
    weight = torch.exp(-rate * t) if space.discount_weighting else torch.ones_like(t)
    left = ((horizon - t) / dt - 1.0).clamp(min=0.0).round()  # steps that are missing after this one
    gamma = torch.exp(-rate * dt)
    onward = torch.where(rate > 0.0, gamma * (1.0 - gamma**left) / (1.0 - gamma).clamp(min=1e-12), left)
    onward = torch.where(ended, onward, 0.0)
    counts = weight * onward if space.discount_weighting else torch.where(ended, left, 0.0)
    if not space.absorbing:
        onward, counts = torch.zeros_like(onward), torch.zeros_like(counts)
    return Occupied(features, weight, counts, onward)


def gather_base(
    env: Environment, policy: Policy, *, paths: int = 256, episodes: int = 1, seed: int = 0
) -> Transitions:  # [K, B]
    """Whole episodes of the reference policy, at least two paths; the seed must not be that of the training."""
    check_integer("paths, episodes", paths, episodes)
    steps = env.spec.horizon / env.spec.dt
    if paths < 2 or episodes < 1 or not steps < float("inf"):
        raise ConfigError(
            f"need paths >= 2, episodes >= 1 and a finite horizon, got {paths}, {episodes} and {env.spec.horizon} s"
        )
    return rollout_with_reset(env, policy, begin(env, paths, seed=seed), episodes * round(steps))[0]


def true_reward(batch: Transitions) -> Tensor:
    """The true rewards of a batch, or an error that says how to have them."""
    if "true_reward" not in batch.extras:
        raise DataError(
            "the rows have no true reward (extras['true_reward']); write the environment's `true_reward`, or name "
            "it to GymSource"
        )
    return batch.extras["true_reward"]
