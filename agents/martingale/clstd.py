"""Continuous least-squares temporal differences: policy evaluation as one linear solve.

    sum_k xi_k delta_k = 0,  delta_k = J(X_{k+1}) - J(X_k) + r_k dt - beta J(X_k) dt,  J = phi . theta,  xi = phi

The process exp(-beta t) J(X_t) plus the discounted reward earned so far is a martingale exactly when J is the value
function; its increments are then orthogonal to every adapted test function, and with linear J the condition is linear.
Source: Jia and Zhou, JMLR 23 (2022) 154, section 4.2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rlcore.checks import check_finite, check_not_negative
from rlcore.data import Trajectory
from rlcore.errors import NumericsError
from rlcore.training.agent import Agent, Metrics


@dataclass(frozen=True)
class ClstdConfig:
    """Settings of `Clstd`."""

    discount_rate: float = 0.5
    """beta [1/s]."""
    ridge: float = 0.0
    """Added to the diagonal of the normal matrix, which grows with the time seen [s]; 0 leaves the estimator alone."""


class Clstd(Agent[Trajectory]):
    """CLSTD(0): accumulates the normal equations of every trajectory it is shown and solves them, in float64."""

    theta: Tensor  # [p]
    gram: Tensor  # [p, p]
    target: Tensor  # [p]

    def __init__(
        self,
        policy: Callable[[Tensor], Tensor],  # [B, d] -> [B, m], the law under judgement
        features: Callable[[Tensor], Tensor],  # phi: [..., d] -> [..., p]
        n_features: int,
        config: ClstdConfig = ClstdConfig(),
    ) -> None:
        super().__init__()
        check_not_negative("discount_rate", config.discount_rate, "1/s")
        check_not_negative("ridge", config.ridge)
        self.policy, self.features, self.config = policy, features, config
        for name, shape in {"theta": (n_features,), "gram": (n_features,) * 2, "target": (n_features,)}.items():
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        return self.policy(obs)

    def value(self, obs: Tensor) -> Tensor:  # [..., d] -> [...]
        """J(x), the estimated value."""
        return self.features(obs).double() @ self.theta

    def update(self, batch: Trajectory) -> Metrics:
        phi = self.features(batch.obs).double()  # [K+1, B, p]
        dt = batch.dt[:, None, None]
        xi = (phi[:-1] * batch.alive.unsqueeze(-1)).flatten(0, 1)  # [K B, p]
        change = phi[1:] * ~batch.terminated.unsqueeze(-1) - (1.0 + self.config.discount_rate * dt) * phi[:-1]
        self.gram -= xi.T @ change.flatten(0, 1)
        self.target += xi.T @ batch.reward.double().flatten()
        normal = self.gram + self.config.ridge * torch.eye(len(self.theta), dtype=torch.float64, device=phi.device)
        condition = torch.linalg.cond(normal)
        if not bool(condition < 1e14):
            raise NumericsError(
                f"the normal matrix is singular (condition {float(condition):.1e}); "
                "use fewer features, more data or a ridge"
            )
        self.theta.copy_(torch.linalg.solve(normal, self.target))
        check_finite("theta", self.theta)
        residual = batch.reward.double() + change @ self.theta  # [K, B]
        return {"train/residual_mean": residual.mean(), "train/condition": condition}
