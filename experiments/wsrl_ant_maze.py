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
from typing import Any

import gymnasium
from torch import Tensor

from rlcore.agents.actor_critic import CqlConfig, DataSpaces, NetworkConfig, SacConfig
from rlcore.envs.robotics.ant_gait import AntGait
from rlcore.envs.robotics.ant_maze import DT, LIMITS, make_ant_maze
from rlcore.experiments import ant_maze_data
from rlcore.experiments.made_once import OnDisk
from rlcore.experiments.offline_tasks import OfflineTask
from rlcore.experiments.wsrl_robots import NETWORKS, RobotStudy, published, run_study, small_offline, small_online
from rlcore.interop.recording import copies_of, returns
from rlcore.nn.ensemble import Layers
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
SMALL = replace(NETWORKS, state_dependent_scale=False)


@dataclass(frozen=True)
class Config(RobotStudy):
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
    offline: CqlConfig = field(default_factory=lambda: small_offline(SMALL))
    """Cal-QL."""
    online: SacConfig = field(default_factory=lambda: small_online(SMALL))
    """Soft actor-critic."""
    early: tuple[int, int] = (300, 600)
    episodes: int = 2


PRESETS = {
    "quick": Config(),
    "paper": published(
        Config(
            data_steps=1_000_000,
            offline_updates=1_000_000,
            offline=CqlConfig(PUBLISHED, weight=1.0, gap=0.8, calibrate=True),
            online=replace(PUBLISHED, critic_steps=4),
        )
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
    return run_study(
        config, task_of, figure="wsrl_ant_maze", title="Episodes that arrive", seed=seed, recorder=recorder
    )
