"""Behaviour cloning: the policy under which the actions of the data are most likely."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

from rlcore.agents.actor_critic.networks import NetworkConfig, Networks, Spaces, check_rates
from rlcore.data import Transitions
from rlcore.functional.losses import weighted_likelihood_loss
from rlcore.nn.steps import adam, descend
from rlcore.seeding import derive_seed
from rlcore.training.agent import Agent, Metrics


@dataclass(frozen=True)
class CloningConfig:
    """Settings of `BehaviourCloning`."""

    networks: NetworkConfig = field(default_factory=lambda: NetworkConfig(critics=1))
    """The policy; the critics are never trained."""
    rate: float = 3e-4
    """Learning rate of Adam."""


@final
class BehaviourCloning(Agent[Transitions]):
    """Behaviour cloning: maximises E log pi(a | x) over rows [N, ...], or [S, N, ...] with S seeds."""

    def __init__(
        self, spaces: Spaces, config: CloningConfig = CloningConfig(), *, seed: int = 0, seeds: int = 1
    ) -> None:
        super().__init__()
        check_rates(rate=config.rate)
        generator = torch.Generator().manual_seed(derive_seed(seed, "networks"))
        self.noise_dim = spaces.action_dim
        self.networks = Networks(spaces, config.networks, seeds=seeds, generator=generator)
        self.optimizers["actor"] = adam(self.networks.policy.parameters(), config.rate)

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        return self.networks.act(obs, noise)

    def update(self, batch: Transitions) -> Metrics:
        rows = self.networks.rows(batch)
        log_prob = self.networks.policy.log_prob(rows.obs, rows.action)
        descend(self.optimizers["actor"], weighted_likelihood_loss(log_prob))
        return {"train/log_likelihood": log_prob.detach().mean()}
