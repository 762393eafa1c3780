"""`gym.make_vec` on our native vector environment beside SyncVectorEnv over the same physics, NumPy in and out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

import rlcore.envs  # noqa: F401, registers the ids
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


def measure(copies: int = 1024) -> list[dict[str, Any]]:
    """Environment steps per second; one thread."""
    torch.set_num_threads(1)
    native = gymnasium.make_vec("rlcore/ScalarLqr-v0", copies, vectorization_mode="vector_entry_point")
    peer = SyncVectorEnv([NumpyScalarLqr] * copies, autoreset_mode=AutoresetMode.NEXT_STEP)
    rates = interleave({"rlcore make_vec": stepping(native, 400), "SyncVectorEnv": stepping(peer, 20)})
    native.close()
    peer.close()
    return table(rates, "rlcore make_vec", batch=copies, versions=f"gymnasium {gymnasium.__version__}")
