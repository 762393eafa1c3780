"""q-learning in continuous time, with the normalisation constraint kept by construction.

    delta_k = J(X') - J(X) + r dt - (q(X, a) + beta J(X)) dt        (ergodic: the average reward V in place of beta J)
    theta += alpha dJ/dtheta delta,   psi += alpha dq/dpsi delta,   V += alpha delta

The increments have mean zero under any behaviour policy of full support when (J, q) is the optimal pair, so the same
update serves on-policy rollouts and rows from a replay buffer, without importance weights. q = gamma log pi, so q is
the policy.
Source: Jia and Zhou, "q-Learning in continuous time", JMLR 24 (2023) 161, sections 4 and 6.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from rlcore.checks import check_not_negative, check_positive
from rlcore.data import Transitions
from rlcore.errors import ConfigError
from rlcore.functional.martingale import increment, log_decay
from rlcore.nn.quadratic_q import BoxQuadraticQ, QuadraticQ
from rlcore.training.agent import Agent, Metrics


@dataclass(frozen=True)
class QLearningConfig:
    """Settings of `QLearning`. Rates are per second of physical time, so they stay when dt changes."""

    discount_rate: float = 0.0
    """beta [1/s]; 0 is the ergodic problem, in which the average reward is learned too."""
    value_rate: float = 0.001
    """alpha of J and of the average reward [1/s]."""
    q_rate: float = 0.001
    """alpha of the mean of q [1/s]."""
    scale_rate: float = 0.01
    """alpha of the log-curvature of q [1/s]; larger, because its gradient is of the order of the temperature."""
    update_interval: float = 0.01
    """Physical time between two updates, per path [s]."""
    decay: bool = True
    """Divide the rates by max(1, log t), t the physical time per path seen so far [s]."""
    target_time: float = 0.0
    """Time constant [s] with which a copy of J follows it, from which J(X') is taken; 0 takes J itself."""
    gradient_clip: float = math.inf
    """Largest Euclidean norm of the gradient of an update, over all parameters."""


class QLearning(Agent[Transitions]):
    """Ergodic or discounted q-learning with a q-function that is quadratic in the action."""

    average_reward: Tensor  # [] per second, entropy included
    elapsed: Tensor  # [] s

    def __init__(
        self,
        value: nn.Module,  # J: [*, d] -> [*]
        q: QuadraticQ | BoxQuadraticQ,
        config: QLearningConfig = QLearningConfig(),
        optimizer: Callable[[Any], Optimizer] = torch.optim.SGD,
    ) -> None:
        super().__init__()
        check_not_negative("discount_rate", config.discount_rate, "1/s")
        check_not_negative("target_time", config.target_time, "s")
        if math.isnan(config.gradient_clip) or config.gradient_clip <= 0:
            raise ConfigError(f"gradient_clip must be positive, got {config.gradient_clip}; inf does not clip")
        for name in ("value_rate", "q_rate", "scale_rate", "update_interval"):
            check_positive(name, getattr(config, name))
        self.value, self.q, self.config = value, q, config
        self.noise_dim = q.noise_dim
        self.target = copy.deepcopy(value).requires_grad_(False) if config.target_time else None
        self.register_buffer("average_reward", torch.zeros(()))
        self.register_buffer("elapsed", torch.zeros((), dtype=torch.float64))
        scale = [parameter for name, parameter in q.named_parameters() if name == "log_scale"]
        others = [parameter for name, parameter in q.named_parameters() if name != "log_scale"]
        groups = [(list(value.parameters()), config.value_rate), (others, config.q_rate), (scale, config.scale_rate)]
        self.optimizers["martingale"] = optimizer(
            [{"params": parameters, "lr": rate, "rate": rate} for parameters, rate in groups if parameters]
        )

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        return self.q.act(obs, noise)

    def update(self, batch: Transitions) -> Metrics:
        config, optimizer = self.config, self.optimizers["martingale"]
        value, q = self.value(batch.obs), self.q(batch.obs, batch.action)  # [*]
        with torch.no_grad():
            after = (self.value if self.target is None else self.target)(batch.next_obs) * (batch.discount > 0)
            running = q + (config.discount_rate * value if config.discount_rate else self.average_reward)
            delta = increment(value, after, batch.reward, batch.dt, running=running)  # [*]
            seconds = batch.dt.sum()
            decay = float(log_decay(self.elapsed)) if config.decay else 1.0
        loss = -((value + q) * delta).sum() / seconds  # its gradient is -(test function) x delta, per second
        for group in optimizer.param_groups:
            group["lr"] = group["rate"] * config.update_interval * decay
        optimizer.zero_grad()
        loss.backward()
        if config.gradient_clip < math.inf:
            nn.utils.clip_grad_norm_([*self.value.parameters(), *self.q.parameters()], config.gradient_clip)
        optimizer.step()
        if not config.discount_rate:
            self.average_reward += config.value_rate * config.update_interval * decay * delta.sum() / seconds
        if self.target is not None:
            follow = 1.0 - math.exp(-config.update_interval / config.target_time)
            with torch.no_grad():
                for slow, fast in zip(self.target.parameters(), self.value.parameters(), strict=True):
                    slow.lerp_(fast, follow)
        self.elapsed += config.update_interval
        return {
            "train/residual_mean": delta.mean(),
            "train/residual_sd": delta.std(),
            "train/average_reward": self.average_reward,
            "train/learning_rate": config.q_rate * decay,
        }
