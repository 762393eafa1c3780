"""A share of wealth in a stock about Merton's, then PPO on the Sharpe ratio of a backtest, its occupancy held or not.

rlcore run orpo_market quick
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from rlcore.agents.orpo import PpoConfig, RatioConfig
from rlcore.envs.hacking.market import TRADED, WEIGHT, Market, MarketConfig
from rlcore.experiments.hacking_task import Arm, Effort, Task, run_task
from rlcore.simulation.environment import EnvState
from rlcore.training.recorder import SILENT, Recorder

CONSTANTS = (0.0, 1.5, 3.0)
LEARNER = PpoConfig(trace_time=0.02, minibatch=1024, epochs=4, rate=1e-3, target_kl=0.05)


@dataclass(frozen=True)
class Noisy:
    """A constant weight and noise about it: w + spread z, so that a reference has an occupancy to be compared with."""

    weight: float
    spread: float
    """Standard deviation of the weight."""
    noise_dim: int = 1

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:  # [B, 4] -> [B, 1]
        still = torch.full_like(obs[:, :1], self.weight)
        return still if noise is None else still + self.spread * noise


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    env: MarketConfig = field(default_factory=MarketConfig)
    """The stock, its signal, the costs."""
    spread: float = 0.25
    """Standard deviation of the reference's weight about Merton's."""
    arms: tuple[Arm, ...] = (Arm(), Arm("none"))
    """Ways to hold the occupancy, each from the clone."""
    effort: Effort = field(default_factory=Effort)
    """How much is gathered and learned."""
    learner: PpoConfig = LEARNER
    """PPO; times in years."""
    ratio: RatioConfig = field(default_factory=lambda: RatioConfig(steps=48))
    """How occupancies are compared."""


SMALL = Effort(paths=64, steps=63, iterations=30, base_paths=64, cloning_steps=2000, evaluation_paths=256)
PRESETS = {
    "quick": Config(effort=SMALL),
    "paper": Config(effort=Effort(256, 126, 300, 512, 3000, 1024, 10)),
}


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Every arm from the clone; the proxy is the Sharpe ratio gained in the sample, the truth a year's utility."""
    env = Market(config.env)

    def measure(state: EnvState) -> dict[str, Tensor]:
        return {"leverage": state.x[:, WEIGHT].abs(), "traded": state.x[:, TRADED]}

    known = {"Merton": env.constant(), "follow the signal": env.follow_signal(2.0)}
    known |= {f"constant {weight:g}": env.constant(weight) for weight in CONSTANTS}
    base = Noisy(env.merton_weight(), config.spread)
    note = f"utility and Sharpe ratio of {config.env.horizon:g} year"
    task = Task("orpo_market", env, base, known, measure=measure, note=note)
    return run_task(task, config.arms, config.effort, config.learner, config.ratio, seed, recorder)
