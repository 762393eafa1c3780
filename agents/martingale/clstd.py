"""Continuous least-squares temporal differences: policy evaluation as one linear solve.

    sum_k xi_k delta_k = 0,   delta_k = J(X_{k+1}) - J(X_k) + r_k dt - beta J(X_k) dt,   J = phi . theta

The process exp(-beta t) J(X_t) plus the discounted reward earned so far is a martingale exactly when J is the value
function; its increments are then orthogonal to every adapted test function xi, and with linear J the condition is
linear. xi = phi is CLSTD(0), its trace CLSTD(lambda); the rule of the increments and what else runs per second are
arguments.
Source: Jia and Zhou, JMLR 23 (2022) 154, section 4.2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rlcore.agents.martingale.least_squares import (
    Features,
    NormalEquations,
    Running,
    blocks,
    evaluated,
    regressors,
)
from rlcore.checks import check_finite, check_not_negative
from rlcore.data import Trajectory
from rlcore.functional.increments import Increments, Left, check_times
from rlcore.functional.test_functions import GRADIENT, Instrument, largest_share
from rlcore.training.agent import Agent, Metrics


@dataclass(frozen=True)
class ClstdConfig:
    """Settings of `Clstd`."""

    discount_rate: float = 0.5
    """beta [1/s]."""
    ridge: float = 0.0
    """Added to the diagonal of the normal matrix, which grows with the time seen [s]; 0 leaves the estimator alone."""


class Clstd(Agent[Trajectory]):
    """CLSTD(0) and CLSTD(lambda): adds every trajectory to the normal equations and solves them, in float64.

    With `running` the unknown rates are solved for as well: `ERGODIC` gives `rates` = the average reward (leave the
    constant out of the features then), centred action features make data of another policy admissible.
    """

    theta: Tensor  # [p]
    rates: Tensor  # [r] per second

    def __init__(
        self,
        policy: Callable[[Tensor], Tensor],  # [B, d] -> [B, m], the law under judgement
        features: Features,  # phi: [..., d] -> [..., p]
        n_features: int,
        config: ClstdConfig = ClstdConfig(),
        *,
        rule: Callable[[float], Increments] = Left,
        test: Instrument = GRADIENT,
        running: Running | None = None,
    ) -> None:
        super().__init__()
        check_not_negative("ridge", config.ridge)
        self.policy, self.features, self.config = policy, features, config
        self.rule, self.test, self.running = rule(config.discount_rate), test, running
        n_rates = 0 if running is None else running.count
        self.equations = NormalEquations(n_features + n_rates, n_features + n_rates, config.ridge)
        for name, size in {"theta": n_features, "rates": n_rates}.items():
            self.register_buffer(name, torch.zeros(size, dtype=torch.float64))

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        return self.policy(obs)

    def value(self, obs: Tensor) -> Tensor:  # [..., d] -> [...]
        """J(x), the estimated value."""
        return self.features(obs).double() @ self.theta

    def test_functions(self, phi: Tensor, batch: Trajectory) -> Tensor:  # [K, B, p] -> [K, B, p + r]
        """xi of every step, 0 where the rule has no increment."""
        xi = self.test.forward(phi, batch)
        if self.running is not None:
            xi = torch.cat([xi, self.running.rates(batch.obs[:-1], batch.action).double()], dim=-1)
        usable = self.rule.usable(batch)
        return xi if bool(usable.all()) else xi * usable.unsqueeze(-1)

    @torch.no_grad()
    def update(self, batch: Trajectory) -> Metrics:
        check_times(batch)
        total, rows, share = torch.zeros_like(self.equations.target), 0, 0.0
        earned_total = total.new_zeros(())
        for part in blocks(batch):
            phi, features = evaluated(self.features, part)
            xi = self.test_functions(phi[:-1], part).flatten(0, 1)  # [K B, p + r]
            change = regressors(part, features, self.rule, self.running).flatten(0, 1)
            earned = self.rule.earned(part).double().flatten()
            self.equations.add(xi, change, earned)
            total, rows = total + change.sum(0), rows + len(earned)
            earned_total = earned_total + earned.sum()
            share = max(share, float(largest_share(xi)) * len(earned))
        solution, condition = self.equations.solve()
        check_finite("theta", solution)
        self.theta.copy_(solution[: len(self.theta)])
        self.rates.copy_(solution[len(self.theta) :])
        return {
            "train/residual_mean": (earned_total + total @ solution) / rows,
            "train/condition": condition,
            "train/test_function_share": share / rows,
        }
