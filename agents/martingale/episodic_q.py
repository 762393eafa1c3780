"""q-learning on whole paths of a finite horizon, with q = gamma log pi: normalised by construction, for any pi.

    delta_k = J(X_{k+1}) - J(X_k) + r_k - (q(X_k, a_k) + beta J(X_k)) dt
    theta += alpha_theta l(j) sum_k dJ_k/dtheta delta_k,   psi += alpha_psi l(j) sum_k dq_k/dpsi delta_k

The other form minimises the martingale loss over both, with h the terminal reward:

    E sum_k ( exp(-beta T) h + sum_{i>=k} exp(-beta t_i) (r_i - q_i) dt - exp(-beta t_k) J(X_k) )^2 dt / 2

It makes J the best approximation in mean square, but needs paths of the policy itself: only under pi has dq/dpsi the
mean zero that keeps the noise of the path out of the gradient. The first form learns from any paths.
Source: Jia and Zhou, "q-Learning in continuous time", JMLR 24 (2023) 161, the offline algorithms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from rlcore.agents.martingale.episodic import (
    DEFAULT,
    Ascent,
    Density,
    EpisodicConfig,
    Weight,
    climb,
    discounts,
    gram,
    next_decay,
    row_gradients,
    running_time,
    scores,
    weights,
)
from rlcore.data import Trajectory
from rlcore.errors import ConfigError
from rlcore.functional.increments import Left, check_times
from rlcore.functional.martingale import reward_to_go
from rlcore.training.agent import Agent, Metrics


class EpisodicQLearning(Agent[Trajectory]):
    """q-learning for a finite horizon; natural steps work as in `EpisodicActorCritic`.

    For the martingale loss their metric is Gauss and Newton's. Raises `NumericsError` when it diverges.
    """

    updates: Tensor  # [] updates made

    def __init__(
        self,
        value: nn.Module,  # J: [..., d] -> [...], of observations that hold the remaining time
        policy: Density,
        config: EpisodicConfig = DEFAULT,
        optimizer: Callable[..., Optimizer] = torch.optim.SGD,
        *,
        weight: Weight | None = None,  # eta(x) > 0, which multiplies every test function; 1 unless given
        form: Literal["orthogonality", "martingale loss"] = "orthogonality",
    ) -> None:
        super().__init__()
        if form not in ("orthogonality", "martingale loss"):
            raise ConfigError(f"form must be 'orthogonality' or 'martingale loss', got {form!r}")
        self.value, self.config, self.form = value, config, form
        self.policy: Any = policy
        self.noise_dim = policy.noise_dim
        self.weight = weight
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.optimizers["value"] = optimizer(value.parameters(), lr=config.value_rate)
        self.optimizers["q"] = optimizer(self.policy.parameters(), lr=config.policy_rate)

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        action: Tensor = self.policy.act(obs, noise)
        return action

    def q(self, obs: Tensor, action: Tensor) -> Tensor:  # [..., d], [..., m] -> [...]
        """q(t, x, a); int exp(q / gamma) da = 1."""
        found: Tensor = self.config.temperature * self.policy.log_prob(obs, action)
        return found

    @torch.no_grad()
    def residual(self, batch: Trajectory) -> Tensor:  # -> [K, B]
        """delta."""
        change = Left(self.config.discount_rate).change(self.value, batch)
        q: Tensor = self.q(batch.obs[:-1], batch.action) * running_time(batch)
        return (change + batch.reward) * batch.alive - q

    def error(self, batch: Trajectory) -> Tensor:  # -> [K, B]
        """The reward to come less q and J, discounted to the time of its step; differentiable in both."""
        beta, never = self.config.discount_rate, torch.zeros_like(batch.terminated)
        q = self.q(batch.obs[:-1], batch.action) * running_time(batch)
        to_come = reward_to_go(batch.reward, batch.dt, batch.terminated, beta) - reward_to_go(q, batch.dt, never, beta)
        error: Tensor = (to_come - self.value(batch.obs[:-1])) * batch.alive
        return error

    def objectives(self, batch: Trajectory) -> tuple[Tensor, Tensor, Tensor]:  # -> [K, B], [], []
        """The residual, and what value and q climb."""
        if self.form == "martingale loss":
            error, discount = self.error(batch), discounts(batch, self.config.discount_rate)
            square = weights(self.weight, batch) * (discount * error) ** 2
            gain = -0.5 * (square * running_time(batch)).sum(0).mean()
            return error.detach(), gain, gain
        obs, delta = batch.obs[:-1], self.residual(batch)
        weighted = weights(self.weight, batch) * delta
        return delta, (self.value(obs) * weighted).sum(0).mean(), (self.q(obs, batch.action) * weighted).sum(0).mean()

    def metrics_of_tests(self, batch: Trajectory) -> tuple[Tensor, Tensor]:  # -> [p, p], [p', p']
        """The metrics in which natural steps of value and q are taken."""
        seconds = weights(self.weight, batch) * running_time(batch)
        discount = discounts(batch, self.config.discount_rate)
        tests = row_gradients(self.value, batch.obs[:-1])
        slopes = self.config.temperature * scores(self.policy, batch)
        if self.form == "orthogonality":
            return gram(tests, seconds), gram(slopes, seconds)
        earned = slopes * (discount * seconds).unsqueeze(-1)
        to_come = earned.flip(0).cumsum(0).flip(0)  # the slope of all the q to come, discounted to the start
        return gram(tests, discount**2 * seconds), gram(to_come, seconds)

    def update(self, batch: Trajectory) -> Metrics:
        check_times(batch)
        config = self.config
        residual, value, q = self.objectives(batch)
        shapes = self.metrics_of_tests(batch) if config.natural else (None, None)
        decay = next_decay("q-learning", self.updates, config.decay, residual)
        climb(
            [
                Ascent(self.optimizers["value"], value, config.value_rate * decay, shapes[0]),
                Ascent(self.optimizers["q"], q, config.policy_rate * decay, shapes[1]),
            ],
            config.gradient_clip,
        )
        return {"train/residual_mean": residual.sum(0).mean(), "train/learning_rate": config.policy_rate * decay}
