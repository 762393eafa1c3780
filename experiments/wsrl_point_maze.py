"""From offline to online in a maze without the data: with a warm-up, without one, and beside RLPD, which keeps them.

rlcore run wsrl_point_maze quick
rlcore run wsrl_point_maze paper --maze large --warm-ups 0 1000 5000 20000

Cal-QL learns from a fixed data set; then soft actor-critic goes on from it in an empty buffer, after K steps of the
frozen policy. RLPD starts from nothing and has data in half of every batch. All seeds of an arm are one batch:
independent networks, balls and buffers beside each other. Rewards are a cost of time, -`time_cost` per second until the
goal is reached. What is drawn is the share of episodes that reach the goal, by the deterministic policy.
Source: Zhou et al., ICLR 2025, figures 3 to 6, on D4RL's mazes; here the data are made anew, so numbers differ.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from rlcore.agents.actor_critic import CqlConfig, IqlConfig, NetworkConfig, SacConfig
from rlcore.experiments.offline_tasks import MazeData, OfflineTask, maze_task
from rlcore.experiments.wsrl_study import Study, compare, draw, summary
from rlcore.nn.ensemble import Layers
from rlcore.reporting.lines import Chart
from rlcore.training.recorder import SILENT, Recorder

LAYERS = Layers((64, 64), layer_norm=True)
SOFT = SacConfig(
    NetworkConfig(critics=5, critic=LAYERS, actor=replace(LAYERS, layer_norm=False)),
    critic_rate=1e-3,
    actor_rate=3e-4,
    temperature_rate=3e-4,
    target_rate=0.02,
    initial_temperature=0.2,
    compiled=True,
)


@dataclass(frozen=True)
class Config(Study, MazeData):
    """Settings of the experiment; a step is one control interval of one ball."""

    offline_updates: int = 500
    """Updates of Cal-QL; few enough that it arrives in half of all episodes, and there is something left to learn."""
    offline: CqlConfig = field(
        default_factory=lambda: CqlConfig(replace(SOFT, target_actions=4), weight=1.0, calibrate=True, actions=4)
    )
    """Cal-QL."""
    online: SacConfig = field(default_factory=lambda: replace(SOFT, critic_steps=4, temperature_rate=1e-2))
    """Soft actor-critic."""
    implicit: IqlConfig = field(
        default_factory=lambda: IqlConfig(
            SOFT.networks, expectile=0.9, inverse_temperature=10.0, rate=1e-3, target_rate=0.02
        )
    )
    """Implicit Q-learning, with the same networks."""
    minibatch: int = 128
    steps: int = 1000
    early: tuple[int, int] = (100, 1000)
    late: int = 500


PRESETS = {
    "quick": Config(),
    "paper": Config(
        data_steps=1_000_000,
        offline_updates=100_000,
        offline=CqlConfig(SacConfig(compiled=True, target_actions=10), weight=5.0, calibrate=True),
        online=SacConfig(compiled=True, critic_steps=4),
        implicit=Study().implicit,
        minibatch=256,
        warm_ups=(0, 1000, 5000, 20_000),
        steps=200_000,
        early=(2000, 50_000),
        late=20_000,
    ),
}


def task_of(config: Config, seed: int) -> OfflineTask:
    """The maze with its data."""
    return maze_task(config, seeds=config.seeds, episodes=config.episodes, seed=seed)


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Pre-train once, fine-tune every arm, draw; returns the figures of `summary`."""
    task = task_of(config, seed)
    found = compare(task, config, seed, recorder)
    if (path := recorder.figure_path("wsrl_point_maze")) is not None:
        about = f"{task.name}; {config.seeds} seeds, mean and 95 % interval"
        x = "online steps after the warm-up, per seed"
        draw(found, Chart("Episodes that arrive", about, x, "share", (), False, False, known=1.0), path)
    return recorder.finish(summary(found))
