"""Advantage-weighted actor-critic: policy evaluation by TD, improvement by likelihood weighted with the advantage.

    critics: E (Q_i - r - exp(-beta dt)(1 - terminated) min_i Qbar_i(x', u'))^2,  u' ~ pi(x')
    policy: -E[min(exp(A / lambda), w) log pi(a | x)],  A = min_i Q_i(x, a) - min_i Q_i(x, u),  u ~ pi(x)

Source: Nair et al., "AWAC: accelerating online reinforcement learning with offline datasets", 2020, equation 13.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

from rlcore.agents.actor_critic.networks import NetworkConfig, Networks, Spaces, check_rates
from rlcore.checks import check_positive
from rlcore.data import Transitions
from rlcore.functional.losses import advantage_weight, least_of, td_loss, td_target, weighted_likelihood_loss
from rlcore.nn.ensemble import Layers
from rlcore.nn.random_stream import RandomStream
from rlcore.nn.steps import adam, descend
from rlcore.seeding import derive_seed
from rlcore.training.agent import Agent, Metrics


@dataclass(frozen=True)
class AwacConfig:
    """Settings of `Awac`."""

    networks: NetworkConfig = field(
        default_factory=lambda: NetworkConfig(critics=2, critic=Layers(), state_dependent_scale=False)
    )
    """Policy and critics."""
    temperature: float = 1.0
    """lambda, the advantage that weighs e times as much [reward]."""
    largest_weight: float = 100.0
    """w, the most that one row weighs."""
    rate: float = 3e-4
    """Learning rate of Adam."""
    target_rate: float = 0.005
    """Share of the way that the slow critics go after each update."""


@final
class Awac(Agent[Transitions]):
    """Advantage-weighted actor-critic, offline and online.

    Learns from rows [N, ...], or [S, N, ...] with S seeds, of a data set, of a replay buffer, or of both.
    """

    def __init__(self, spaces: Spaces, config: AwacConfig = AwacConfig(), *, seed: int = 0, seeds: int = 1) -> None:
        super().__init__()
        check_positive("temperature", config.temperature)
        check_positive("largest_weight", config.largest_weight)
        check_rates(rate=config.rate, target_rate=config.target_rate)
        generator = torch.Generator().manual_seed(derive_seed(seed, "networks"))
        self.config, self.noise_dim = config, spaces.action_dim
        self.networks = Networks(spaces, config.networks, seeds=seeds, generator=generator)
        self.random = RandomStream(derive_seed(seed, "updates"))
        self.optimizers["critic"] = adam(self.networks.critics.parameters(), config.rate)
        self.optimizers["actor"] = adam(self.networks.policy.parameters(), config.rate)

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        return self.networks.act(obs, noise)

    def draw(self, obs: Tensor, like: Tensor) -> Tensor:  # [S, N, d], [S, N, m] -> [S, N, m]
        """Actions of the policy of the moment."""
        return self.networks.policy.sample(obs, self.random.normal(*like.shape, like=like))[0]

    def update(self, batch: Transitions) -> Metrics:
        config, net = self.config, self.networks
        rows = net.rows(batch)
        with torch.no_grad():
            next_q = least_of(net.target_q(rows.next_obs, self.draw(rows.next_obs, rows.action)))
            target = td_target(rows.reward, rows.discount, next_q)
        q = net.q(rows.obs, rows.action)
        loss = td_loss(q, target)
        descend(self.optimizers["critic"], loss)
        net.follow(config.target_rate)

        with torch.no_grad():
            baseline = least_of(net.q(rows.obs, self.draw(rows.obs, rows.action)))
            advantage = least_of(net.q(rows.obs, rows.action)) - baseline
        weight = advantage_weight(advantage, 1.0 / config.temperature, config.largest_weight)
        log_prob = net.policy.log_prob(rows.obs, rows.action)
        descend(self.optimizers["actor"], weighted_likelihood_loss(log_prob, weight))
        return {
            "train/critic_loss": loss.detach() / net.seeds,
            "train/q": q.detach().mean(),
            "train/advantage": advantage.mean(),
            "train/log_likelihood": log_prob.detach().mean(),
        }
