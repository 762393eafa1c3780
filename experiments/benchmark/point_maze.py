"""Our point mazes as one batch beside Gymnasium-Robotics' on MuJoCo, the same maze and random forces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from rlcore.envs import make
from rlcore.experiments.benchmark.timing import interleave, table
from rlcore.simulation import UniformPolicy, begin, rollout_with_reset


def batch(maze: str, copies: int, steps: int) -> Callable[[], int]:
    """A workload: `steps` steps of all copies, with resets, every row kept."""
    env = make("rlcore/PointMaze-v0", maze=maze)
    policy, state = UniformPolicy(-1.0, 1.0, 2), begin(env, copies, seed=0)

    def work() -> int:
        nonlocal state
        _, state = rollout_with_reset(env, policy, state, steps)
        return copies * steps

    return work


def peer(maze: str, steps: int) -> tuple[Callable[[], int], str]:
    """The same with one MuJoCo environment, and its version."""
    import gymnasium
    import gymnasium_robotics
    import mujoco

    gymnasium.register_envs(gymnasium_robotics)
    env = gymnasium.make(f"PointMaze_{maze.capitalize()}-v3", continuing_task=False)
    env.reset(seed=0)
    forces = np.random.default_rng(0).uniform(-1.0, 1.0, (steps, 2)).astype(np.float32)

    def work() -> int:
        for force in forces:
            _, _, terminated, truncated, _ = env.step(force)
            if terminated or truncated:
                env.reset()
        return steps

    return work, f"gymnasium-robotics {gymnasium_robotics.__version__}, mujoco {mujoco.__version__}"


def measure(copies: int = 4096) -> list[dict[str, Any]]:
    """Environment steps per second; one thread."""
    torch.set_num_threads(1)
    theirs, versions = peer("large", 2000)
    rates = interleave({"rlcore PointMaze": batch("large", copies, 25), "PointMaze_Large-v3": theirs})
    return table(rates, "rlcore PointMaze", batch=copies, versions=versions)
