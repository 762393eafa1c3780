"""Nonlinear problems for the deep agents, at any control interval, with a score between doing nothing and the optimum.

    score = (return - return of zero action) / (optimal return - return of zero action)

A score can be compared across control intervals, where a negative return cannot. Whatever the control interval of the
training, a policy is judged at one fine interval, so that scores differ by what was learned alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from rlcore.envs.control.lqr import LQ_B, ScalarLqr
from rlcore.envs.control.pendulum import Pendulum, PendulumConfig
from rlcore.experiments import pendulum
from rlcore.reporting.evaluation import evaluate
from rlcore.simulation.environment import Environment
from rlcore.simulation.policy import Feedback, Policy

TaskName = Literal["lq", "pendulum"]
EPISODE = 10.0  # s
PATHS = pendulum.EVALUATION_PATHS
JUDGED_DT = 0.005  # s, control interval of the evaluation; at 1 ms the scores are the same within 0.001


@dataclass(frozen=True)
class Task:
    """A problem at one control interval."""

    env: Environment
    judge: Environment
    """The same problem at the control interval of the evaluation."""
    input_scale: tuple[float, ...]
    """What brings each observation to order one."""
    ends: Callable[[], tuple[float, float]]
    """Mean returns of zero action and of the optimum over the starts of the evaluation."""

    def evaluator(self, policy: Policy) -> Callable[[], Mapping[str, float]]:
        """Discounted return of the deterministic policy, and its score."""
        nothing, best = self.ends()

        def measure() -> Mapping[str, float]:
            found = evaluate(policy, self.judge, paths=PATHS).mean
            return {"eval/return": found, "eval/score": (found - nothing) / (best - nothing)}

        return measure


def make_task(
    name: TaskName, dt: float, device: str = "cpu", *, episode: float = EPISODE, judged_dt: float = JUDGED_DT
) -> Task:
    """A problem by name, trained at control interval dt in episodes of given length, and judged at another; all [s]."""
    env, judge = make_environment(name, dt, device, episode), make_environment(name, judged_dt, device)
    scale = (1.0, 1.0, 0.25) if name == "pendulum" else (1.0,)
    return Task(env, judge, scale, lambda: ends(name, judged_dt))


def make_environment(name: TaskName, dt: float, device: str, episode: float = EPISODE) -> Pendulum | ScalarLqr:
    """The problem, integrated in steps of at most 25 ms (pendulum, fourth order) or 10 ms (linear)."""
    if name == "pendulum":
        substeps = math.ceil(dt / 0.025 - 1e-9)
        return Pendulum(replace(PendulumConfig(), dt=dt, horizon=episode, substeps=substeps), device=device)
    substeps = math.ceil(dt / 0.01 - 1e-9)
    return ScalarLqr(replace(LQ_B, dt=dt, horizon=episode, substeps=substeps, initial_sd=1.0), device=device)


@lru_cache
def ends(name: TaskName, dt: float) -> tuple[float, float]:
    """Mean returns of zero action and of the optimum."""
    env = make_environment(name, dt, "cpu")
    idle = evaluate(Feedback(lambda obs: obs.new_zeros(len(obs), env.spec.action_dim)), env, paths=PATHS).mean
    if isinstance(env, Pendulum):
        return idle, pendulum.return_optimum(env)
    return idle, evaluate(env.optimal_policy(), env, paths=PATHS).mean


def steps_of(seconds: float, dt: float) -> int:
    """The number of control steps nearest to a duration, at least one."""
    return max(1, round(seconds / dt))
