"""Least-squares q-learning against the Riccati equation."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from rlcore.agents.martingale import LeastSquaresQ
from rlcore.data import Transitions
from rlcore.envs.control.matrix_lqr import MatrixLqr
from rlcore.errors import NumericsError
from rlcore.experiments import large_lq


def test_two_states_reach_the_riccati_optimum_off_policy() -> None:
    found = large_lq.learn(replace(large_lq.PRESETS["quick"], paths=4096, dt=0.02), 2, seed=0)
    assert 0.0 <= found["eval/gap"] < 0.01


def mean_rows(env: MatrixLqr, count: int, dt: float) -> Transitions:
    """Rows of the problem without noise: one explicit Euler step, reward at the left."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, env.spec.state_dim, generator=generator, dtype=torch.float64)
    u = torch.randn(count, env.spec.action_dim, generator=generator, dtype=torch.float64)
    t = torch.zeros(count, dtype=torch.float64)
    after, step = x + env.drift(t, x, u) * dt, torch.full((count,), dt, dtype=torch.float64)
    discount = torch.exp(-env.spec.discount_rate * step)
    return Transitions(x, u, env.reward_rate(t, x, u) * dt, discount, after, step)


def test_without_noise_the_fixed_point_is_the_riccati_solution_up_to_dt() -> None:
    """No process noise: the increments hold row by row, so a handful of rows gives the gain up to the bias in dt."""
    noisy = MatrixLqr(dtype=torch.float64)
    zero = {name: 0.0 * getattr(noisy.problem, name) for name in ("C", "D", "sigma")}
    env = MatrixLqr(problem=replace(noisy.problem, **zero), dtype=torch.float64)
    best, errors = env.solution(), []
    for dt in (2e-3, 1e-3):
        agent, rows = LeastSquaresQ(env.spec.state_dim, env.spec.action_dim), mean_rows(env, 400, dt)
        for _ in range(8):
            agent.update(rows)
        errors.append(float((agent.gain - torch.as_tensor(best.gain)).abs().max()))
    assert errors[1] < 2e-3
    assert errors[0] / errors[1] == pytest.approx(2.0, abs=0.3)


def test_rows_without_exploration_are_refused() -> None:
    env = MatrixLqr(dtype=torch.float64)
    rows = mean_rows(env, 50, 0.01)
    with pytest.raises(NumericsError, match="explore more"):
        LeastSquaresQ(env.spec.state_dim, env.spec.action_dim).update(rows.replace(action=0.0 * rows.action))
