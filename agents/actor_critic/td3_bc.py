"""TD3 with a pull towards the data: a deterministic policy tanh(mean(x)), two critics, smoothed targets.

    critics: E (Q_i - r - exp(-beta dt)(1 - terminated) min_i Qbar_i(x', clip(mubar(x') + clip(eps))))^2
    policy, every second update: E[(mu(x) - a)^2 - lambda Q_1(x, mu(x))],  lambda = alpha / mean |Q_1|

Source: Fujimoto and Gu, "A minimalist approach to offline reinforcement learning", NeurIPS 2021; Fujimoto et al.,
"Addressing function approximation error in actor-critic methods", ICML 2018.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

from rlcore.agents.actor_critic.networks import NetworkConfig, Networks, Spaces, check_rates
from rlcore.checks import check_not_negative, check_positive
from rlcore.data import Transitions
from rlcore.errors import ConfigError
from rlcore.functional.losses import least_of, td3_bc_loss, td_loss, td_target
from rlcore.nn.ensemble import Layers
from rlcore.nn.random_stream import RandomStream
from rlcore.nn.steps import adam, descend, follow
from rlcore.seeding import derive_seed
from rlcore.training.agent import Agent, Metrics


@dataclass(frozen=True)
class Td3BcConfig:
    """Settings of `Td3Bc`; spreads are in half-widths of the action box."""

    networks: NetworkConfig = field(default_factory=lambda: NetworkConfig(critics=2, critic=Layers()))
    """Policy and critics; the policy's spread is not used."""
    weight: float = 2.5
    """alpha, how much the critics count beside the data."""
    rate: float = 3e-4
    """Learning rate of Adam."""
    target_rate: float = 0.005
    """Share of the way that the slow networks go when the policy is updated."""
    target_noise: float = 0.2
    """Spread of the noise on the target's action."""
    target_noise_clip: float = 0.5
    """Its bound."""
    policy_every: int = 2
    """Critic updates per policy update."""
    exploration: float = 0.1
    """Spread of the noise on the action when it explores."""


@final
class Td3Bc(Agent[Transitions]):
    """TD3 with a pull towards the actions of the data.

    Learns from rows [N, ...], or [S, N, ...] with S seeds.
    """

    updates: Tensor  # [] int64, for the delay of the policy

    def __init__(self, spaces: Spaces, config: Td3BcConfig = Td3BcConfig(), *, seed: int = 0, seeds: int = 1) -> None:
        super().__init__()
        check_positive("weight", config.weight)
        check_rates(rate=config.rate, target_rate=config.target_rate)
        for name in ("target_noise", "target_noise_clip", "exploration"):
            check_not_negative(name, getattr(config, name))
        if config.policy_every < 1:
            raise ConfigError(f"policy_every must be at least 1, got {config.policy_every}")
        generator = torch.Generator().manual_seed(derive_seed(seed, "networks"))
        self.config, self.noise_dim = config, spaces.action_dim
        self.networks = Networks(spaces, config.networks, seeds=seeds, generator=generator)
        self.slow_policy = copy.deepcopy(self.networks.policy).requires_grad_(False)
        self.random = RandomStream(derive_seed(seed, "updates"))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.optimizers["critic"] = adam(self.networks.critics.parameters(), config.rate)
        self.optimizers["actor"] = adam(self.networks.policy.parameters(), config.rate)

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        action = self.networks.act(obs, None)
        if noise is None:
            return action
        box, spread = self.networks.box, self.config.exploration * self.networks.box.extent
        return (action + spread * noise.to(action.dtype)).clamp(box.middle - box.extent, box.middle + box.extent)

    def update(self, batch: Transitions) -> Metrics:
        config, net = self.config, self.networks
        rows = net.rows(batch)
        with torch.no_grad():
            noise = config.target_noise * self.random.normal(*rows.action.shape, like=rows.action)
            noise = noise.clamp(-config.target_noise_clip, config.target_noise_clip)
            next_action = (self.slow_policy.mode(rows.next_obs) + noise).clamp(-1.0, 1.0)
            target = td_target(rows.reward, rows.discount, least_of(net.target_q(rows.next_obs, next_action)))
        q = net.q(rows.obs, rows.action)
        loss = td_loss(q, target)
        descend(self.optimizers["critic"], loss)
        self.updates += 1
        if int(self.updates) % config.policy_every == 0:
            self.learn_policy(rows)
        return {"train/critic_loss": loss.detach() / net.seeds, "train/q": q.detach().mean()}

    def learn_policy(self, rows: Transitions) -> None:
        """One step of the policy; the slow networks follow."""
        net = self.networks
        action = net.policy.mode(rows.obs)
        first = torch.zeros(net.seeds, 1, dtype=torch.int64, device=action.device)
        q = net.q(rows.obs, action, first).squeeze(1)
        descend(self.optimizers["actor"], td3_bc_loss(q, action, rows.action, self.config.weight))
        net.follow(self.config.target_rate)
        follow(self.slow_policy, net.policy, self.config.target_rate)
