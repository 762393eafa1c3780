"""Continuous temporal differences, CTD(lambda): stochastic approximation of the martingale orthogonality condition.

    theta += alpha xi_k delta_k,   delta_k = J(X_{k+1}) - J(X_k) + r_k dt - beta J(X_k) dt

xi is dJ/dtheta or its trace. There is no division by dt: delta is already an increment, so alpha is a rate per second
and does not change with dt. Offline, a batch is a set of whole paths; online, it is the next steps of paths that go on,
and `CtdOnline` carries the trace from one to the next.
Source: Jia and Zhou, JMLR 23 (2022) 154, section 4.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rlcore.agents.martingale.least_squares import check_stable
from rlcore.agents.martingale.online import check_alive
from rlcore.checks import check_not_negative, check_positive
from rlcore.data import Trajectory
from rlcore.errors import ConfigError
from rlcore.functional.increments import Increments, Left, check_times
from rlcore.functional.martingale import log_decay
from rlcore.functional.test_functions import GRADIENT, Instrument
from rlcore.nn.gradients import per_sample_gradient, step_along
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
    ergodic: bool = False
    """Learn the average reward as well, which takes the place of the discount; beta must be 0 then."""

    def __post_init__(self) -> None:
        check_not_negative("discount_rate", self.discount_rate, "1/s")
        check_positive("learning_rate", self.learning_rate, "1/s")
        if self.ergodic and self.discount_rate:
            raise ConfigError(
                f"an ergodic problem has discount_rate 0, got {self.discount_rate}; choose one of the two"
            )


def remedy() -> str:
    """What to change when it diverges."""
    return "lower learning_rate, or weight the test functions, Weighted(bounded(0.1)), if the states have heavy tails"


class Ctd(Agent[Trajectory]):
    """CTD for any differentiable value function; a batch [K, B] makes one step: sum over k, mean over paths."""

    elapsed: Tensor  # [] s
    average_reward: Tensor  # [] per second; 0 unless ergodic

    def __init__(
        self,
        policy: Callable[[Tensor], Tensor],  # [B, d] -> [B, m], the law under judgement
        value: nn.Module,  # J: [..., d] -> [...]
        config: CtdConfig = CtdConfig(),
        *,
        rule: Callable[[float], Increments] = Left,
        test: Instrument = GRADIENT,
    ) -> None:
        super().__init__()
        self.policy, self.value, self.config = policy, value, config
        self.rule, self.test = rule(config.discount_rate), test
        self.register_buffer("elapsed", torch.zeros((), dtype=torch.float64))
        self.register_buffer("average_reward", torch.zeros((), dtype=torch.float64))
        self.optimizers["value"] = torch.optim.SGD(value.parameters(), lr=config.learning_rate)

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        return self.policy(obs)

    def update(self, batch: Trajectory) -> Metrics:
        check_times(batch)
        if self.config.ergodic:
            check_stable(batch)
        with torch.no_grad():
            earned = self.rule.earned(batch) - self.average_reward.to(batch.reward.dtype) * batch.dt.unsqueeze(1)
            delta = (self.rule.change(self.value, batch) + earned) * self.rule.usable(batch)  # [K, B]
            weight = self.test.adjoint(delta, batch)
        check_alive("CTD", delta, batch.dt.sum() * delta.shape[1], self.elapsed, remedy)
        loss = -(self.value(batch.obs[:-1]) * weight).sum(0).mean()  # its gradient is -xi delta
        optimizer = self.optimizers["value"]
        rate = self.config.learning_rate * (float(log_decay(self.elapsed)) if self.config.decay else 1.0)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if self.config.ergodic:
            self.average_reward += rate * delta.sum(0).mean()
        self.elapsed += batch.dt.sum()
        return {
            "train/residual_mean": delta.mean(),
            "train/learning_rate": rate,
            "train/average_reward": self.average_reward,
        }


class CtdOnline(Agent[Trajectory]):
    """CTD(lambda) step by step along paths that go on: one update per time step, the trace of every path carried over.

    The gradient is taken per path, so it serves value functions with few parameters: features, the papers' forms.
    """

    elapsed: Tensor  # [] s
    trace: Tensor  # [B, p], empty before the first batch

    def __init__(
        self,
        policy: Callable[[Tensor], Tensor],  # [B, d] -> [B, m], the law under judgement
        value: nn.Module,  # J: [..., d] -> [...]
        config: CtdConfig = CtdConfig(),
        *,
        trace_decay: float = 0.5,  # lambda, what is left of a gradient after one second; 0 is CTD(0)
    ) -> None:
        super().__init__()
        if not 0.0 <= trace_decay <= 1.0:
            raise ConfigError(f"trace_decay must lie in [0, 1], got {trace_decay}")
        if config.ergodic:
            raise ConfigError("CtdOnline is written for discounted problems; use Ctd or ActorCritic for ergodic ones")
        self.policy, self.value, self.config, self.trace_decay = policy, value, config, trace_decay
        self.register_buffer("elapsed", torch.zeros((), dtype=torch.float64))
        self.register_buffer("trace", torch.zeros(0))

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        return self.policy(obs)

    @torch.no_grad()
    def update(self, batch: Trajectory) -> Metrics:
        check_times(batch)
        config, total = self.config, 0.0
        for k, dt in enumerate(batch.dt.tolist()):
            gradient = per_sample_gradient(self.value, batch.obs[k])
            if self.trace.shape != gradient.shape:
                self.trace = torch.zeros_like(gradient)
            factor = self.trace_decay**dt
            self.trace = factor * self.trace + dt * gradient if self.trace_decay else gradient
            alive = batch.alive[k]
            before, after = self.value(batch.obs[k]), self.value(batch.obs[k + 1]) * ~batch.terminated[k]
            delta = (after - before * (1.0 + config.discount_rate * dt) + batch.reward[k]) * alive  # [B]
            check_alive("CTD", delta, delta.new_tensor(dt * len(delta)), self.elapsed, remedy)
            rate = config.learning_rate * (float(log_decay(self.elapsed)) if config.decay else 1.0)
            step_along(self.value, rate * (self.trace * delta.unsqueeze(1)).mean(0))
            self.trace = self.trace * ~batch.terminated[k].unsqueeze(1)
            self.elapsed += dt
            total = total + delta.mean()
        return {"train/residual_mean": total / len(batch.dt), "train/learning_rate": rate}
