"""SARSA for the big Q of a control interval: the rival that fails as dt tends to 0.

    delta = Q(X', a') - gamma dt log pi(a' | X') - Q(X, a) + (r - beta Q(X, a)) dt        (ergodic: -V dt)
    psi += alpha dQ/dpsi delta,   V += alpha delta,   pi(a | x) ~ exp(Q(x, a) / (gamma dt))

Q = J + q dt + o(dt): what tells actions apart is of order dt, under noise of order sqrt(dt). At the same rate
per second learning slows in proportion to dt, and a rate raised by 1 / dt multiplies the noise.
Source: the comparison in Jia and Zhou, "q-Learning in continuous time", JMLR 24 (2023) 161, sections 5 and 6.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
from rlcore.functional.martingale import increment, log_decay
from rlcore.parallel import world
from rlcore.training.agent import Agent, Metrics


class QuadraticBigQ(nn.Module):
    """Q(x, a) = -exp(-s) |a - mu(x)|^2 / 2 + v(x); its policy is N(mu(x), gamma dt exp(s)). `dt` in seconds."""

    def __init__(
        self,
        mean: nn.Module,  # mu: [*, d] -> [*, m]
        value: nn.Module,  # v: [*, d] -> [*]
        action_dim: int,
        temperature: float,
        dt: float,
        *,
        log_scale: float = 0.0,
    ) -> None:
        super().__init__()
        check_positive("temperature", temperature)
        check_positive("dt", dt, "s")
        self.mean, self.value = mean, value
        self.temperature, self.dt = temperature, dt
        self.log_scale = nn.Parameter(torch.full((action_dim,), log_scale))  # s
        self.noise_dim = action_dim

    @property
    def variance(self) -> Tensor:  # [m]
        """Variance of the policy that this Q stands for."""
        return self.temperature * self.dt * torch.exp(self.log_scale)

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:  # [*, d], [*, m] -> [*]
        squares: Tensor = torch.exp(-self.log_scale) * (action - self.mean(obs)) ** 2
        value: Tensor = self.value(obs)
        return value - 0.5 * squares.sum(-1)

    def act(self, obs: Tensor, noise: Tensor | None) -> Tensor:
        mean: Tensor = self.mean(obs)
        return mean if noise is None else mean + torch.sqrt(self.variance) * noise

    def log_prob(self, obs: Tensor, action: Tensor) -> Tensor:  # [*, d], [*, m] -> [*]
        squares: Tensor = (action - self.mean(obs)) ** 2 / self.variance
        return -0.5 * (squares + torch.log(2.0 * math.pi * self.variance)).sum(-1)


@dataclass(frozen=True)
class BigQConfig:
    """Settings of `BigQSarsa`; rates are per second of physical time."""

    discount_rate: float = 0.0
    """beta [1/s]; 0 is the ergodic problem, in which the average reward is learned too."""
    value_rate: float = 0.001
    """alpha of v and of the average reward [1/s]."""
    q_rate: float = 0.001
    """alpha of the mean [1/s]."""
    scale_rate: float = 0.001
    """alpha of the log-curvature [1/s]."""
    update_interval: float = 0.01
    """Physical time between two updates, per path [s]."""
    decay: bool = True
    """Divide the rates by max(1, log t), t the physical time per path seen so far [s]."""
    gradient_clip: float = math.inf
    """Largest Euclidean norm of the gradient of an update, over all parameters."""


class BigQSarsa(Agent[Transitions]):
    """On-policy SARSA with Q of one control interval; the rival that fails as dt tends to 0.

    a' is drawn afresh from the policy of the moment, with torch's global generator: the next action of the rollout has
    the same law given X', and is missing in the last row of each batch. For `QuadraticBigQ` it cancels: there
    Q - gamma dt log pi is v plus a constant, whatever a'. Raises `NumericsError` when it diverges.
    """

    average_reward: Tensor  # [] per second, entropy included
    elapsed: Tensor  # [] s

    def __init__(
        self,
        q: QuadraticBigQ,
        config: BigQConfig = BigQConfig(),
        optimizer: Callable[[Any], Optimizer] = torch.optim.SGD,
    ) -> None:
        super().__init__()
        check_not_negative("discount_rate", config.discount_rate, "1/s")
        check_clip(config.gradient_clip)
        for name in ("value_rate", "q_rate", "scale_rate", "update_interval"):
            check_positive(name, getattr(config, name))
        self.q, self.config = q, config
        self.noise_dim = q.noise_dim
        self.register_buffer("average_reward", torch.zeros(()))
        self.register_buffer("elapsed", torch.zeros((), dtype=torch.float64))
        scale, _ = named(q, "log_scale")
        rates = ((q.value.parameters(), config.value_rate), (q.mean.parameters(), config.q_rate))
        groups = [(list(parameters), rate) for parameters, rate in rates]
        self.optimizers["sarsa"] = rated_optimizer(optimizer, [*groups, (scale, config.scale_rate)])

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        return self.q.act(obs, noise)

    def residual(self, batch: Transitions) -> tuple[Tensor, Tensor]:  # -> [*], [*]
        """Q, whose gradient is the test function, and delta, which is not differentiated."""
        q = self.q(batch.obs, batch.action)
        with torch.no_grad():
            chosen = self.q.act(batch.next_obs, torch.randn_like(batch.action))  # a'
            log_prob = self.q.log_prob(batch.next_obs, chosen)
            soft = self.q(batch.next_obs, chosen) - self.q.temperature * self.q.dt * log_prob
            running = self.config.discount_rate * q if self.config.discount_rate else self.average_reward
            delta = increment(q, soft * (batch.discount > 0), batch.reward, batch.dt, running=running)
        return q, delta

    def update(self, batch: Transitions) -> Metrics:
        config = self.config
        q, delta = self.residual(batch)
        seconds = seconds_of(batch.dt)
        check_alive(
            "big-Q SARSA",
            delta,
            seconds,
            self.elapsed,
            lambda: unbounded(batch.obs, config.discount_rate) or "lower the rates, or use q-learning",
        )
        decay = float(log_decay(self.elapsed)) if config.decay else 1.0
        step = config.update_interval * decay  # s
        climb(self.optimizers["sarsa"], (q * delta).sum() / seconds, step, config.gradient_clip)
        if not config.discount_rate:
            self.average_reward += config.value_rate * step * world().mean(delta.sum()) / seconds
        self.elapsed += config.update_interval
        return {
            "train/residual_mean": delta.mean(),
            "train/residual_sd": delta.std(correction=0),
            "train/average_reward": self.average_reward,
            "train/learning_rate": config.q_rate * decay,
        }
