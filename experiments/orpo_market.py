"""A careful desk's trades, cloned, then PPO on a backtest that knows no costs, its occupancy held or not.

rlcore run orpo_market quick
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from rlcore.agents.orpo import PpoConfig, RatioConfig
from rlcore.envs.hacking.market import WEIGHT, Market, MarketConfig
from rlcore.experiments.hacking_task import Arm, Effort, Task, run_task
from rlcore.simulation import Policy
from rlcore.simulation.environment import EnvState
from rlcore.training.recorder import SILENT, Recorder

CONSTANTS = (0.0, 1.5, 3.0)
LEARNER = PpoConfig(  # the desk trades 20 times as slowly as the backtest would: only bold steps get there
    trace_time=0.04, clip=0.3, minibatch=2048, epochs=6, rate=2e-3, entropy=0.02, target_kl=0.2, compiled=True
)


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    env: MarketConfig = field(default_factory=MarketConfig)
    """The stock, its signal, the costs."""
    spread: float = 0.05
    """Standard deviation of what the desk executes about what it means to, as a weight."""
    arms: tuple[Arm, ...] = (Arm(), Arm("none"))
    """Ways to hold the occupancy, each from the clone."""
    effort: Effort = field(default_factory=Effort)
    """How much is gathered and learned."""
    learner: PpoConfig = LEARNER
    """PPO; times in years."""
    ratio: RatioConfig = field(default_factory=lambda: RatioConfig(steps=48))
    """How occupancies are compared."""


PRESETS = {
    "quick": Config(effort=Effort(256, 63, 110, 256, 1200, 3e-3, evaluation_paths=256, evaluations=6)),
    "paper": Config(effort=Effort(256, 63, 400, 2048, 6000, 1e-3, 0, 2048, 10)),
}


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Every arm from the clone; returns in % of wealth a year."""
    env = Market(config.env)

    def measure(state: EnvState) -> dict[str, Tensor]:
        return {"leverage": state.x[:, WEIGHT].abs()}

    known: dict[str, Policy] = {"Merton": env.hold(), "Markowitz": env.markowitz(), "best": env.best()}
    known |= {f"constant {weight:g}": env.hold(weight) for weight in CONSTANTS}
    task = Task("orpo_market", env, env.desk(spread=config.spread), known, measure=measure, note="% of wealth a year")
    return run_task(task, config.arms, config.effort, config.learner, config.ratio, seed, recorder)
