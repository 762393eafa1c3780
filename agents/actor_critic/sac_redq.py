"""Soft actor-critic with an ensemble of critics: SAC, REDQ, RLPD's learner and the online phase of WSRL by settings.

Sources: Haarnoja et al., 2018; Chen et al., ICLR 2021; Ball et al., "Efficient online reinforcement learning with
offline data", ICML 2023; Zhou et al., ICLR 2025.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import final

from torch import Tensor

from rlcore.agents.actor_critic.hand_over import EVERYTHING, HandOver, receive
from rlcore.agents.actor_critic.networks import HasNetworks, NetworkConfig, Networks, Spaces, slices
from rlcore.agents.actor_critic.soft import SacConfig, SoftCore
from rlcore.data import Transitions
from rlcore.nn.ensemble import Layers
from rlcore.nn.steps import Named, Seen
from rlcore.nn.updates import Steps
from rlcore.training.agent import Agent, Metrics

WSRL = SacConfig(critic_steps=4)
"""Ten critics with layer norm, least of two in the target, four critic updates per batch."""
RLPD = replace(WSRL, actor_critics="mean", actor_rate=3e-4, temperature_rate=3e-4)
"""The rates of Ball et al. with WSRL's ratio of updates; they set `target_entropy` to -m / 2."""
SAC = SacConfig(
    networks=NetworkConfig(critics=2, critic=Layers(), actor=Layers()),
    actor_rate=3e-4,
    temperature_rate=3e-4,
    entropy_in_target=True,
)
"""Two critics, no layer norm: the algorithm of Haarnoja et al."""


@final
class SacRedq(Agent[Transitions]):
    """Soft actor-critic with an ensemble of critics: SAC, REDQ, and the online phase of WSRL and RLPD.

    Learns from rows [N, ...] of a replay buffer, or [S, N, ...] with S seeds. One call makes `critic_steps` critic
    updates on as many shares of the batch, then one of policy and temperature.
    """

    def __init__(self, spaces: Spaces, config: SacConfig = WSRL, *, seed: int = 0, seeds: int = 1) -> None:
        super().__init__()
        self.core = SoftCore(spaces, config, seed=seed, seeds=seeds)
        self.noise_dim = spaces.action_dim
        self.optimizers = dict(self.core.optimizers)
        self.learning = self.core.update_of(self.advance, (self.core, "critic_loss"))

    @classmethod
    def warm_start(
        cls,
        giver: HasNetworks | str | Path,
        spaces: Spaces,
        config: SacConfig = WSRL,
        *,
        what: HandOver = EVERYTHING,
        seed: int = 0,
        seeds: int = 1,
    ) -> SacRedq:
        """An agent that goes on from another's weights, in memory or in the file that `publish` wrote."""
        agent = cls(spaces, config, seed=seed, seeds=seeds)
        receive(agent, giver, what)
        return agent

    @property
    def networks(self) -> Networks:
        return self.core.networks

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        return self.networks.act(obs, noise)

    def update(self, batch: Transitions) -> Metrics:
        core, rows = self.core, self.networks.rows(batch)
        temperature = core.temperature.detach()
        parts = [
            (part.obs, part.action, *core.ahead(part, temperature)) for part in slices(rows, core.config.critic_steps)
        ]
        return {**self.learning(parts, rows.obs, rows.next_obs, core.policy_noise(rows), temperature)}

    def advance(
        self, step: Steps, parts: list[Seen], obs: Tensor, after: Tensor, noise: Seen, temperature: Tensor
    ) -> Named:
        """The steps of an update: critics on each part, policy and temperature on all rows [S, N, ...]."""
        for part in parts:
            loss, q = step["critic"](*part)
            self.core.idle("actor", "temperature")
        shown = {"train/critic_loss": loss / self.networks.seeds, "train/q": q.mean()}
        return shown | self.core.learn_policy(step, obs, after, noise, temperature)
