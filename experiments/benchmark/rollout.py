"""Rollouts by batch: pendulum, policy, Euler-Maruyama, scalar LQ, beside EnvPool, gymnax, JAX, C, torchsde, diffrax."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rlcore.envs.control.lqr import ScalarLqr
from rlcore.experiments.benchmark import euler_maruyama, pendulum
from rlcore.experiments.benchmark.machine import machine
from rlcore.experiments.benchmark.peer_process import PeerProcess
from rlcore.experiments.benchmark.plain_lqr import NumpyScalarLqr
from rlcore.experiments.benchmark.timing import Work, interleave, table
from rlcore.simulation import Feedback, begin, rollout, rollout_with_reset
from rlcore.simulation.rollout import Mode

BATCHES = (1, 64, 1024, 16384)


def measure(batches: Sequence[int] = BATCHES, rounds: int = 7) -> list[dict[str, Any]]:
    """Steps per core-second, observations, actions and rewards of every step kept; one thread."""
    torch.set_num_threads(1)
    with PeerProcess() as process:
        return [
            *pendulum.random_torques(process, batches, rounds),
            *pendulum.policy_rollout(process, [batch for batch in batches if batch > 1], rounds),
            *euler_maruyama.rows(process, [batch for batch in batches if batch > 1], rounds),
            *[row for batch in batches for row in scalar_lq(min(batch, 4096), rounds)],
        ]


def scalar_lq(batch: int, rounds: int = 7, steps: int = 128) -> list[dict[str, Any]]:
    """A linear policy on `ScalarLqr` beside SyncVectorEnv over the same physics; 12 bytes are kept of a step."""
    env = ScalarLqr()
    policy = Feedback(lambda x: -0.5 * x)
    stand = begin(env, batch, seed=0)
    peer = SyncVectorEnv([NumpyScalarLqr] * batch, autoreset_mode=AutoresetMode.SAME_STEP)
    peer_obs, _ = peer.reset(seed=0)
    peer_steps = max(1, steps // 32)

    def ours(loop: Callable[..., Any], mode: Mode) -> Work:
        def work() -> int:
            loop(env, policy, stand, steps, mode=mode)
            return batch * steps

        return work

    def gymnasium_sync() -> int:
        nonlocal peer_obs
        kept: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for _ in range(peer_steps):
            action = -0.5 * peer_obs
            after, reward, *_ = peer.step(action)
            kept.append((peer_obs, action, reward))
            peer_obs = after
        return batch * peer_steps

    workloads = {
        "rlcore rollout": ours(rollout, "compiled"),
        "rlcore with reset": ours(rollout_with_reset, "compiled"),
        "rlcore rollout, eager": ours(rollout, "eager"),
        "rlcore with reset, eager": ours(rollout_with_reset, "eager"),
        "SyncVectorEnv": gymnasium_sync,
    }
    rates = interleave(workloads, rounds=rounds, least=0.05)
    peer.close()
    about: dict[str, Any] = {"what": "scalar LQ", "batch": batch, "limit": machine().limit(moved=12.0)}
    return table(rates, "rlcore rollout", **about, versions=f"gymnasium {gymnasium.__version__}")
