"""Gradient temporal differences in continuous time: GTD2, TDC, and the naive form that is biased.

All descend on g' (E xi xi' dt)^-1 g with g = E sum_k xi_k delta_k and xi = dJ/dtheta. A second vector u follows the
regression of delta / dt on xi, on a faster time scale:

    u += alpha_u xi (delta - xi.u dt)
    GTD2    theta -= alpha (ddelta/dtheta) (xi.u)
    TDC     theta += alpha ( xi delta - dt (ddelta/dtheta + xi) (xi.u) )
    naive   theta -= alpha (ddelta/dtheta xi') (xi delta) / dt

The naive form squares the moment of a single sample. Its mean at the true value is not zero but the covariation of
ddelta/dtheta and delta, of order dt before the division by dt, so it settles elsewhere; u, an average, has no such
term. TDC moves like CTD(0) while u lags and at a rate of order dt once u has caught up: for small dt, prefer GTD2.
Sources: Jia and Zhou, JMLR 23 (154), 2022, section 4.3; Sutton et al., ICML 2009, for GTD2 and TDC in discrete time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rlcore.agents.martingale.online import check_alive
from rlcore.checks import check_not_negative, check_positive
from rlcore.data import Trajectory
from rlcore.functional.increments import Increments, Left, check_times, per_step
from rlcore.nn.gradients import per_sample_gradient, step_along
from rlcore.training.agent import Agent, Metrics


@dataclass(frozen=True)
class GradientTdConfig:
    """Settings of the gradient temporal-difference agents."""

    discount_rate: float = 0.5
    """beta [1/s]."""
    learning_rate: float = 0.1
    """alpha [1/s]."""
    helper_rate: float = 1.0
    """alpha_u [1/s]; an order of magnitude above alpha."""

    def __post_init__(self) -> None:
        check_not_negative("discount_rate", self.discount_rate, "1/s")
        check_positive("learning_rate", self.learning_rate, "1/s")
        check_positive("helper_rate", self.helper_rate, "1/s")


Direction = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
"""(xi [K, B, p], ddelta/dtheta [K, B, p], delta, xi.u, dt, all three [K, B, 1]) -> the step of theta [K, B, p]."""


def gtd2(xi: Tensor, slope: Tensor, delta: Tensor, along: Tensor, dt: Tensor) -> Tensor:
    """GTD2: down the squared norm of the moments."""
    return -slope * along


def tdc(xi: Tensor, slope: Tensor, delta: Tensor, along: Tensor, dt: Tensor) -> Tensor:
    """TDC: CTD(0) with the correction that makes it a gradient."""
    return xi * delta - dt * (slope + xi) * along


def naive(xi: Tensor, slope: Tensor, delta: Tensor, along: Tensor, dt: Tensor) -> Tensor:
    """The biased form, kept to show its bias: the moment of one sample, squared."""
    return -slope * (xi**2).sum(-1, keepdim=True) * delta / dt


class GradientTd(Agent[Trajectory]):
    """GTD2 or TDC for value functions with few parameters, on batches [K, B]: sum over k, mean over paths."""

    helper: Tensor  # u [p]
    elapsed: Tensor  # [] s

    def __init__(
        self,
        policy: Callable[[Tensor], Tensor],  # [B, d] -> [B, m], the law under judgement
        value: nn.Module,  # J: [..., d] -> [...]
        config: GradientTdConfig = GradientTdConfig(),
        *,
        direction: Direction = gtd2,
        rule: Callable[[float], Increments] = Left,
    ) -> None:
        super().__init__()
        self.policy, self.value, self.config, self.direction = policy, value, config, direction
        self.rule = rule(config.discount_rate)
        self.register_buffer("elapsed", torch.zeros((), dtype=torch.float64))
        first = next(value.parameters())
        self.register_buffer("helper", first.new_zeros(sum(p.numel() for p in value.parameters())).detach())

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        return self.policy(obs)

    @torch.no_grad()
    def update(self, batch: Trajectory) -> Metrics:
        check_times(batch)
        usable = self.rule.usable(batch).unsqueeze(-1)
        xi = per_sample_gradient(self.value, batch.obs[:-1]) * usable  # [K, B, p]
        slope = self.rule.change(lambda obs: per_sample_gradient(self.value, obs), batch) * usable
        delta = (self.rule.change(self.value, batch) + self.rule.earned(batch)).unsqueeze(-1) * usable  # [K, B, 1]
        seconds = batch.dt.sum() * delta.shape[1]
        check_alive("gradient TD", delta, seconds, self.elapsed, lambda: "lower learning_rate and helper_rate")
        dt = per_step(batch.dt, xi)  # [K, 1, 1]
        along = (xi @ self.helper).unsqueeze(-1)  # [K, B, 1]
        step_along(self.value, self.config.learning_rate * self.direction(xi, slope, delta, along, dt).sum(0).mean(0))
        self.helper += self.config.helper_rate * (xi * (delta - along * dt)).sum(0).mean(0)
        self.elapsed += batch.dt.sum()
        return {"train/residual_mean": delta.mean(), "train/helper_norm": self.helper.norm()}
