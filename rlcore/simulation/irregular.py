"""Rollouts whose decisions come at uneven times: between two of them the action is held and the process goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rlcore.data.batches import Trajectory
from rlcore.errors import ConfigError
from rlcore.simulation.environment import Environment
from rlcore.simulation.noise import Stream, step_noise
from rlcore.simulation.policy import Feedback, Policy
from rlcore.simulation.rollout import RolloutState, rollout


def _constant(action: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda obs: action


@torch.no_grad()
def rollout_irregular(
    env: Environment, policy: Policy, start: RolloutState, held: Sequence[int], *, deterministic: bool = False
) -> tuple[Trajectory, RolloutState]:
    """Decision k is held for `held[k]` control steps of the environment -> Trajectory [K, B, ...] on an uneven grid.

    All paths share the grid. The process noise is that of `rollout` at the same control steps, and rewards are summed
    over the steps between two decisions.
    """
    if not held or min(held) < 1:
        raise ConfigError(f"every action must be held for at least one control step, got {list(held)}")
    pieces = []
    for steps in held:
        noise = None
        if policy.noise_dim and not deterministic:
            noise = step_noise(start.seed, start.row, Stream.ACTION, start.step, 1, policy.noise_dim, env.dtype)[0]
        action = policy.act(env.observe(start.env), noise=noise)
        piece, start = rollout(env, Feedback(_constant(action)), start, steps)
        pieces.append(piece)
    t = torch.stack([*(piece.t[0] for piece in pieces), pieces[-1].t[-1]])
    trajectory = Trajectory(
        t,
        torch.stack([*(piece.obs[0] for piece in pieces), pieces[-1].obs[-1]]),
        torch.stack([piece.action[0] for piece in pieces]),
        torch.stack([piece.reward.sum(0) for piece in pieces]),
        t.diff(),
        torch.stack([piece.terminated[-1] for piece in pieces]),
    )
    return trajectory, start
