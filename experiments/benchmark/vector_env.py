"""`gym.make_vec` on our native vector environment beside SyncVectorEnv over the same physics, NumPy in and out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

import rlcore.envs  # noqa: F401, registers the ids
from rlcore.experiments.benchmark.machine import machine
from rlcore.experiments.benchmark.plain_lqr import NumpyScalarLqr
from rlcore.experiments.benchmark.timing import interleave, table


def stepping(envs: VectorEnv[Any, Any, Any], steps: int) -> Callable[[], int]:
    """A workload of `steps` steps with a linear policy."""
    obs, _ = envs.reset(seed=0)

    def work() -> int:
        nonlocal obs
        for _ in range(steps):
            obs, *_ = envs.step(np.asarray(-0.5 * obs, dtype=np.float32))
        return envs.num_envs * steps

    return work


BYTES = 18.0
"""Of a step at the least: an action read, observation, reward in float64 and two ends written."""


def measure(batches: Sequence[int] = (1, 64, 1024, 4096), rounds: int = 7) -> list[dict[str, Any]]:
    """Environment steps per second; one thread."""
    torch.set_num_threads(1)
    return [row for batch in batches for row in rows(batch, rounds)]


def rows(copies: int, rounds: int) -> list[dict[str, Any]]:
    """One number of copies."""
    native = gymnasium.make_vec("rlcore/ScalarLqr-v0", copies, vectorization_mode="vector_entry_point")
    peer = SyncVectorEnv([NumpyScalarLqr] * copies, autoreset_mode=AutoresetMode.NEXT_STEP)
    works = {"rlcore make_vec": stepping(native, 100), "SyncVectorEnv": stepping(peer, max(2, 20480 // copies // 20))}
    rates = interleave(works, rounds=rounds, least=0.05)
    native.close()
    peer.close()
    about: dict[str, Any] = {"what": "make_vec, scalar LQ", "batch": copies, "limit": machine().limit(moved=BYTES)}
    return table(rates, "rlcore make_vec", **about, versions=f"gymnasium {gymnasium.__version__}")
