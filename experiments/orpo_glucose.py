"""Insulin by a cloned PID controller, then PPO on the cost of treatment, its occupancy held or not.

rlcore run orpo_glucose quick
"""

from __future__ import annotations

from dataclasses import dataclass, field

from rlcore.agents.orpo import PpoConfig, RatioConfig
from rlcore.envs.hacking.glucose import Glucose, GlucoseConfig
from rlcore.envs.hacking.glucose_policies import pid
from rlcore.experiments.hacking_study import constant, glucose_figures
from rlcore.experiments.hacking_task import Arm, Effort, Task, run_task
from rlcore.training.recorder import SILENT, Recorder

TWO_DAYS = 2880.0
CONSTANTS = (0.0, 0.034)
LEARNER = PpoConfig(trace_time=250.0, minibatch=512, epochs=4, rate=3e-4, clip=0.1, target_kl=0.02)


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    env: GlucoseConfig = field(default_factory=lambda: GlucoseConfig(legacy=True, any_hour=True, horizon=TWO_DAYS))
    """Who is treated; short episodes that begin at any hour."""
    arms: tuple[Arm, ...] = (Arm(), Arm("none"))
    """Ways to hold the occupancy, each from the clone."""
    effort: Effort = field(default_factory=Effort)
    """How much is gathered and learned."""
    learner: PpoConfig = LEARNER
    """PPO; times in minutes."""
    ratio: RatioConfig = field(default_factory=RatioConfig)
    """How occupancies are compared."""


PRESETS = {
    "quick": Config(effort=Effort(iterations=20, evaluation_paths=16, base_paths=16)),
    "paper": Config(effort=Effort(paths=128, steps=96, iterations=400, base_paths=128, evaluation_paths=64)),
}


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Every arm from the clone; returns are those of 20 days."""
    env = Glucose(config.env)
    known = {f"constant {a:.3f}": constant(a) for a in CONSTANTS}
    half = round(0.5 * config.env.horizon / config.env.dt)
    task = Task(
        "orpo_glucose",
        env,
        pid(env),
        known,
        head="beta",
        measure=glucose_figures,
        burn_in=half,
        per_episode=5760.0 / half,
        note=f"{config.env.patient}, per 20 days",
    )
    return run_task(task, config.arms, config.effort, config.learner, config.ratio, seed, recorder)
