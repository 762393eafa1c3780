"""The rollout of the scalar LQ with a linear policy beside Gymnasium's SyncVectorEnv over the same physics."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rlcore.envs.control.lqr import ScalarLqr
from rlcore.experiments.benchmark.peers import NumpyScalarLqr
from rlcore.experiments.benchmark.timing import interleave, table
from rlcore.simulation import Feedback, begin, rollout, rollout_with_reset


def measure(batch: int = 4096, steps: int = 128) -> list[dict[str, Any]]:
    """Environment steps per second, observations, actions and rewards of every step kept; one thread."""
    torch.set_num_threads(1)
    env = ScalarLqr()
    policy = Feedback(lambda x: -0.5 * x)
    stand = begin(env, batch, seed=0)
    peer = SyncVectorEnv([NumpyScalarLqr] * batch, autoreset_mode=AutoresetMode.SAME_STEP)
    peer_obs, _ = peer.reset(seed=0)
    peer_steps = max(1, steps // 32)

    def ours() -> int:
        rollout(env, policy, stand, steps)
        return batch * steps

    def ours_with_reset() -> int:
        rollout_with_reset(env, policy, stand, steps)
        return batch * steps

    def gymnasium_sync() -> int:
        nonlocal peer_obs
        kept: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for _ in range(peer_steps):
            action = -0.5 * peer_obs
            after, reward, *_ = peer.step(action)
            kept.append((peer_obs, action, reward))
            peer_obs = after
        return batch * peer_steps

    rates = interleave({"rlcore rollout": ours, "rlcore with reset": ours_with_reset, "SyncVectorEnv": gymnasium_sync})
    peer.close()
    return table(rates, "rlcore rollout", batch=batch, versions=f"gymnasium {gymnasium.__version__}")
