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

from rlcore.agents.martingale.block_sums import Method, compiled_sums, plain_sums
from rlcore.agents.martingale.least_squares import (
    ERGODIC,
    Features,
    NormalEquations,
    Running,
    check_features,
    check_stable,
)
from rlcore.agents.martingale.tails import TestFunctionShare
from rlcore.checks import check_finite, check_not_negative
from rlcore.data import Trajectory
from rlcore.errors import ConfigError
from rlcore.functional.increments import Increments, Left, check_times
from rlcore.functional.test_functions import GRADIENT, Instrument
from rlcore.training.agent import Agent, Metrics


@dataclass(frozen=True)
class ClstdConfig:
    """Settings of `Clstd`."""

    discount_rate: float = 0.5
    """beta [1/s]."""
    ridge: float = 0.0
    """Added to the diagonal of the normal matrix, which grows with the time seen [s]; 0 leaves the estimator alone."""
    compiled: bool = False
    """Make features, increments and sums in one compiled pass; needs a C++ compiler and ten seconds once, far more
    with `Trace`, whose recursion over time is unrolled."""


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
        if running is not None and not isinstance(running, Running):
            raise ConfigError(f"running must be ERGODIC, centred(...) or another Running, got {running!r}")
        if running is ERGODIC and config.discount_rate:
            raise ConfigError(
                f"an ergodic problem has discount_rate 0, got {config.discount_rate}; choose one of the two"
            )
        self.policy, self.config = policy, config
        self.method = Method(features, rule(config.discount_rate), test, running)
        n_rates = 0 if running is None else running.count
        self.equations = NormalEquations(n_features + n_rates, n_features + n_rates, config.ridge)
        self.tests = TestFunctionShare(n_features + n_rates)
        for name, size in {"theta": n_features, "rates": n_rates}.items():
            self.register_buffer(name, torch.zeros(size, dtype=torch.float64))

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        return self.policy(obs)

    def value(self, obs: Tensor) -> Tensor:  # [..., d] -> [...]
        """J(x), the estimated value."""
        return self.method.features(obs).double() @ self.theta

    @torch.no_grad()
    def update(self, batch: Trajectory) -> Metrics:
        check_times(batch)
        check_features(self.method.features, len(self.theta), batch)
        if self.method.running is ERGODIC:
            check_stable(batch)
        for sums in (compiled_sums if self.config.compiled else plain_sums)(self.method, batch):
            self.equations.gram += sums.gram
            self.equations.target += sums.target
            if sums.rows:
                self.tests.add(sums.rows, sums.largest, sums.total)
        solution, condition = self.equations.solve()
        check_finite("theta", solution)
        self.theta.copy_(solution[: len(self.theta)])
        self.rates.copy_(solution[len(self.theta) :])
        self.tests.warn("CLSTD", "weight them, Weighted(bounded(0.1)), or gather far more rows")
        return {"train/condition": condition, "train/test_function_share": self.tests.share}
