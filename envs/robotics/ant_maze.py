"""Gymnasium-Robotics' AntMaze (v5) in the mazes of this package, and somebody who knows the way.

The observation is one vector:

| #      | quantity                                                             | unit     |
|--------|----------------------------------------------------------------------|----------|
| 0, 1   | position x, y of the torso                                           | m        |
| 2, 3   | goal x, y                                                            | m        |
| 4-30   | height, orientation, joints, and their velocities, as `walk` has them | m, rad, s |

The action is 8 torques in [-1, 1]. A step is 0.05 s. Arrival within 0.45 m of the goal pays 1 and ends the episode; the
time limit truncates it. An ant that lies on its back is not helped up: its episode lasts to the limit. Against D4RL's
antmaze: the goal is part of the observation and 0.05 m smaller, starts and goals vary by up to 1 m, and it is MuJoCo's
newer ant.
Sources: Fu et al., "D4RL", arXiv 2004.07219; de Lazcano et al., Gymnasium-Robotics.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box
from gymnasium.wrappers import FlattenObservation
from numpy.typing import NDArray
from torch import Tensor

from rlcore.checks import check_not_negative
from rlcore.envs.maze import Layout, layout
from rlcore.envs.maze.waypoints import cell_of, next_cells
from rlcore.envs.robotics.ant_gait import AntGait, walk
from rlcore.envs.robotics.extra import require_robotics

Array = NDArray[np.floating[Any]]
DT = 0.05  # s
CELL = 4.0  # side of a cell [m]
LIMITS = {"umaze": 700, "medium": 1000, "large": 1000}  # steps of an episode; Gymnasium-Robotics' own
MARKS: dict[str, int | str] = {"#": 1, ".": 0, "R": "r", "G": "g", "C": "c"}
LOOK_AHEAD = 1.5  # m, on the middle line of a corridor
ERRAND_RADIUS = 1.0  # m


def make_ant_maze(maze: str = "umaze", steps: int | None = None) -> gymnasium.Env[Any, Any]:
    """The ant in the maze of this name, or the one that is drawn (see `layout`); `steps` is its time limit."""
    found = layout(maze)
    require_robotics()
    limit = next((limit for name, limit in LIMITS.items() if maze.startswith(name)), 1000)
    env = gymnasium.make(
        "AntMaze_UMaze-v5",
        maze_map=[[MARKS[letter] for letter in row] for row in found.rows],
        continuing_task=False,
        include_cfrc_ext_in_observation=False,
        max_episode_steps=limit if steps is None else steps,
        disable_env_checker=True,
    )
    Path(env.get_wrapper_attr("tmp_xml_file_path")).unlink(missing_ok=True)  # read already, and otherwise never removed
    return FlattenObservation(env)


class Errands(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An ant that has errands of its own: columns 31 and 32 are where to go next, anywhere free in the maze."""

    def __init__(self, env: gymnasium.Env[Any, Any], maze: Layout) -> None:
        super().__init__(env)
        self.places = [np.array(maze.centre(cell)) * CELL for cell in maze.cells(".RGC")]
        self.observation_space = Box(-np.inf, np.inf, (33,), np.float64)
        self.errand = self.places[0]

    def draw(self) -> None:
        """The next errand: a free cell, up to a quarter of its side off its middle."""
        random = self.unwrapped.np_random
        cell = self.places[int(random.integers(len(self.places)))]
        self.errand = cell + CELL * random.uniform(-0.25, 0.25, 2)

    def reset(self, **settings: Any) -> tuple[Array, dict[str, Any]]:
        obs, info = self.env.reset(**settings)
        self.draw()
        return np.concatenate([obs, self.errand]), info

    def step(self, action: Any) -> tuple[Array, Any, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        if np.hypot(*(obs[:2] - self.errand)) <= ERRAND_RADIUS:
            self.draw()
        return np.concatenate([obs, self.errand]), reward, terminated, truncated, info


class AntWaypointPolicy:
    """Walks along the middle of the corridors of a shortest way, then straight to its end.

    The heading is towards a point of the middle line `LOOK_AHEAD` further on, so that corners are cut but not touched.
    `aim` says in which columns of an observation the end is; `noise` is the standard deviation of the Gaussian that is
    added to the torques before clipping.
    """

    noise_dim = 8

    def __init__(self, maze: Layout, gait: AntGait, noise: float = 0.0, aim: slice = slice(2, 4)) -> None:
        check_not_negative("noise", noise)
        self.gait, self.noise, self.aim = gait, noise, aim
        self.shape = height, width = maze.walls.shape
        self.table = torch.from_numpy(next_cells(maze))  # [H W, H W]
        self.centres = torch.tensor(
            [maze.centre((i, j)) for i in range(height) for j in range(width)]
        )  # [H W, 2] cells

    def heading(self, position: Tensor, end: Tensor) -> Tensor:  # [B, 2], [B, 2] m -> [B] rad
        """The way to go, from the x axis."""
        centres = CELL * self.centres.to(position)
        here, there = (cell_of(point / CELL, self.shape) for point in (position, end))
        along = (centres[self.table[here, there]] - centres[here]) / CELL  # [B, 2], a unit vector or 0
        off = position - centres[here]
        lateral = off - (off * along).sum(1, keepdim=True) * along
        direction = torch.where((here == there).unsqueeze(1), end - position, LOOK_AHEAD * along - lateral)
        return torch.atan2(direction[:, 1], direction[:, 0])

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:  # [B, 31 or more] -> [B, 8]
        torque = walk(self.gait, obs[:, 4:31], self.heading(obs[:, :2], obs[:, self.aim]))
        return torque if noise is None else (torque + self.noise * noise).clamp(-1.0, 1.0)
