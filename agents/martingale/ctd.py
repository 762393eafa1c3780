"""Continuous temporal differences, CTD(0): stochastic approximation of the martingale orthogonality condition.

    theta += alpha xi_k delta_k,  xi = dJ/dtheta,  delta_k = J(X_{k+1}) - J(X_k) + r_k dt - beta J(X_k) dt

There is no division by dt: delta is already an increment, so alpha is a rate per second and does not change with dt.
Source: Jia and Zhou, JMLR 23 (2022) 154, section 4.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rlcore.checks import check_not_negative, check_positive
from rlcore.data import Trajectory
from rlcore.functional.martingale import increment, log_decay
from rlcore.training.agent import Agent, Metrics


@dataclass(frozen=True)
class CtdConfig:
    """Settings of `Ctd`."""

    discount_rate: float = 0.5
    """beta [1/s]."""
    learning_rate: float = 0.1
    """alpha [1/s], averaged over the paths of a batch."""
    decay: bool = True
    """Divide the rate by max(1, log t), t the physical time per path seen so far [s]."""


class Ctd(Agent[Trajectory]):
    """CTD(0) for any differentiable value function; a batch [K, B] makes one step: sum over k, mean over paths."""

    elapsed: Tensor  # [] s

    def __init__(
        self,
        policy: Callable[[Tensor], Tensor],  # [B, d] -> [B, m], the law under judgement
        value: nn.Module,  # J: [..., d] -> [...]
        config: CtdConfig = CtdConfig(),
    ) -> None:
        super().__init__()
        check_not_negative("discount_rate", config.discount_rate, "1/s")
        check_positive("learning_rate", config.learning_rate, "1/s")
        self.policy, self.value, self.config = policy, value, config
        self.register_buffer("elapsed", torch.zeros((), dtype=torch.float64))
        self.optimizers["value"] = torch.optim.SGD(value.parameters(), lr=config.learning_rate)

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        return self.policy(obs)

    def update(self, batch: Trajectory) -> Metrics:
        value = self.value(batch.obs)  # [K+1, B]
        fixed = value.detach()
        dt = batch.dt.to(fixed.dtype).unsqueeze(1)
        after = fixed[1:] * ~batch.terminated
        delta = increment(fixed[:-1], after, batch.reward, dt, running=self.config.discount_rate * fixed[:-1])
        delta = delta * batch.alive  # [K, B]
        loss = -(value[:-1] * delta).sum(0).mean()  # its gradient is -xi delta: the target is never differentiated
        optimizer = self.optimizers["value"]
        rate = self.config.learning_rate * (float(log_decay(self.elapsed)) if self.config.decay else 1.0)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        self.elapsed += batch.dt.sum()
        return {"train/residual_mean": delta.mean(), "train/learning_rate": rate}
