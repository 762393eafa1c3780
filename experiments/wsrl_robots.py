"""What the offline-to-online studies of MuJoCo's robots share: small agents, short runs, and the run itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from rlcore.agents.actor_critic import CqlConfig, NetworkConfig, SacConfig
from rlcore.envs.robotics.extra import require_robotics
from rlcore.experiments.offline_tasks import OfflineTask
from rlcore.experiments.wsrl_study import Study, compare, draw, summary
from rlcore.nn.ensemble import Layers
from rlcore.reporting.lines import Chart
from rlcore.training.recorder import Recorder

NETWORKS = NetworkConfig(critics=4, critic=Layers((64, 64), layer_norm=True), actor=Layers((64, 64)))


def small_offline(networks: NetworkConfig = NETWORKS) -> CqlConfig:
    """Cal-QL with these networks and high rates."""
    step = SacConfig(networks, critic_rate=1e-3, actor_rate=1e-3, target_actions=4)
    return CqlConfig(step, weight=1.0, calibrate=True, actions=4)


def small_online(networks: NetworkConfig = NETWORKS) -> SacConfig:
    """Soft actor-critic that goes on from `small_offline`."""
    return SacConfig(networks, critic_rate=1e-3, actor_rate=1e-3, critic_steps=2)


@dataclass(frozen=True)
class RobotStudy(Study):
    """Settings of a study that minutes suffice for."""

    seeds: int = 2
    offline_updates: int = 1000
    minibatch: int = 128
    steps: int = 600
    late: int = 600


PUBLISHED = Study(seeds=5, steps=200_000, early=(2000, 50_000), late=20_000, episodes=20)
Config = TypeVar("Config", bound=RobotStudy)


def published(config: Config) -> Config:
    """The same with data, seeds, steps and measurements at published sizes."""
    sizes = {name: getattr(PUBLISHED, name) for name in ("seeds", "minibatch", "steps", "early", "late", "episodes")}
    return replace(config, **sizes)


def run_study(
    config: Config,
    task_of: Callable[[Config, int, Path], OfflineTask],
    *,
    figure: str,
    title: str,
    seed: int,
    recorder: Recorder,
) -> dict[str, float]:
    """Pre-train once, fine-tune every arm, draw; returns the figures of `summary`. Data lie in a folder meanwhile."""
    require_robotics()
    with TemporaryDirectory() as folder:
        task = task_of(config, seed, Path(folder))
        found = compare(task, config, seed, recorder)
    if (path := recorder.figure_path(figure)) is not None:
        about = f"{task.name}; {config.seeds} seeds, mean and 95 % interval"
        x = "online steps after the warm-up, per seed"
        draw(found, Chart(title, about, x, "share", (), False, False, known=1.0), path)
    return recorder.finish(summary(found))
