"""From offline to online with MuJoCo's ant in a maze: with a warm-up, without one, and beside RLPD with the data kept.

rlcore run wsrl_ant_maze quick
rlcore run wsrl_ant_maze paper --maze large --kind diverse

Cal-QL learns from the data of `ant_maze_data`; then soft actor-critic goes on from it in an empty buffer, after K
steps of the frozen policy. A step is paid +5 at the goal and -5 elsewhere. What is drawn is the share of episodes
that reach the goal, by the deterministic policy. Against the paper: data of a gait instead of a trained goal-reacher,
the goal is observed, no ultra maze; RLPD here takes two critics per target, theirs one.
Source: Zhou et al., ICLR 2025, with its settings for AntMaze in `paper`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gymnasium
from torch import Tensor

from rlcore.agents.actor_critic import CqlConfig, DataSpaces, NetworkConfig, SacConfig
from rlcore.envs.robotics.ant_gait import AntGait
from rlcore.envs.robotics.ant_maze import DT, LIMITS, make_ant_maze
from rlcore.envs.robotics.extra import require_robotics
from rlcore.experiments import ant_maze_data
from rlcore.experiments.made_once import OnDisk
from rlcore.experiments.offline_tasks import OfflineTask
from rlcore.experiments.wsrl_study import Study, compare, draw, summary
from rlcore.interop.recording import copies_of, returns
from rlcore.nn.ensemble import Layers
from rlcore.reporting.lines import Chart
from rlcore.seeding import derive_seed
from rlcore.simulation.policy import Feedback, Policy
from rlcore.training.recorder import SILENT, Recorder

PUBLISHED = SacConfig(
    NetworkConfig(
        critic=Layers((256, 256, 256, 256), layer_norm=True),
        actor=Layers((256, 256), layer_norm=True),
        state_dependent_scale=False,
    ),
    target_actions=10,
    compiled=True,
)
NARROW = Layers((64, 64), layer_norm=True)
SMALL = SacConfig(
    NetworkConfig(critics=4, critic=NARROW, actor=Layers((64, 64)), state_dependent_scale=False),
    critic_rate=1e-3,
    actor_rate=1e-3,
)


@dataclass(frozen=True)
class Config(Study):
    """Settings of the experiment; a step is one control interval of one ant."""

    maze: str = "umaze"
    """umaze, medium or large."""
    kind: ant_maze_data.Kind = "play"
    """Which data: fixed, play or diverse, as in `ant_maze_data`."""
    data_steps: int = 14_000
    """Rows of the data set."""
    noise: float = 0.2
    """Standard deviation of the noise on the torques in the data."""
    gait: AntGait = field(default_factory=AntGait)
    """How the ant of the data walks."""
    seeds: int = 2
    offline_updates: int = 1000
    offline: CqlConfig = field(
        default_factory=lambda: CqlConfig(replace(SMALL, target_actions=4), weight=1.0, calibrate=True, actions=4)
    )
    """Cal-QL."""
    online: SacConfig = field(default_factory=lambda: replace(SMALL, critic_steps=2))
    """Soft actor-critic."""
    minibatch: int = 128
    steps: int = 600
    early: tuple[int, int] = (300, 600)
    late: int = 600
    episodes: int = 2


PRESETS = {
    "quick": Config(),
    "paper": Config(
        data_steps=1_000_000,
        seeds=5,
        offline_updates=1_000_000,
        offline=CqlConfig(PUBLISHED, weight=1.0, gap=0.8, calibrate=True),
        online=replace(PUBLISHED, critic_steps=4),
        minibatch=256,
        steps=200_000,
        early=(2000, 50_000),
        late=20_000,
        episodes=20,
    ),
}


def task_of(config: Config, seed: int, folder: Path) -> OfflineTask:
    """The maze with its data, which lie in the folder."""
    made = ant_maze_data.Config(steps=config.data_steps, noise=config.noise)
    ant_maze_data.check(made, config.maze, config.kind)
    arena, judge = ant_maze_data.task(config.maze), derive_seed(seed, "judge")

    def make() -> gymnasium.Env[Any, Any]:
        return make_ant_maze(arena)

    def arrivals(policy: Policy) -> Tensor:  # [S]
        paid = returns(Feedback(policy.act), make, episodes=config.seeds * config.episodes, seed=judge)  # 1 or 0
        return paid.view(config.episodes, config.seeds).mean(0)

    return OfflineTask(
        name=f"ant, {config.maze}, {config.kind} data",
        spaces=DataSpaces(31, 8),
        seeds=config.seeds,
        horizon=LIMITS[config.maze] * DT,
        rows=OnDisk(
            lambda: ant_maze_data.generate(config.maze, config.kind, made, config.gait, seed), folder / "rows.pt"
        ),
        source=lambda own: copies_of(make, config.seeds, dt=DT, discount_rate=ant_maze_data.DISCOUNT_RATE, seed=own),
        score=arrivals,
        scale=10.0,
        bias=-5.0,
        failure_reward=0.0,
    )


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Pre-train once, fine-tune every arm, draw; returns the figures of `summary`."""
    require_robotics()
    with TemporaryDirectory() as folder:
        task = task_of(config, seed, Path(folder))
        found = compare(task, config, seed, recorder)
    if (path := recorder.figure_path("wsrl_ant_maze")) is not None:
        about = f"{task.name}; {config.seeds} seeds, mean and 95 % interval"
        x = "online steps after the warm-up, per seed"
        draw(found, Chart("Episodes that arrive", about, x, "share", (), False, False, known=1.0), path)
    return recorder.finish(summary(found))
