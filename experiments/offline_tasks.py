"""Problems with a data set, as the offline and the offline-to-online studies see them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rlcore.agents.actor_critic.networks import Spaces
from rlcore.data import Transitions, summary
from rlcore.envs.maze import PointMaze, PointMazeConfig
from rlcore.experiments import point_maze_data
from rlcore.reporting.evaluation import evaluate
from rlcore.reporting.lines import Line
from rlcore.simulation.modes import Mode
from rlcore.simulation.policy import Policy
from rlcore.training import RolloutSource, Source
from rlcore.training.prepare import with_returns


@dataclass(frozen=True)
class OfflineTask:
    """A problem, a data set of it, and S learners side by side; row b of a batch of paths is of learner b mod S."""

    name: str
    """What it is called in figures."""
    spaces: Spaces
    """Sizes of observation and action, and the action's box."""
    seeds: int
    """S."""
    horizon: float
    """Length of the longest episode [s]."""
    rows: Callable[[], Transitions]
    """The data set, rows in order [N], with the problem's own rewards."""
    source: Callable[[int], Source[Transitions]]
    """From a seed: S fresh paths, one step of each per call, with the problem's own rewards."""
    score: Callable[[Policy], Tensor]
    """What is drawn, of each learner [S], from episodes of the deterministic policy; an expert has 1."""
    unit: str = ""
    """What the score is, in a few words."""
    earned: Callable[[float], float] = float
    """The score of an episode's undiscounted return, with the problem's own rewards."""
    scale: float = 1.0
    """What rewards are multiplied with before anyone learns from them."""
    bias: float = 0.0
    """What is then added to them."""
    failure_reward: float | None = None
    """The reward of a step that fails, where the task is sparse; see `with_returns`."""

    def data(self) -> Transitions:
        """The data set as learners see it: rewards rescaled, with the returns that followed."""
        return with_returns(self.rows(), scale=self.scale, bias=self.bias, failure_reward=self.failure_reward)

    def behaviour(self) -> float:
        """The mean score of the episodes in the data."""
        return self.earned(summary(self.rows())["return/mean"])

    def known(self, ends: tuple[float, float]) -> list[Line]:
        """The data's mean score and the expert's, across a chart whose abscissa has these ends."""
        scores = {"data": self.behaviour(), "expert": 1.0}
        return [Line(name, ends, (score, score), theory=True) for name, score in scores.items()]


@dataclass(frozen=True)
class MazeData:
    """A maze and its data; a step is one control interval of one ball."""

    maze: str = "medium"
    """umaze, medium or large."""
    kind: point_maze_data.Kind = "diverse"
    """Which data: of a controller that runs errands (diverse), or that goes for the goal (waypoint)."""
    dt: float = 0.05
    """Control interval [s]."""
    data_steps: int = 50_000
    """Rows of the data set."""
    time_cost: float = 20.0
    """Reward lost per second before the goal [1/s]."""
    discount_rate: float = PointMazeConfig.discount_rate
    """beta [1/s]; a goal further away than a few times 1 / beta can hardly be told from none."""
    mode: Mode = "eager"
    """How rollouts are carried out: 'eager', 'compiled', 'graph' on a GPU, or 'auto', by device and size."""


def maze_task(about: MazeData, *, seeds: int, episodes: int, seed: int) -> OfflineTask:
    """The point maze: 1 on arrival becomes 0, and 0 on the way -time_cost dt; the score is the share that arrives."""
    made = point_maze_data.Config(steps=about.data_steps, paths=50, dt=about.dt, discount_rate=about.discount_rate)
    arena = point_maze_data.task(about.maze, about.kind)
    env = PointMaze(PointMazeConfig(maze=arena, **point_maze_data.timing(made)))
    cost = about.time_cost * about.dt

    def arrivals(policy: Policy) -> Tensor:  # [S]
        found = evaluate(policy, env, paths=seeds * episodes)
        return torch.tensor(found.totals).view(episodes, seeds).mean(0)

    return OfflineTask(
        name=f"{about.maze} maze, {about.kind} data",
        spaces=env.spec,
        seeds=seeds,
        horizon=env.spec.horizon,
        rows=lambda: point_maze_data.generate(about.maze, about.kind, made, seed),
        source=lambda own: RolloutSource(env, seeds, 1, seed=own, mode=about.mode),
        score=arrivals,
        unit="share of episodes that arrive",
        scale=cost,
        bias=-cost,
        failure_reward=0.0,
    )
