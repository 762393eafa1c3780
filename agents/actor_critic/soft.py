"""The soft actor-critic step that SAC, REDQ, CQL and Cal-QL share: target, critic, policy and temperature.

    y = r + exp(-beta dt) (1 - terminated) min over a random subset of the target critics of Q(x', u'),  u' ~ pi(x')
    critics: E (Q_i - y)^2      policy: E[T log pi(u | x) - min_i Q_i(x, u)]      temperature: T (H - H*)

Sources: Haarnoja et al., "Soft actor-critic algorithms and applications", 2018; Chen et al., "Randomized ensembled
double Q-learning", ICLR 2021; Zhou et al., "Efficient online reinforcement learning fine-tuning need not retain offline
data", ICLR 2025, for the settings.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Adam

from rlcore.agents.actor_critic.networks import NetworkConfig, Networks, Spaces, check_rates
from rlcore.checks import check_numbers, check_positive
from rlcore.data import Transitions
from rlcore.errors import ConfigError
from rlcore.functional.losses import (
    best_of_least,
    least_of,
    soft_actor_loss,
    td_loss,
    td_target,
    temperature_loss,
)
from rlcore.nn.ensemble import draw_members
from rlcore.nn.graphs import Compiled
from rlcore.nn.random_stream import RandomStream
from rlcore.nn.steps import Following, Named, Seen, adam, step_of
from rlcore.nn.tanh_gaussian import squash
from rlcore.nn.updates import Body, Steps, update_of
from rlcore.seeding import derive_seed


@dataclass(frozen=True)
class SacConfig:
    """Settings of the soft step. The last group selects what published code does and the papers do not say."""

    networks: NetworkConfig = field(default_factory=NetworkConfig)
    """The networks."""
    critic_steps: int = 1
    """Critic updates per call, each on its own share of the batch; the policy follows once, on all of it."""
    critic_rate: float = 3e-4
    """Learning rate of Adam for the critics."""
    actor_rate: float = 1e-4
    """The same for the policy."""
    temperature_rate: float = 1e-4
    """The same for the temperature; 0 keeps it."""
    target_rate: float = 0.005
    """Share of the way that the slow critics go after each critic update."""
    target_critics: int = 2
    """Critics drawn at random for each target, whose least counts."""
    actor_critics: Literal["least", "mean"] = "least"
    """What of all critics the policy climbs; REDQ and RLPD take the mean."""
    initial_temperature: float = 1.0
    """T at the start [reward per nat]."""
    target_entropy: float | None = None
    """H* on the unit box [nats]; None is -m."""
    entropy_in_target: bool = False
    """Whether -T log pi(u' | x') belongs to the target."""
    target_actions: int = 1
    """Actions drawn at each x', the best of which counts."""
    compiled: Compiled = False
    """Whether a step is one graph of `torch.compile`: up to a minute once, then faster; equal to rounding only. 'graph'
    records it on a GPU."""
    draw_with_replacement: bool = False
    """Reference code of WSRL: one critic may be drawn twice for a target."""
    entropy_at_next: bool = False
    """Reference code of WSRL: the temperature sees the entropy at x', not at x."""
    idle_adam_steps: bool = False
    """Reference code of WSRL: Adam steps with gradient zero for networks that a call does not train, so that momentum
    moves them about 2.2 (policy) and 1.1 (critics) times as far."""


