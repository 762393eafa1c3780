"""Experience at uneven times: decisions whose distance is drawn anew each time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from rlcore.data import Transitions
from rlcore.errors import ConfigError
from rlcore.simulation.environment import Environment, EnvState
from rlcore.simulation.irregular import rollout_irregular
from rlcore.simulation.policy import Policy
from rlcore.simulation.rollout import begin
from rlcore.training.sources import Source

Holding = Callable[[int, torch.Generator], Tensor]  # how many numbers, generator -> int [K], control steps


def regular_holding(steps: int) -> Holding:
    """Every action is held for the same number of control steps."""
    return lambda count, generator: torch.full((count,), steps)


def uniform_holding(longest: int) -> Holding:
    """1, ..., longest control steps, each as likely."""
    return lambda count, generator: torch.randint(1, longest + 1, (count,), generator=generator)


def exponential_holding(mean: float, longest: int) -> Holding:
    """Exponential with the given mean in control steps, rounded up and cut off at `longest`."""

    def draw(count: int, generator: torch.Generator) -> Tensor:
        found = torch.empty(count).exponential_(1.0 / mean, generator=generator)
        return found.ceil().clamp(1, longest).long()

    return draw


class IrregularSource(Source[Transitions]):
    """The next decisions of paths that go on for ever, at uneven times that all paths share."""

    def __init__(self, env: Environment, paths: int, decisions: int, holding: Holding, *, seed: int) -> None:
        if decisions < 1:
            raise ConfigError(f"decisions must be at least 1, got {decisions}")
        self.env, self.decisions, self.holding = env, decisions, holding
        self.stand = begin(env, paths, seed=seed)
        self.generator = torch.Generator().manual_seed(seed)

    def next(self, policy: Policy) -> Transitions:
        held = self.holding(self.decisions, self.generator).tolist()
        trajectory, self.stand = rollout_irregular(self.env, policy, self.stand, held)
        self.count(self.stand.batch * len(held), self.stand.batch * float(trajectory.dt.sum()))
        return trajectory.transitions(self.env.spec.discount_rate)

    def state_dict(self) -> dict[str, Any]:
        place = {"t": self.stand.env.t, "x": self.stand.env.x, "step": self.stand.step, "seed": self.stand.seed}
        return super().state_dict() | place | {"generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        env_state = EnvState(state["t"].to(self.env.device), state["x"].to(self.env.device))
        self.stand = self.stand._replace(env=env_state, step=int(state["step"]), seed=int(state["seed"]))
        self.generator.set_state(state["generator"].cpu())
