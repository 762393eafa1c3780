"""Online actor-critic from the martingale orthogonality conditions, discounted or ergodic.

    delta_k = J(X') - J(X) + (r + gamma p - beta J(X)) dt           (ergodic: the average reward V in place of beta J)
    theta += alpha_theta dJ/dtheta delta,   V += alpha_V delta
    phi   += alpha_phi eta (dlog pi/dphi delta + gamma dp/dphi dt)

p is the regulariser: the entropy of pi (`analytic`) or -log pi at the action taken (`sampled`), of the same mean.
With the second, gamma dp/dphi has mean zero and is left out. eta(X) is any positive weight of the state: the
first-order condition holds for all of them, and 1 is the online rule.
Source: Jia and Zhou, "Policy gradient and actor-critic learning in continuous time and space", JMLR 23 (2022) 275,
Algorithms 2 (discounted) and 3 (ergodic), with xi = dJ/dtheta and zeta = 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from rlcore.agents.martingale.online import (
    check_alive,
    check_clip,
    climb,
    named,
    rated_optimizer,
    seconds_of,
    unbounded,
)
from rlcore.checks import check_not_negative, check_positive
from rlcore.data import Transitions
from rlcore.errors import ConfigError
from rlcore.functional.martingale import increment, log_decay
from rlcore.nn.gaussian import Gaussian
from rlcore.parallel import world
from rlcore.training.agent import Agent, Metrics


@dataclass(frozen=True)
class ActorCriticConfig:
    """Settings of `ActorCritic`. Rates are per second of physical time, so they stay when dt changes."""

    discount_rate: float = 0.0
    """beta [1/s]; 0 is the ergodic problem, in which the average reward is learned too."""
    temperature: float = 0.1
    """gamma, the weight of the regulariser [reward per second]."""
    entropy: Literal["analytic", "sampled"] = "analytic"
    """p as the entropy of the policy, or as -log pi at the action taken: the same mean, more noise."""
    value_rate: float = 0.001
    """alpha of J [1/s]."""
    average_rate: float = 0.001
    """alpha of the average reward [1/s]."""
    policy_rate: float = 0.001
    """alpha of the mean of the policy [1/s]."""
    scale_rate: float = 0.001
    """alpha of the log-variance of the policy [1/s]."""
    update_interval: float = 0.01
    """Physical time between two updates, per path [s]."""
    decay: bool = True
    """Divide the rates by max(1, log t), t the physical time per path seen so far [s]."""
    gradient_clip: float = math.inf
    """Largest Euclidean norm of the policy's gradient; the score has variance 1 / exp(s), which grows as it learns."""


class ActorCritic(Agent[Transitions]):
    """On-policy actor-critic: the rows of a batch must come from the policy of the moment.

    Raises `NumericsError` when it diverges.
    """

    average_reward: Tensor  # [] per second, entropy included
    elapsed: Tensor  # [] s

    def __init__(
        self,
        value: nn.Module,  # J: [*, d] -> [*]
        policy: Gaussian,
        config: ActorCriticConfig = ActorCriticConfig(),
        optimizer: Callable[[Any], Optimizer] = torch.optim.SGD,
        eta: Callable[[Tensor], Tensor] | None = None,  # [*, d] -> [*]
    ) -> None:
        super().__init__()
        check_not_negative("discount_rate", config.discount_rate, "1/s")
        check_not_negative("temperature", config.temperature)
        check_clip(config.gradient_clip)
        if config.entropy not in ("analytic", "sampled"):
            raise ConfigError(f"entropy must be 'analytic' or 'sampled', got {config.entropy!r}")
        for name in ("value_rate", "average_rate", "policy_rate", "scale_rate", "update_interval"):
            check_positive(name, getattr(config, name))
        self.value, self.policy, self.config, self.eta = value, policy, config, eta
        self.noise_dim = policy.noise_dim
        self.register_buffer("average_reward", torch.zeros(()))
        self.register_buffer("elapsed", torch.zeros((), dtype=torch.float64))
        scale, mean = named(policy, "log_variance")
        self.optimizers["critic"] = rated_optimizer(optimizer, [(list(value.parameters()), config.value_rate)])
        rates = ((mean, config.policy_rate), (scale, config.scale_rate))
        self.optimizers["actor"] = rated_optimizer(optimizer, rates)

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        return self.policy.act(obs, noise)

    def residual(self, batch: Transitions) -> tuple[Tensor, Tensor, Tensor]:  # -> [*], [*], [*]
        """J, what the actor climbs per row, and delta, which is not differentiated."""
        config, gamma = self.config, self.config.temperature
        value, log_prob, entropy = self.value(batch.obs), self.policy.log_prob(batch.obs, batch.action), None
        if config.entropy == "analytic":
            entropy = self.policy.entropy()
        with torch.no_grad():
            after = self.value(batch.next_obs) * (batch.discount > 0)
            running = config.discount_rate * value if config.discount_rate else self.average_reward
            bonus = gamma * (-log_prob if entropy is None else entropy)
            delta = increment(value, after, batch.reward, batch.dt, running=running - bonus)
        climbed = log_prob * delta
        if entropy is not None:
            climbed = climbed + gamma * entropy * batch.dt
        return value, climbed if self.eta is None else self.eta(batch.obs) * climbed, delta

    def update(self, batch: Transitions) -> Metrics:
        config = self.config
        value, climbed, delta = self.residual(batch)
        seconds = seconds_of(batch.dt)
        check_alive(
            "the actor-critic",
            delta,
            seconds,
            self.elapsed,
            lambda: unbounded(batch.obs, config.discount_rate) or "lower the rates or clip the gradient",
        )
        decay = float(log_decay(self.elapsed)) if config.decay else 1.0
        step = config.update_interval * decay  # s
        climb(self.optimizers["critic"], (value * delta).sum() / seconds, step, math.inf)
        climb(self.optimizers["actor"], climbed.sum() / seconds, step, config.gradient_clip)
        if not config.discount_rate:
            self.average_reward += config.average_rate * step * world().mean(delta.sum()) / seconds
        self.elapsed += config.update_interval
        return {
            "train/residual_mean": delta.mean(),
            "train/residual_sd": delta.std(correction=0),
            "train/average_reward": self.average_reward,
            "train/learning_rate": config.policy_rate * decay,
        }
