"""Insulin by a cloned PID controller, then PPO on the cost of treatment, its occupancy held or not.

rlcore run orpo_glucose quick
rlcore run orpo_glucose paper
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from rlcore.agents.orpo import OccupancySpace, PpoConfig, RatioConfig, RegularizerConfig
from rlcore.envs.hacking.glucose import HISTORY, Glucose, GlucoseConfig
from rlcore.envs.hacking.glucose_policies import pid
from rlcore.experiments.hacking_study import constant, glucose_figures
from rlcore.experiments.hacking_task import Arm, Effort, Task, run_task
from rlcore.training.recorder import SILENT, Recorder

DAY, DAYS = 1440.0, 20  # [min], of a published episode
CONSTANTS = (0.0, 0.030, 0.034)
# slowly, and ever more so: the patient answers to a policy days later, twenty batches; and what is kept is a mean
LEARNER = PpoConfig(
    trace_time=250.0,
    minibatch=2048,
    epochs=8,
    rate=3e-4,
    rate_final=2e-5,
    anneal_steps=400 * 128 * 64,
    average_steps=100 * 128 * 64,
    clip=0.1,
    target_kl=0.02,
    compiled=True,
)
# a quarter of sd(P), lambda* of r = 0.97; the published grids try 1, 0.5, 0.2, 0.1 sd(P)
HELD_AT = Arm("sqrt_chi2", 0.0125)
LATEST = (HISTORY - 1, 2 * HISTORY - 1)  # of what is observed after a step: glucose and infusion, all that is paid for
HELD = RegularizerConfig(
    space=OccupancySpace(state_only=True, columns=LATEST, arrived=True, discount_weighting=False),
    centred=True,
    least=0.2,
)


QUICK = Effort(
    paths=128,
    steps=64,
    iterations=400,
    base_paths=32,
    cloning_steps=1500,
    cloning_rate_final=0.0,  # at a constant rate clones of some seeds are far from the controller
    evaluation_paths=16,
    evaluations=4,
    staggered=True,
)


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    env: GlucoseConfig = field(default_factory=lambda: GlucoseConfig(legacy=True, any_hour=True, compiled=True))
    """Who is treated; episodes of 20 days that begin at any hour: the controller's integral needs five of them."""
    arms: tuple[Arm, ...] = (HELD_AT, Arm("none"))
    """Ways to hold the occupancy, each from the clone."""
    effort: Effort = QUICK
    """How much is gathered and learned."""
    learner: PpoConfig = LEARNER
    """PPO; times in minutes."""
    ratio: RatioConfig = field(default_factory=RatioConfig)
    """How occupancies are compared."""


PRESETS = {
    "quick": Config(),
    "paper": Config(arms=(Arm(), HELD_AT, Arm("none")), effort=replace(QUICK, evaluation_paths=64)),
}


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Every arm from the clone; returns are those of 20 days after a first one."""
    env = Glucose(config.env)
    known = {f"constant {a:.3f}": constant(a) for a in CONSTANTS}
    horizon, dt = config.env.horizon, config.env.dt
    warm_up = round(min(DAY, 0.5 * horizon) / dt)
    task = Task(
        "orpo_glucose",
        env,
        pid(env),
        known,
        head="beta",
        measure=glucose_figures,
        held=HELD,
        burn_in=warm_up,
        per_episode=DAYS * DAY / dt / (round(horizon / dt) - warm_up),
        note=f"{config.env.patient}, per {DAYS} days",
    )
    return run_task(task, config.arms, config.effort, config.learner, config.ratio, seed, recorder)
