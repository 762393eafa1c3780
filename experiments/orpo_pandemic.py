"""Regulations by a clone of scripted strategies, then PPO on the proxy, its occupancy held or not.

rlcore run orpo_pandemic quick
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from torch import Tensor

from rlcore.agents.orpo import PpoConfig, RatioConfig
from rlcore.envs.hacking.pandemic import SEEN, STAGE, Pandemic, PandemicConfig
from rlcore.envs.hacking.pandemic_policies import STRATEGIES, Follow, Pool, WaitForCases
from rlcore.errors import ConfigError
from rlcore.experiments.hacking_task import Arm, Effort, Task, run_task
from rlcore.simulation import Policy
from rlcore.simulation.environment import EnvState
from rlcore.training.recorder import SILENT, Recorder

# no entropy: it would be early raises
LEARNER = PpoConfig(trace_time=20.0, minibatch=2048, epochs=5, rate=3e-4, target_kl=0.02)
PUBLISHED = replace(LEARNER, minibatch=512, entropy=0.1, entropy_final=0.01, anneal_steps=500_000)
Base = Literal["cautious", "pool", "published"]


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    env: PandemicConfig = field(default_factory=lambda: PandemicConfig(legacy=True))
    """How regulations act."""
    base: Base = "cautious"
    """cautious: four that wait for ten cases, with stages 1 to 4; pool: ten strategies by the day, early raises too;
    published: these ten by the follower that walks backwards, so that nothing is ever raised."""
    r: float | None = 0.9
    """Correlation that is relied on; None takes that of the clone's rewards, which one rare slip of the
    clone makes small; who never raises early has r = 1, and then nothing is held. 0.99 lets slips grow."""
    arms: tuple[Arm, ...] = (Arm(), Arm("none"))
    """Ways to hold the occupancy, each from the clone."""
    effort: Effort = field(default_factory=Effort)
    """How much is gathered and learned."""
    learner: PpoConfig = LEARNER
    """PPO; times in days."""
    ratio: RatioConfig = field(default_factory=lambda: RatioConfig(steps=48))
    """How occupancies are compared."""


PRESETS = {
    "quick": Config(effort=Effort(128, 64, 20, 128, 4000, evaluation_paths=128, evaluations=4)),
    "paper": Config(effort=Effort(128, 96, 250, 160, 4000, evaluation_paths=128)),
    "published": Config(
        base="published",
        effort=Effort(paths=40, iterations=30, cloning_steps=1000, base_paths=40, evaluations=3),
        learner=replace(PUBLISHED, anneal_steps=50_000),
    ),
}


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Every arm from the clone of the base; what politics cost is the true less the proxy return.

    `premature` counts the days of an episode that raise the stage while fewer than 0.5 % are known to be ill.
    """
    if config.base not in get_args(Base):
        raise ConfigError(f"base must be one of {', '.join(get_args(Base))}, got {config.base!r}")
    env = Pandemic(config.env)

    def measure(state: EnvState) -> dict[str, Tensor]:
        return {"stage": state.x[:, STAGE], "premature": days * premature(env.observe(state))}

    days = config.env.horizon / env.spec.dt
    waiting = tuple(WaitForCases(stage, 0.5) for stage in (1, 2, 3, 4))
    strategies = tuple(Follow(schedule, backwards=config.base == "published") for schedule in STRATEGIES.values())
    known: dict[str, Policy] = {"wait for cases": WaitForCases(2), "never": Follow(STRATEGIES["S0"])}
    known |= {"wait, then lower": WaitForCases(2, 1.0), "stage 2 at once": Follow(STRATEGIES["S2"])}
    task = Task(
        "orpo_pandemic",
        env,
        Pool(waiting if config.base == "cautious" else strategies),
        known,
        measure=measure,
        r=config.r,
        note=f"{days:g} days, {config.base} base",
    )
    return run_task(task, config.arms, config.effort, config.learner, config.ratio, seed, recorder)


def premature(obs: Tensor) -> Tensor:  # [B, 13 history] -> [B]
    """Whether the last day raised the stage though fewer than 0.5 % were known to be ill or dead the day before."""
    today, before = obs[:, -SEEN:], obs[:, -2 * SEEN : -SEEN]
    known = before[:, [4, 5, 7, 9, 10, 12]].sum(1)  # infected, critical, dead, of either variant
    return ((today[:, 1] > before[:, 1] + 0.1) & (known < 0.005)).to(obs)