class SoftCore(nn.Module):
    """Networks, temperature and optimisers, with the steps they take; for S seeds at once."""

    def __init__(
        self, spaces: Spaces, config: SacConfig, *, seed: int, seeds: int = 1, networks: Networks | None = None
    ) -> None:
        super().__init__()
        check_config(config)
        generator = torch.Generator().manual_seed(derive_seed(seed, "networks"))
        self.config = config
        box = (spaces.observation_dim, spaces.action_dim, spaces.action_low, spaces.action_high)
        self.key = (config, box, seeds) if networks is None else None  # what the losses depend on beside parameters
        self.networks = networks or Networks(spaces, config.networks, seeds=seeds, generator=generator)
        self.random = RandomStream(derive_seed(seed, "updates"))
        raw = math.log(math.expm1(config.initial_temperature))
        self.raw_temperature = nn.Parameter(torch.full((seeds,), raw))
        self.target_entropy = -float(spaces.action_dim) if config.target_entropy is None else config.target_entropy
        self.optimizers: dict[str, Adam] = {
            "critic": adam(self.networks.critics.parameters(), config.critic_rate),
            "actor": adam(self.networks.policy.parameters(), config.actor_rate),
            "temperature": adam([self.raw_temperature], config.temperature_rate),
        }

    def update_of(
        self,
        body: Body,
        critics: tuple[nn.Module, str],
        settings: object = None,
        *,
        whole: bool = True,
    ) -> Callable[..., Named]:
        """What an agent that holds this core does with its batches.

        `body` takes the steps critic, after which the slow copies follow, actor and temperature. The critics
        go down a loss of the agent, named with its owner; `settings` are those that its losses depend on, beside this
        core's; `whole` is that of `rlcore.nn.updates`.
        """
        net, config, own = self.networks, self.config, self.optimizers
        key = None if self.key is None else (self.key, type(critics[0]), settings)
        made: dict[str, Any] = {"compiled": config.compiled, "key": key}
        following = Following(net.targets, net.critics, config.target_rate)
        steps = {
            "critic": step_of(*critics, own["critic"], following, **made),
            "actor": step_of(self, "policy_loss", own["actor"], **made),
            "temperature": step_of(self, "temperature_loss", own["temperature"], **made),
        }
        whole = whole and not (config.entropy_at_next or config.idle_adam_steps)
        return update_of(body, steps, whole=whole, key=key)

    @property
    def temperature(self) -> Tensor:  # [S]
        """T = softplus(raw)."""
        return nn.functional.softplus(self.raw_temperature)

    def ahead(
        self, rows: Transitions, temperature: Tensor
    ) -> Seen:  # [S, N], [S, N], [S, N, d], [S, n, N, m], [S, k], [S]
        """What a target takes: reward, discount, x', noise of n actions there, k slow critics, temperature."""
        config, net = self.config, self.networks
        seeds, count, m = rows.action.shape
        noise = self.random.normal(seeds, config.target_actions, count, m, like=rows.action)
        chosen = draw_members(
            net.seeds,
            net.critics.members,
            config.target_critics,
            generator=self.random.on(noise.device),
            replacement=config.draw_with_replacement,
        )
        return rows.reward, rows.discount, rows.next_obs, noise, chosen, temperature

    @torch.no_grad()
    def target(
        self, reward: Tensor, discount: Tensor, obs: Tensor, noise: Tensor, chosen: Tensor, temperature: Tensor
    ) -> Tensor:  # as `ahead` gives them -> [S, N]
        """y: the best over n actions of the least of k slow critics."""
        mean, log_scale = self.networks.policy.law(obs)
        action, log_prob = squash(mean.unsqueeze(1), log_scale.unsqueeze(1), noise)  # [S, n, N, m], [S, n, N]
        here = obs.unsqueeze(1).expand(-1, noise.shape[1], -1, -1)
        q = self.networks.target_q(here.flatten(1, 2), action.flatten(1, 2), chosen)
        q = q.view(*q.shape[:2], *log_prob.shape[1:])  # [S, k, n, N]
        if self.config.entropy_in_target:
            q = q - (temperature[:, None, None] * log_prob).unsqueeze(1)
        return td_target(reward, discount, best_of_least(q))

    def critic_loss(self, obs: Tensor, action: Tensor, *ahead: Tensor) -> tuple[Tensor, Seen]:  # -> [], ([S, E, N],)
        """The squared TD error and Q of the data [S, N, d], [S, N, m]."""
        q = self.networks.q(obs, action)
        return td_loss(q, self.target(*ahead)), (q,)

    def policy_loss(
        self, obs: Tensor, noise: Tensor, temperature: Tensor
    ) -> tuple[Tensor, Seen]:  # [S, N, d], [S, N, m], [S] -> [], ([S, N], [S, N])
        """The loss of the policy, its log-density and the value that it climbs."""
        action, log_prob = self.networks.policy.sample(obs, noise)
        q = self.networks.q(obs, action)
        value = least_of(q) if self.config.actor_critics == "least" else q.mean(1)
        return soft_actor_loss(log_prob, value, temperature), (log_prob, value)

    def temperature_loss(self, log_prob: Tensor) -> tuple[Tensor, Seen]:  # [S, N] -> [], ()
        """T (H - H*)."""
        return temperature_loss(self.temperature, log_prob, self.target_entropy), ()

    def policy_noise(self, rows: Transitions) -> Seen:  # -> [S, N, m], or twice that
        """What the policy's step draws, and after it the entropy at x' if that is asked for."""
        draws = 1 + self.config.entropy_at_next
        return tuple(self.random.normal(*rows.action.shape, like=rows.action) for _ in range(draws))

    def learn_policy(self, step: Steps, obs: Tensor, after: Tensor, noise: Seen, temperature: Tensor) -> Named:
        """One step of the policy and of the temperature, on all rows [S, N, ...]."""
        _, log_prob, value = step["actor"](obs, noise[0], temperature)
        entropy_of = log_prob
        if self.config.entropy_at_next:
            with torch.no_grad():
                entropy_of = self.networks.policy.sample(after, noise[1])[1]
        step["temperature"](entropy_of)
        self.idle("critic")
        return {
            "train/entropy": -log_prob.mean(),
            "train/temperature": temperature.mean(),
            "train/policy_q": value.mean(),
        }

    def idle(self, *names: str) -> None:
        """Step these optimisers with gradient zero, where the reference is followed in that."""
        if self.config.idle_adam_steps:
            for name in names:
                for group in self.optimizers[name].param_groups:
                    for parameter in group["params"]:
                        parameter.grad = torch.zeros_like(parameter)
                self.optimizers[name].step()


def check_config(config: SacConfig) -> None:
    """Raise on settings out of their range."""
    check_positive("initial_temperature", config.initial_temperature)
    check_rates(
        critic_rate=config.critic_rate,
        actor_rate=config.actor_rate,
        temperature_rate=config.temperature_rate,
        target_rate=config.target_rate,
    )
    if config.target_rate > 1.0:
        raise ConfigError(f"target_rate must be at most 1, got {config.target_rate}; 1 has no slow critics")
    if min(config.critic_steps, config.target_actions) < 1:
        raise ConfigError("critic_steps and target_actions must be at least 1")
    most = config.networks.critics
    if not 1 <= config.target_critics <= most and not config.draw_with_replacement:
        raise ConfigError(f"target_critics must be 1 to {most}, the number of critics, got {config.target_critics}")
    if config.target_entropy is not None:
        check_numbers("target_entropy", config.target_entropy)
