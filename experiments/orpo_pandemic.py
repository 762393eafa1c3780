"""Regulations by a clone of ten scripted strategies, then PPO on the proxy, its occupancy held or not.

rlcore run orpo_pandemic quick
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from rlcore.agents.orpo import PpoConfig, RatioConfig
from rlcore.envs.hacking.pandemic import STAGE, Pandemic, PandemicConfig
from rlcore.envs.hacking.pandemic_policies import STRATEGIES, Follow, Pool, WaitForCases
from rlcore.experiments.hacking_task import Arm, Effort, Task, run_task
from rlcore.simulation import Policy
from rlcore.simulation.environment import EnvState
from rlcore.training.recorder import SILENT, Recorder

LEARNER = PpoConfig(trace_time=20.0, minibatch=512, epochs=5, rate=3e-4, entropy=0.01, target_kl=0.02)


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    env: PandemicConfig = field(default_factory=lambda: PandemicConfig(legacy=True))
    """How regulations act."""
    arms: tuple[Arm, ...] = (Arm(), Arm("none"))
    """Ways to hold the occupancy, each from the clone."""
    effort: Effort = field(default_factory=Effort)
    """How much is gathered and learned."""
    learner: PpoConfig = LEARNER
    """PPO; times in days."""
    ratio: RatioConfig = field(default_factory=lambda: RatioConfig(steps=48))
    """How occupancies are compared."""


PRESETS = {
    "quick": Config(effort=Effort(iterations=30, evaluation_paths=32, base_paths=40)),
    "paper": Config(effort=Effort(paths=128, steps=96, iterations=250, base_paths=160, evaluation_paths=128)),
}


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Every arm from the clone of the pooled strategies; what politics cost is the true less the proxy return."""

    def measure(state: EnvState) -> dict[str, Tensor]:
        return {"stage": state.x[:, STAGE]}

    known: dict[str, Policy] = {"wait for cases": WaitForCases(2), "never": Follow(STRATEGIES["S0"])}
    pool = Pool(tuple(Follow(schedule) for schedule in STRATEGIES.values()))
    task = Task(
        "orpo_pandemic", Pandemic(config.env), pool, known, measure=measure, note="192 days, ten strategies pooled"
    )
    return run_task(task, config.arms, config.effort, config.learner, config.ratio, seed, recorder)
