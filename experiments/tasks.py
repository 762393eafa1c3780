"""Nonlinear problems for the deep agents, at any control interval, with a score between doing nothing and the optimum.

    score = (return - return of zero action) / (optimal return - return of zero action)

A score can be compared across control intervals, where a negative return cannot.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from rlcore.envs.control.lqr import LQ_B, ScalarLqr
from rlcore.envs.control.pendulum import Pendulum, PendulumConfig
from rlcore.experiments import pendulum
from rlcore.reporting.evaluation import evaluate
from rlcore.simulation.environment import Environment
from rlcore.simulation.policy import Feedback, Policy

TaskName = Literal["lq", "pendulum"]
PATHS = pendulum.EVALUATION_PATHS


@dataclass(frozen=True)
class Task:
    """A problem at one control interval."""

    env: Environment
    input_scale: tuple[float, ...]
    """What brings each observation to order one."""
    optimum: Callable[[], float]
    """Mean optimal return over the starts of the evaluation."""

    def evaluator(self, policy: Policy) -> Callable[[], Mapping[str, float]]:
        """Discounted return of the deterministic policy, and its score."""
        idle = Feedback(lambda obs: obs.new_zeros(len(obs), self.env.spec.action_dim))
        nothing, best = evaluate(idle, self.env, paths=PATHS).mean, self.optimum()

        def measure() -> Mapping[str, float]:
            found = evaluate(policy, self.env, paths=PATHS).mean
            return {"eval/return": found, "eval/score": (found - nothing) / (best - nothing)}

        return measure


def make_task(name: TaskName, dt: float, device: str = "cpu") -> Task:
    """A problem by name, at control interval dt [s]."""
    if name == "pendulum":
        swing_up = Pendulum(replace(PendulumConfig(), dt=dt), device=device)
        return Task(swing_up, (1.0, 1.0, 0.25), lambda: pendulum.return_optimum(swing_up))
    fine = max(1, math.ceil(dt / 0.01))
    linear = ScalarLqr(replace(LQ_B, dt=dt, substeps=fine, initial_sd=1.0), device=device)
    return Task(linear, (1.0,), lambda: evaluate(linear.optimal_policy(), linear, paths=PATHS).mean)


def steps_of(seconds: float, dt: float) -> int:
    """The number of control steps nearest to a duration, at least one."""
    return max(1, round(seconds / dt))
