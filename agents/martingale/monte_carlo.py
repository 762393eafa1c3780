"""The martingale loss: the value as the least-squares projection of the reward to come.

    ML(theta) = E int_0^T ( exp(-beta T) h + int_t^T exp(-beta s) r_s ds - exp(-beta t) J(X_t) )^2 dt / 2

Its minimiser is the best approximation of the value in mean square along the data, without bootstrapping; the variance
grows with the horizon. Whole paths are needed: a path that has not ended by the last observation counts as worth
`tail` of its last observation, or nothing.
Source: Jia and Zhou, JMLR 23 (154), 2022, section 3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rlcore.agents.martingale.least_squares import Features, NormalEquations, blocks, check_features
from rlcore.checks import check_not_negative, check_positive
from rlcore.data import Trajectory
from rlcore.errors import NumericsError
from rlcore.functional.increments import check_times
from rlcore.functional.martingale import reward_to_go
from rlcore.training.agent import Agent, Metrics

Tail = Callable[[Tensor], Tensor]  # [B, d] -> [B]


@dataclass(frozen=True)
class MartingaleLossConfig:
    """Settings of `MartingaleLoss` and `LinearMartingaleLoss`."""

    discount_rate: float = 0.5
    """beta [1/s]."""
    learning_rate: float = 0.1
    """Rate of the gradient form [1/s]."""

    def __post_init__(self) -> None:
        check_not_negative("discount_rate", self.discount_rate, "1/s")
        check_positive("learning_rate", self.learning_rate, "1/s")


def targets(batch: Trajectory, discount_rate: float, tail: Tail | None) -> tuple[Tensor, Tensor]:
    """The reward to come [K, B], seen from each time, and the weight exp(-2 beta t) dt of its square [K, B]."""
    last = None if tail is None else tail(batch.obs[-1])
    to_go = reward_to_go(batch.reward, batch.dt, batch.terminated, discount_rate, last)
    weight = torch.exp(-2.0 * discount_rate * (batch.t[:-1] - batch.t[0])) * batch.dt
    return to_go, weight.unsqueeze(1).to(to_go.dtype) * batch.alive


class LinearMartingaleLoss(Agent[Trajectory]):
    """The minimiser for J = phi . theta in closed form: least-squares Monte Carlo, in float64."""

    theta: Tensor  # [p]

    def __init__(
        self,
        policy: Callable[[Tensor], Tensor],  # [B, d] -> [B, m], the law under judgement
        features: Features,  # phi: [..., d] -> [..., p]
        n_features: int,
        config: MartingaleLossConfig = MartingaleLossConfig(),
        *,
        tail: Tail | None = None,
    ) -> None:
        super().__init__()
        self.policy, self.features, self.config, self.tail = policy, features, config, tail
        self.equations = NormalEquations(n_features, n_features)
        self.register_buffer("theta", torch.zeros(n_features, dtype=torch.float64))

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        return self.policy(obs)

    def value(self, obs: Tensor) -> Tensor:  # [..., d] -> [...]
        """J(x), the estimated value."""
        return self.features(obs).double() @ self.theta

    @torch.no_grad()
    def update(self, batch: Trajectory) -> Metrics:
        check_times(batch)
        check_features(self.features, len(self.theta), batch)
        for part in blocks(batch):
            to_go, weight = targets(part, self.config.discount_rate, self.tail)
            phi = self.features(part.obs[:-1]).double().flatten(0, 1)  # [K B, p]
            self.equations.add(phi * weight.double().flatten().unsqueeze(1), -phi, to_go.double().flatten())
        solution, condition = self.equations.solve()
        self.theta.copy_(solution)
        return {"train/condition": condition}


class MartingaleLoss(Agent[Trajectory]):
    """Gradient descent on the martingale loss for any differentiable value function; gradient Monte Carlo."""

    def __init__(
        self,
        policy: Callable[[Tensor], Tensor],  # [B, d] -> [B, m], the law under judgement
        value: nn.Module,  # J: [..., d] -> [...]
        config: MartingaleLossConfig = MartingaleLossConfig(),
        optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.SGD,
        *,
        tail: Tail | None = None,
    ) -> None:
        super().__init__()
        self.policy, self.value, self.config, self.tail = policy, value, config, tail
        self.optimizers["value"] = optimizer(value.parameters(), lr=config.learning_rate)

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        return self.policy(obs)

    def update(self, batch: Trajectory) -> Metrics:
        check_times(batch)
        to_go, weight = targets(batch, self.config.discount_rate, self.tail)
        error = to_go - self.value(batch.obs[:-1])  # [K, B]
        loss = 0.5 * (weight * error**2).sum(0).mean()
        if not bool(loss.isfinite()):
            raise NumericsError(
                f"the martingale loss diverged: it must be finite, got {float(loss)}; lower learning_rate"
            )
        self.optimizers["value"].zero_grad()
        loss.backward()
        self.optimizers["value"].step()
        return {"train/martingale_loss": loss.detach()}
