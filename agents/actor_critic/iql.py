"""Implicit Q-learning: no action outside the data is ever evaluated.

    V: E[|tau - 1{u < 0}| u^2],  u = min_i Qbar_i(x, a) - V(x)
    Q: E (Q_i - r - exp(-beta dt) (1 - terminated) V(x'))^2
    policy: -E[min(exp(b (Qbar - V)), w) log pi(a | x)]

The policy is the tanh-Gaussian of the family, so that SAC can go on from it.
Source: Kostrikov et al., "Offline reinforcement learning with implicit Q-learning", ICLR 2022, equations 5 to 7.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

from rlcore.agents.actor_critic.networks import NetworkConfig, Networks, Spaces, check_rates
from rlcore.checks import check_not_negative, check_positive
from rlcore.data import Transitions
from rlcore.errors import ConfigError
from rlcore.functional.losses import (
    advantage_weight,
    expectile_loss,
    least_of,
    td_loss,
    td_target,
    weighted_likelihood_loss,
)
from rlcore.nn.ensemble import Ensemble, Layers
from rlcore.nn.steps import adam, descend
from rlcore.seeding import derive_seed
from rlcore.training.agent import Agent, Metrics


@dataclass(frozen=True)
class IqlConfig:
    """Settings of `Iql`."""

    networks: NetworkConfig = field(
        default_factory=lambda: NetworkConfig(critics=2, critic=Layers(), state_dependent_scale=False)
    )
    """Policy and critics; the value network has the critics' layers."""
    expectile: float = 0.7
    """tau: 0.5 is the mean over the data's actions, 1 their best."""
    inverse_temperature: float = 3.0
    """b, how much better actions weigh [1 / reward]."""
    largest_weight: float = 100.0
    """w, the most that one row weighs."""
    rate: float = 3e-4
    """Learning rate of Adam for all networks."""
    target_rate: float = 0.005
    """Share of the way that the slow critics go after each update."""


@final
class Iql(Agent[Transitions]):
    """Implicit Q-learning from a data set.

    Learns from rows [N, ...], or [S, N, ...] with S seeds.
    """

    def __init__(self, spaces: Spaces, config: IqlConfig = IqlConfig(), *, seed: int = 0, seeds: int = 1) -> None:
        super().__init__()
        if not 0.0 < config.expectile < 1.0:
            raise ConfigError(f"expectile must lie strictly between 0 and 1, got {config.expectile}; 0.5 is the mean")
        check_not_negative("inverse_temperature", config.inverse_temperature)
        check_positive("largest_weight", config.largest_weight)
        check_rates(rate=config.rate, target_rate=config.target_rate)
        generator = torch.Generator().manual_seed(derive_seed(seed, "networks"))
        self.config, self.noise_dim = config, spaces.action_dim
        self.networks = Networks(spaces, config.networks, seeds=seeds, generator=generator)
        self.value = Ensemble(seeds, 1, spaces.observation_dim, 1, config.networks.critic, generator=generator)
        self.optimizers["value"] = adam(self.value.parameters(), config.rate)
        self.optimizers["critic"] = adam(self.networks.critics.parameters(), config.rate)
        self.optimizers["actor"] = adam(self.networks.policy.parameters(), config.rate)

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        return self.networks.act(obs, noise)

    def state_value(self, obs: Tensor) -> Tensor:  # [S, N, d] -> [S, N]
        """V(x)."""
        return self.value(obs).squeeze(-1).squeeze(1)  # type: ignore[no-any-return]

    def update(self, batch: Transitions) -> Metrics:
        config, net = self.config, self.networks
        rows = net.rows(batch)
        with torch.no_grad():
            q_slow = least_of(net.target_q(rows.obs, rows.action))  # [S, N]
        value = self.state_value(rows.obs)
        value_loss = expectile_loss(q_slow - value, config.expectile)
        descend(self.optimizers["value"], value_loss)

        with torch.no_grad():
            advantage = q_slow - self.state_value(rows.obs)
            target = td_target(rows.reward, rows.discount, self.state_value(rows.next_obs))
        weight = advantage_weight(advantage, config.inverse_temperature, config.largest_weight)
        log_prob = net.policy.log_prob(rows.obs, rows.action)
        descend(self.optimizers["actor"], weighted_likelihood_loss(log_prob, weight))

        q = net.q(rows.obs, rows.action)
        loss = td_loss(q, target)
        descend(self.optimizers["critic"], loss)
        net.follow(config.target_rate)
        return {
            "train/critic_loss": loss.detach() / net.seeds,
            "train/value_loss": value_loss.detach() / net.seeds,
            "train/q": q.detach().mean(),
            "train/advantage": advantage.mean(),
            "train/log_likelihood": log_prob.detach().mean(),
        }
