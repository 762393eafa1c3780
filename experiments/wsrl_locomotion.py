"""From offline to online on MuJoCo's runners: CQL, then WSRL with and without a warm-up, RLPD, and CQL with the data.

rlcore run wsrl_locomotion quick
rlcore run wsrl_locomotion paper --robot Hopper --kind expert
rlcore run wsrl_locomotion paper --robot Hopper --dataset locomotion/hopper-medium-replay-402k-seed0-v0

The data are those of `locomotion_data`, made first, or a Minari set. Rewards are dense, so that CQL is the published
pre-trainer and an advantage of WSRL is not to be taken for granted; K is the warm-up of the frozen policy, in steps.
The score is (R - R_random) / (R_expert - R_random) with both references measured on the same robot: by the run that
made the data, or as the set says. They are not D4RL's, whose robots are older. References are of policies with their
noise, the scores of deterministic ones, which may exceed the expert's 1.
Source: Zhou et al., ICLR 2025, appendix, for tasks and settings. Needs the extra `robotics`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from rlcore.agents.actor_critic import SAC, CqlConfig, NetworkConfig, SacConfig
from rlcore.experiments import locomotion_data
from rlcore.experiments.runner_tasks import RunnerData, runner_task
from rlcore.experiments.wsrl_arms import Beside
from rlcore.experiments.wsrl_study import Study, compare, draw, summary
from rlcore.nn.ensemble import Layers
from rlcore.reporting.lines import Chart
from rlcore.training.recorder import SILENT, Recorder

WIDE = Layers((256, 256), layer_norm=True)
PUBLISHED = SacConfig(NetworkConfig(critics=10, critic=WIDE, actor=WIDE), compiled=True)
NARROW = Layers((64, 64), layer_norm=True)
SMALL = SacConfig(
    NetworkConfig(critics=4, critic=NARROW, actor=replace(NARROW, layer_norm=False)),
    critic_rate=1e-3,
    actor_rate=3e-4,
    temperature_rate=3e-4,
    initial_temperature=0.2,
)
FEW_STEPS = locomotion_data.Config(
    training_steps=6000,
    warm_up=1000,
    evaluate_every=1000,
    learner=replace(
        SAC,
        networks=NetworkConfig(critics=2, critic=NARROW, actor=replace(NARROW, layer_norm=False)),
        critic_rate=1e-3,
        actor_rate=1e-3,
        temperature_rate=1e-3,
    ),
)
"""Data in minutes: what a small SAC with layer norm and high rates does in 6000 steps."""


@dataclass(frozen=True)
class Config(Study, RunnerData):
    """Settings of the experiment, as published; a step is one control interval of one robot."""

    offline_updates: int = 250_000
    """Updates of CQL."""
    offline: CqlConfig = field(default_factory=lambda: CqlConfig(replace(PUBLISHED, target_actions=10), weight=5.0))
    """CQL."""
    online: SacConfig = field(default_factory=lambda: replace(PUBLISHED, critic_steps=4))
    beside: tuple[Beside, ...] = ("RLPD", "CQL with data")
    steps: int = 300_000


PRESETS = {
    "quick": Config(
        robot="Hopper",
        seeds=3,
        making=FEW_STEPS,
        offline_updates=500,
        offline=CqlConfig(replace(SMALL, target_actions=4), weight=5.0, actions=4),
        online=replace(SMALL, critic_steps=2),
        minibatch=64,
        steps=600,
        early=(100, 600),
        late=200,
        episodes=5,
    ),
    "paper": Config(),
}


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Make or read the data, pre-train once, fine-tune every arm, draw; returns the figures of `summary`."""
    making = recorder.child("data")
    task = runner_task(config, seeds=config.seeds, episodes=config.episodes, seed=seed, recorder=making)
    found, behaviour = compare(task, config, seed, recorder), task.behaviour()
    if (path := recorder.figure_path("wsrl_locomotion")) is not None:
        about = f"{task.name}; {task.unit}; {config.seeds} seeds, mean and 95 % interval"
        x = "online steps after the warm-up, per seed"
        draw(found, Chart("Score", about, x, "score", task.known((0, config.steps)), False, False), path)
    return recorder.finish(summary(found) | {"behaviour": behaviour})
