"""Strategies of governments, written down day by day, and their pool: policies of `Pandemic` to begin with."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from rlcore.envs.hacking.pandemic import DAYS, SEEN

Schedule = tuple[tuple[int, float], ...]

STRATEGIES: dict[str, Schedule] = {
    **{f"S{stage}": ((stage, math.inf),) for stage in range(5)},
    "S0-4-0": ((4, 30), (0, math.inf)),
    "S0-4-0 fast": ((4, 30), (3, 35), (2, 40), (1, 45), (0, math.inf)),
    "S0-4-0 gradual": ((4, 30), (3, 50), (2, 70), (1, 90), (0, math.inf)),
    "Swedish": ((0, 3), (1, math.inf)),
    "Italian": ((0, 3), (1, 8), (2, 13), (3, 25), (4, 59), (3, 79), (2, math.inf)),
}
"""Stage and the day until which it is asked for."""


@dataclass(frozen=True)
class Follow:
    """One step a day towards the stage that a schedule asks for."""

    schedule: Schedule
    backwards: bool = False
    """The published follower: it goes away from the stage wanted, so that from stage 0 nothing is ever raised."""
    noise_dim: int = 0

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:  # [B, 13 history] -> [B, 3]
        day, stage = DAYS * obs[:, -SEEN], 4.0 * obs[:, 1 - SEEN]
        wanted = torch.zeros_like(stage)
        for target, until in reversed(self.schedule):
            wanted = torch.where(day < until - 0.5, float(target), wanted)
        step = (wanted - stage).round().clamp(-1.0, 1.0)
        return one_hot((1.0 + (-step if self.backwards else step)).long(), 3).to(obs)


@dataclass(frozen=True)
class Pool:
    """Several policies side by side: row b of a batch follows number b mod n."""

    policies: tuple[Follow | WaitForCases, ...]

    @property
    def noise_dim(self) -> int:
        return max(policy.noise_dim for policy in self.policies)

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:  # -> [B, 3]
        every = torch.stack([policy.act(obs, noise=noise) for policy in self.policies])  # [n, B, 3]
        rows = torch.arange(len(obs), device=obs.device)
        return every[rows % len(self.policies), rows]


@dataclass(frozen=True)
class WaitForCases:
    """One step a day towards one stage while more than ten are known to be infected, and back to 0 after."""

    stage: int = 2
    lowering: float = 0.0
    """Chance that it asks for less where the stage is 0: nothing comes of it, and in the legacy rewards it is free."""

    @property
    def noise_dim(self) -> int:
        return int(self.lowering > 0.0)

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:  # -> [B, 3]
        flag, stage = obs[:, 2 - SEEN], 4.0 * obs[:, 1 - SEEN]
        step = (self.stage * flag - stage).round().clamp(-1.0, 1.0)
        if noise is not None and self.lowering > 0.0:
            asks = 0.5 * torch.erfc(noise[:, 0] * math.sqrt(0.5)) < self.lowering
            step = torch.where(asks & (stage < 0.5) & (step == 0.0), -1.0, step)
        return one_hot((1.0 + step).long(), 3).to(obs)
