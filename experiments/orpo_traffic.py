"""Merging cars by a cloned car-following law, then PPO on the mean speed, its occupancy held or not.

rlcore run orpo_traffic quick
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from rlcore.agents.orpo import PpoConfig, RatioConfig
from rlcore.envs.hacking.traffic import COMMANDS, Traffic, TrafficConfig, idm_policy
from rlcore.envs.hacking.traffic_model import CONTROLLED, RAMP, Cars
from rlcore.experiments.hacking_task import Arm, Effort, Task, run_task
from rlcore.simulation import Feedback
from rlcore.simulation.environment import EnvState
from rlcore.training.recorder import SILENT, Recorder

CONSTANTS = (-1.5, 0.5)
LEARNER = PpoConfig(trace_time=33.0, minibatch=512, epochs=4, rate=3e-4, target_kl=0.02)


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    env: TrafficConfig = field(default_factory=TrafficConfig)
    """Who enters."""
    arms: tuple[Arm, ...] = (Arm(), Arm("none"))
    """Ways to hold the occupancy, each from the clone."""
    effort: Effort = field(default_factory=Effort)
    """How much is gathered and learned."""
    learner: PpoConfig = LEARNER
    """PPO."""
    ratio: RatioConfig = field(default_factory=lambda: RatioConfig(steps=48))
    """How occupancies are compared."""


PRESETS = {
    "quick": Config(effort=Effort(iterations=20, evaluation_paths=8, base_paths=16)),
    "paper": Config(effort=Effort(paths=128, steps=150, iterations=250, base_paths=128, evaluation_paths=64)),
}


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Every arm from the clone; `parked` is the share of time with a controlled car at rest on the ramp."""
    env = Traffic(config.env)

    def measure(state: EnvState) -> dict[str, Tensor]:
        cars: Cars = env.cars(state)
        rests = (cars.kind == CONTROLLED) & (cars.branch == RAMP) & (cars.position < 0.0) & (cars.speed < 0.1)
        return {"parked": rests.any(1), "speed": cars.speed.sum(1) / (cars.kind > 0.0).sum(1).clamp(min=1)}

    known = {f"constant {a:g}": accelerate(a) for a in CONSTANTS}
    task = Task("orpo_traffic", env, idm_policy(), known, head="beta", measure=measure, note="300 s")
    return run_task(task, config.arms, config.effort, config.learner, config.ratio, seed, recorder)


def accelerate(a: float) -> Feedback:
    """The same acceleration for all controlled cars."""
    return Feedback(lambda obs: torch.full_like(obs[:, :COMMANDS], a))
