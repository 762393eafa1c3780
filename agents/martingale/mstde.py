"""Least squares of the temporal-difference error: the method that fails in continuous time, kept to show it.

    MSTDE(theta) = E sum_k (delta_k / dt)^2 dt

delta contains the noise sigma' grad J dW of size sqrt(dt), so dt MSTDE tends to the quadratic variation of the
martingale, E int |sigma' grad J|^2 dt: as dt -> 0 its minimiser is the flattest function of the family, not the value.
Only without noise is it right (Doya 2000). Use `Clstd` or `Ctd` instead.
Source: Jia and Zhou, JMLR 23 (154), 2022, section 3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rlcore.agents.martingale.least_squares import (
    Features,
    NormalEquations,
    blocks,
    check_features,
    evaluated,
    regressors,
)
from rlcore.agents.martingale.online import check_alive
from rlcore.checks import check_not_negative, check_positive
from rlcore.data import Trajectory
from rlcore.functional.increments import Increments, Left, check_times, per_step
from rlcore.training.agent import Agent, Metrics


@dataclass(frozen=True)
class MstdeConfig:
    """Settings of `Mstde` and `LinearMstde`."""

    discount_rate: float = 0.5
    """beta [1/s]."""
    learning_rate: float = 0.1
    """Rate of the gradient form [1/s]."""

    def __post_init__(self) -> None:
        check_not_negative("discount_rate", self.discount_rate, "1/s")
        check_positive("learning_rate", self.learning_rate, "1/s")


class LinearMstde(Agent[Trajectory]):
    """A baseline that must fail: the minimiser of the mean-square TD error for J = phi . theta."""

    theta: Tensor  # [p]

    def __init__(
        self,
        policy: Callable[[Tensor], Tensor],  # [B, d] -> [B, m], the law under judgement
        features: Features,  # phi: [..., d] -> [..., p]
        n_features: int,
        config: MstdeConfig = MstdeConfig(),
        *,
        rule: Callable[[float], Increments] = Left,
    ) -> None:
        super().__init__()
        self.policy, self.features, self.rule = policy, features, rule(config.discount_rate)
        self.equations = NormalEquations(n_features, n_features)
        self.register_buffer("theta", torch.zeros(n_features, dtype=torch.float64))

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        return self.policy(obs)

    def value(self, obs: Tensor) -> Tensor:  # [..., d] -> [...]
        """J(x), the function that the method mistakes for the value."""
        return self.features(obs).double() @ self.theta

    @torch.no_grad()
    def update(self, batch: Trajectory) -> Metrics:
        check_times(batch)
        check_features(self.features, len(self.theta), batch)
        for part in blocks(batch):
            change = regressors(part, evaluated(self.features, part)[1], self.rule, None)
            left = change * self.rule.usable(part).unsqueeze(-1) / per_step(part.dt, change)
            self.equations.add(left.flatten(0, 1), change.flatten(0, 1), self.rule.earned(part).double().flatten())
        solution, condition = self.equations.solve()
        self.theta.copy_(solution)
        return {"train/condition": condition}


class Mstde(Agent[Trajectory]):
    """A baseline that must fail: the residual gradient, which differentiates both ends of the TD error."""

    def __init__(
        self,
        policy: Callable[[Tensor], Tensor],  # [B, d] -> [B, m], the law under judgement
        value: nn.Module,  # J: [..., d] -> [...]
        config: MstdeConfig = MstdeConfig(),
        optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.SGD,
        *,
        rule: Callable[[float], Increments] = Left,
    ) -> None:
        super().__init__()
        self.policy, self.value, self.rule = policy, value, rule(config.discount_rate)
        self.optimizers["value"] = optimizer(value.parameters(), lr=config.learning_rate)

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        return self.policy(obs)

    def update(self, batch: Trajectory) -> Metrics:
        check_times(batch)
        delta = (self.rule.change(self.value, batch) + self.rule.earned(batch)) * self.rule.usable(batch)  # [K, B]
        seconds = batch.dt.sum() * delta.shape[1]
        check_alive("the residual gradient", delta.detach(), seconds, None, lambda: "lower learning_rate")
        loss: Tensor = 0.5 * (delta**2 / per_step(batch.dt, delta)).sum(0).mean()
        self.optimizers["value"].zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizers["value"].step()
        return {"train/mean_square_td_error": 2.0 * loss.detach()}
