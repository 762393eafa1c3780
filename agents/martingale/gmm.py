"""The generalised method of moments: the orthogonality conditions in the least-squares sense.

    minimise g' A g,   g = E sum_k xi_k delta_k,   A = I or (E sum_k xi_k xi_k' dt)^-1

With as many test functions as unknowns it is CLSTD; with more, the weighting A decides. The mean g is formed first: the
square of a single sample's moment has another minimiser (see `GradientTd`).
Source: Jia and Zhou, JMLR 23 (154), 2022, section 4.3.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rlcore.agents.martingale.least_squares import Features, blocks, check_features, evaluated, regressors
from rlcore.agents.martingale.tails import TestFunctionShare
from rlcore.checks import check_not_negative
from rlcore.data import Trajectory
from rlcore.errors import ConfigError, NumericsError
from rlcore.functional.increments import Increments, Left, check_times, per_step
from rlcore.functional.test_functions import Instrument
from rlcore.training.agent import Agent, Metrics


class Gmm(Agent[Trajectory]):
    """Linear J = phi . theta under q >= p test functions, in float64; `efficient`: A = (E xi xi')^-1."""

    theta: Tensor  # [p]
    gram: Tensor  # [q, p]
    target: Tensor  # [q]
    moments: Tensor  # [q, q] sum of xi xi' dt

    def __init__(
        self,
        policy: Callable[[Tensor], Tensor],  # [B, d] -> [B, m], the law under judgement
        features: Features,  # phi: [..., d] -> [..., p]
        n_features: int,
        test: Instrument,
        n_tests: int,
        discount_rate: float = 0.5,  # beta [1/s]
        *,
        efficient: bool = True,
        rule: Callable[[float], Increments] = Left,
    ) -> None:
        super().__init__()
        check_not_negative("discount_rate", discount_rate, "1/s")
        if n_tests < n_features:
            raise ConfigError(f"need at least as many test functions as features, got {n_tests} and {n_features}")
        self.policy, self.features, self.test, self.efficient = policy, features, test, efficient
        self.rule = rule(discount_rate)
        self.tests = TestFunctionShare(n_tests)
        shapes = {"theta": (n_features,), "gram": (n_tests, n_features), "target": (n_tests,)}
        for name, shape in (shapes | {"moments": (n_tests, n_tests)}).items():
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))

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
            phi, features = evaluated(self.features, part)
            xi = self.test.forward(phi[:-1], part) * self.rule.usable(part).unsqueeze(-1)
            self.moments += (xi * per_step(part.dt, xi)).flatten(0, 1).T @ xi.flatten(0, 1)
            left = xi.flatten(0, 1)
            self.tests.see(left)
            self.gram -= left.T @ regressors(part, features, self.rule, None).flatten(0, 1)
            self.target += left.T @ self.rule.earned(part).double().flatten()
        matrix, right = self.gram, self.target
        if self.efficient:
            root, failed = torch.linalg.cholesky_ex(self.moments)
            if int(failed):
                raise NumericsError("the test functions are linearly dependent along the data; drop some of them")
            matrix = torch.linalg.solve_triangular(root, matrix, upper=False)
            right = torch.linalg.solve_triangular(root, right.unsqueeze(1), upper=False).squeeze(1)
        condition = torch.linalg.cond(matrix)
        if not bool(condition < 1e12):
            raise NumericsError(f"the moment conditions do not determine theta (condition {float(condition):.1e})")
        self.theta.copy_(torch.linalg.lstsq(matrix, right.unsqueeze(1), driver="gelsd").solution.squeeze(1))
        self.tests.warn("GMM", "weight them, Weighted(bounded(0.1), ...), or gather far more rows")
        share = {"train/test_function_share": self.tests.share}
        return {"train/moment_norm": (matrix @ self.theta - right).norm(), "train/condition": condition, **share}
