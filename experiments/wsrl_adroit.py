"""From offline to online with the Adroit hand: with a warm-up, without one, and beside RLPD, which keeps the data.

rlcore run wsrl_adroit quick
rlcore run wsrl_adroit paper --task door

Cal-QL learns from the data of `adroit_data`; then soft actor-critic goes on from it in an empty buffer, after K steps
of the frozen policy. A step costs 5 until the task is done and pays 5 then, which ends the episode. What is drawn is
the share of episodes that are ever done, by the deterministic policy. Learners see
actions up to the ends of the box; nothing is clipped to less, as the published code does on other tasks. Against the
paper: data of planned movements with noise instead of people, Gymnasium-Robotics' hand instead of mj_envs'.
Source: Zhou et al., ICLR 2025, with its settings for Adroit in `paper`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gymnasium
from torch import Tensor

from rlcore.agents.actor_critic import CqlConfig, DataSpaces, NetworkConfig, SacConfig
from rlcore.envs.robotics.adroit import DT, SIZES, TASKS, make_adroit
from rlcore.experiments import adroit_data
from rlcore.experiments.adroit_search import HandSearch
from rlcore.experiments.made_once import OnDisk
from rlcore.experiments.offline_tasks import OfflineTask
from rlcore.experiments.wsrl_robots import RobotStudy, published, run_study, small_offline, small_online
from rlcore.interop.recording import copies_of, returns
from rlcore.nn.ensemble import Layers
from rlcore.seeding import derive_seed
from rlcore.simulation.policy import Feedback, Policy
from rlcore.training.recorder import SILENT, Recorder

PUBLISHED = SacConfig(
    NetworkConfig(critic=Layers((512, 512, 512), layer_norm=True), actor=Layers((512, 512), layer_norm=True)),
    target_actions=10,
    compiled=True,
)


@dataclass(frozen=True)
class Config(RobotStudy):
    """Settings of the experiment; a step is one control interval of one hand."""

    task: str = "pen"
    """door or pen."""
    data_steps: int = 10_000
    """Rows of the data set."""
    noise: float = 0.2
    """Standard deviation of the noise on the actions in the data."""
    search: HandSearch = field(default_factory=HandSearch)
    """For the movements behind the data."""
    offline: CqlConfig = field(default_factory=small_offline)
    """Cal-QL."""
    online: SacConfig = field(default_factory=small_online)
    """Soft actor-critic."""
    early: tuple[int, int] = (200, 600)
    episodes: int = 10


PRESETS = {
    "quick": Config(),
    "paper": published(
        Config(
            data_steps=1_000_000,
            offline_updates=20_000,
            offline=CqlConfig(PUBLISHED, weight=1.0, calibrate=True),
            online=replace(PUBLISHED, critic_steps=4, target_actions=1),
        )
    ),
}


def task_of(config: Config, seed: int, folder: Path) -> OfflineTask:
    """The hand at its task with its data, which lie in the folder."""
    made = adroit_data.Config(steps=config.data_steps, noise=config.noise, search=config.search)
    adroit_data.check(made, config.task)
    limit, judge = TASKS[config.task][1], derive_seed(seed, "judge")

    def make() -> gymnasium.Env[Any, Any]:
        return make_adroit(config.task)

    def done(policy: Policy) -> Tensor:  # [S]
        paid = returns(Feedback(policy.act), make, episodes=config.seeds * config.episodes, seed=judge)
        in_time = (paid > -limit).double()  # -1 for every step where it is never done
        return in_time.view(config.episodes, config.seeds).mean(0)

    return OfflineTask(
        name=f"Adroit, {config.task}",
        spaces=DataSpaces(*SIZES[config.task]),
        seeds=config.seeds,
        horizon=limit * DT,
        rows=OnDisk(lambda: adroit_data.generate(config.task, made, seed), folder / "rows.pt"),
        source=lambda own: copies_of(make, config.seeds, dt=DT, discount_rate=adroit_data.DISCOUNT_RATE, seed=own),
        score=done,
        scale=10.0,
        bias=5.0,
        failure_reward=-1.0,
    )


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Pre-train once, fine-tune every arm, draw; returns the figures of `summary`."""
    return run_study(
        config, task_of, figure="wsrl_adroit", title="Episodes that are done", seed=seed, recorder=recorder
    )
