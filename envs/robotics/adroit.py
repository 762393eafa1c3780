"""Gymnasium-Robotics' Adroit hand with a binary reward: open a door, turn a pen.

A step is 0.01 s and costs 1 until the task is done; that step costs nothing and ends the episode (a true termination).
The time limit truncates. This stands in for the binary Adroit tasks of mj_envs, on which D4RL's hand data were made.

| task | observation | action | limit | done when                                                                   |
|------|-------------|--------|-------|-----------------------------------------------------------------------------|
| door | [39]        | [28]   | 200   | the door stands open by 1.35 rad or more; its latch must be turned first     |
| pen  | [45]        | [24]   | 100   | within 0.075 m of its place and within 18 degrees (cosine 0.95) of its aim   |

The action is where the joints are pulled to, on the unit box. The simulator clips it, no learner has to.
Sources: Rajeswaran et al., RSS 2018; de Lazcano et al., Gymnasium-Robotics; Nair et al., AWAC, 2020, for the rewards.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

from rlcore.envs.robotics.extra import require_robotics
from rlcore.errors import unknown_name

Array = NDArray[np.floating[Any]]
DT = 0.01  # s
TASKS = {"door": ("AdroitHandDoorSparse-v1", 200), "pen": ("AdroitHandPenSparse-v1", 100)}
SIZES = {"door": (39, 28), "pen": (45, 24)}  # of observation and action
HANDLE = slice(32, 35)  # columns of the door's observation: where its handle is [m]
DIRECTION, AIM, OFF = slice(33, 36), slice(36, 39), slice(39, 42)  # of the pen's: unit vectors, and how far away [m]


class EndsDone(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Costs 1 per step until the task is done, and ends there."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        gymnasium.Wrapper.__init__(self, env)

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        obs, _, _, truncated, info = self.env.step(action)
        done = bool(info["success"])
        return obs, done - 1.0, done, truncated and not done, info


class Clocked(gymnasium.Wrapper[Any, Any, Any, Any]):
    """The first observation of the episode and the time since [s] as more columns: what a planned movement needs."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        (width,) = env.observation_space.shape or (0,)
        self.observation_space = Box(-np.inf, np.inf, (2 * width + 1,), np.float64)
        self.first, self.steps = np.zeros(width), 0

    def seen(self, obs: Array) -> Array:
        return np.concatenate([obs, self.first, [self.steps * DT]])

    def reset(self, **settings: Any) -> tuple[Array, dict[str, Any]]:
        obs, info = self.env.reset(**settings)
        self.first, self.steps = obs.copy(), 0
        return self.seen(obs), info

    def step(self, action: Any) -> tuple[Array, Any, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.steps += 1
        return self.seen(obs), reward, terminated, truncated, info


def make_adroit(task: str, steps: int | None = None) -> gymnasium.Env[Any, Any]:
    """The hand at this task; `steps` is its time limit."""
    if task not in TASKS:
        raise unknown_name("Adroit task", task, TASKS)
    require_robotics()
    name, limit = TASKS[task]
    return EndsDone(gymnasium.make(name, max_episode_steps=steps or limit, disable_env_checker=True))
