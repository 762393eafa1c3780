"""Offline data of a ball in mazes, as Minari sets: one controller that goes for the goal, one that runs other errands.

rlcore run point_maze_data quick
rlcore run point_maze_data paper --mazes large --kinds diverse --root data

Recipes of D4RL and of Minari's point maze: a waypoint controller with Gaussian noise. In `waypoint` it goes to the goal
that pays, from anywhere to anywhere. In `diverse` the goal that pays lies in the far corner, and the controller goes to
one random place after another, so that few episodes are paid and a way from the evaluation's start has to be put
together from pieces.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

import gymnasium
import torch
from torch import Tensor

from rlcore.data import Transitions, in_order, summary
from rlcore.envs.maze import LAYOUTS, PointMaze, PointMazeConfig, WaypointPolicy, layout
from rlcore.envs.maze.point_maze import GOAL_RADIUS
from rlcore.experiments.maze_figures import coverage
from rlcore.experiments.maze_sets import MazeSets, Report, asked, check_paths, check_set
from rlcore.interop.minari_write import About, size_label, write_minari
from rlcore.simulation import ControlSpec, Environment, EnvState, begin, rollout_with_reset
from rlcore.training.recorder import SILENT, Recorder

Kind = Literal["waypoint", "diverse"]
ID = "rlcore/PointMaze-v0"


@dataclass(frozen=True)
class Config(MazeSets):
    """Which sets to make, and how."""

    kinds: tuple[Kind, ...] = ("waypoint", "diverse")
    """waypoint: the controller goes for the goal; diverse: it goes from one random place to another."""
    paths: int = 250
    """Balls that run at once, each for steps / paths steps."""
    noise: float = 0.5
    """Standard deviation of the noise on the controller's force, before clipping to [-1, 1]."""
    dt: float = 0.01
    """Control interval [s]."""
    discount_rate: float = PointMazeConfig.discount_rate
    """beta [1/s]; the default is a factor of 0.99 per 0.01 s."""


PRESETS = {"quick": Config(steps=20_000, paths=20), "paper": Config()}


def task(maze: str, kind: Kind) -> str:
    """The maze in which a policy learned from the set is evaluated."""
    return maze if kind == "waypoint" else f"{maze}_far"


def collection(maze: str, kind: Kind, config: Config) -> dict[str, Any]:
    """Settings of the maze in which the set is gathered: that of the evaluation, but from anywhere."""
    drawing = "/".join(LAYOUTS[task(maze, kind)]).replace("R", ".")
    return {"maze": drawing, "horizon": PointMaze(PointMazeConfig(maze)).spec.horizon} | timing(config)


def timing(config: Config) -> dict[str, Any]:
    """Settings of every maze of the set that have to do with time."""
    return {"dt": config.dt, "discount_rate": config.discount_rate}


def generate(maze: str, kind: Kind, config: Config, seed: int) -> Transitions:
    """The rows of one set in order [N], a pure function of its arguments; observations are `PointMaze`'s."""
    check(config, maze, kind)
    steps = -(-config.steps // config.paths)
    env = PointMaze(PointMazeConfig(**collection(maze, kind, config)))
    wanderer = Wanderer(env, maze)
    aim = slice(4, 6) if kind == "waypoint" else slice(6, 8)
    policy = WaypointPolicy(env, config.noise, aim)
    rows = in_order(rollout_with_reset(wanderer, policy, begin(wanderer, config.paths, seed=seed), steps)[0])
    return rows.replace(obs=rows.obs[:, :6].contiguous(), next_obs=rows.next_obs[:, :6].contiguous())


class Wanderer(Environment):
    """A point maze in which somebody has errands of his own: columns 6 and 7 are where to go next, anywhere free."""

    def __init__(self, env: PointMaze, maze: str) -> None:
        spec = env.spec
        inner = (spec.dt, spec.horizon, spec.discount_rate)
        super().__init__(ControlSpec("rlcore/Wanderer", 8, 2, 3, *inner, initial_noise_dim=9), dtype=env.dtype)
        self.env, self.errands = env, PointMaze(PointMazeConfig(maze), dtype=env.dtype)

    def initial_state(self, noise: Tensor) -> EnvState:  # [B, 9]
        t, x = self.env.initial_state(noise[:, :6])
        return EnvState(t, torch.cat([x, self.errands.near(self.errands.goals, noise[:, 6:])], 1))

    def transition(self, state: EnvState, action: Tensor, noise: Tensor) -> tuple[EnvState, Tensor]:
        (t, x), reward = self.env.transition(EnvState(state.t, state.x[:, :6]), action, noise)
        errand, position = state.x[:, 6:], x[:, :2]
        done = (position - errand).norm(dim=1) <= GOAL_RADIUS
        return EnvState(t, torch.cat([x, self.errands.moved(errand, position, done, noise)], 1)), reward

    def terminated(self, state: EnvState) -> Tensor:  # -> bool [B]
        return self.env.terminated(state)

    def terminal_reward(self, state: EnvState) -> Tensor:  # -> [B]
        return self.env.terminal_reward(state)


def check(config: Config, maze: str, kind: str) -> None:
    """Raise unless there is such a set."""
    check_set(maze, kind, get_args(Kind))
    check_paths(config.steps, config.paths, "paths")


def describe(rows: Transitions, maze: str) -> dict[str, float]:
    """The figures of the table: `summary`, and the share of the free floor that is visited, in squares of 0.25 m."""
    return summary(rows) | {"coverage": coverage(rows.obs[:, :2], layout(maze))}


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Make the sets, write them, and say what is in them."""
    for maze, kind in (sets := asked(config, config.kinds)):
        check(config, maze, kind)
    report = Report()
    for maze, kind in sets:
        rows = generate(maze, kind, config, seed)
        name = f"point-maze/{maze}-{kind}-{size_label(config.steps)}-seed{seed}-v0"
        env = gymnasium.make(f"rlcore.envs:{ID}", **collection(maze, kind, config))
        eval_env = gymnasium.make(f"rlcore.envs:{ID}", maze=task(maze, kind), **timing(config))
        recipe = asdict(replace(config, mazes=(maze,), kinds=(kind,), root=""))
        about = About(
            dt=config.dt,
            seed=seed,
            algorithm="waypoint controller with Gaussian noise",
            description=(__doc__ or "").partition("\n")[0],
            recipe={"experiment": "point_maze_data"} | recipe,
            reference=(0.0, 1.0),
        )
        folder = write_minari(rows, name, about, env=env, eval_env=eval_env, root=config.root or None)
        report.add(maze, kind, name, rows, describe(rows, maze))
    return report.finish(folder, recorder)
