"""The linear-quadratic closed forms against published constants, the HJB equation, each other and simulation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from rlcore.envs import make
from rlcore.envs.control.finite_horizon_lqr import FiniteHorizonLqr, FiniteHorizonLqrConfig
from rlcore.envs.control.lqr import ERGODIC, LQ_B, ScalarLqr, ScalarLqrConfig
from rlcore.envs.control.matrix_lqr import MatrixLqr, MatrixLqrConfig, random_lq
from rlcore.envs.control.ornstein_uhlenbeck import OrnsteinUhlenbeck
from rlcore.errors import ConfigError
from rlcore.functional import second_moments
from rlcore.functional.linear_quadratic import (
    evaluate_linear_gaussian,
    growth_rate,
    hjb_residual,
    solve_stationary,
    stationary_moments,
)
from rlcore.simulation import GaussianFeedback, begin, rollout

CONSTANTS = [  # K, k, gain, offset, covariance, value per second
    (ERGODIC, -0.8228757, -0.2915026, -0.3542487, -0.7084974, 0.0354249, 0.6333742),
    (replace(ERGODIC, discount_rate=1.0), -0.5351838, -0.1055513, -0.3944487, -0.7888974, 0.0394449, 0.7191487),
    (ScalarLqrConfig(), -0.7510572, 0.0255193, -0.8402160, -0.2450350, 0.1785445, 0.0451247),
    (LQ_B, -1.2807764, 0.0, -1.2807764, 0.0, 0.1, -0.5 * 0.3666649),
]


@pytest.mark.parametrize(("config", "K", "k", "gain", "offset", "covariance", "rate"), CONSTANTS)
def test_scalar_constants(config, K, k, gain, offset, covariance, rate):
    best = ScalarLqr(config).solution()
    got = [
        best.K.item(),
        best.k.item(),
        best.gain.item(),
        best.offset.item(),
        best.covariance.item(),
        best.value_per_second,
    ]
    assert np.allclose(got, [K, k, gain, offset, covariance, rate], rtol=0, atol=1e-6)


def test_ergodic_exploration_costs_half_the_temperature():
    env = ScalarLqr(ERGODIC)
    best, plain = env.solution(), ScalarLqr(replace(ERGODIC, temperature=0.0)).solution()
    reward = env.average_reward(best.gain.item(), best.offset.item(), best.covariance.item())
    assert plain.value_per_second == pytest.approx(0.7084974, abs=1e-6)
    assert reward == pytest.approx(plain.value_per_second - 0.05, abs=1e-12)
    assert np.allclose(plain.gain, best.gain, rtol=0, atol=1e-12)


@pytest.mark.parametrize("config", [row[0] for row in CONSTANTS])
def test_scalar_root_is_the_negative_one(config):
    k, s = config, config.B + config.C * config.D
    e = k.discount_rate - 2 * k.A - k.C**2
    n, m = e * k.N + 2 * s * k.R - k.D**2 * k.M, s**2 + e * k.D**2
    root = 0.5 * (n - math.sqrt(n**2 - 4 * m * (k.R**2 - k.M * k.N))) / m
    assert ScalarLqr(config).solution().K.item() == pytest.approx(root, abs=1e-13)


@pytest.mark.parametrize("config", [row[0] for row in CONSTANTS])
def test_scalar_hjb(config):
    env = ScalarLqr(config)
    assert np.abs(hjb_residual(env.problem(), env.solution(), np.linspace(-3, 3, 13)[:, None])).max() < 1e-10


@pytest.mark.parametrize("discount_rate", [0.0, 0.5])
@pytest.mark.parametrize(("state_dim", "action_dim", "seed"), [(1, 1, 0), (2, 2, 1), (3, 2, 0), (8, 1, 3)])
def test_matrix_hjb(state_dim, action_dim, seed, discount_rate):
    problem = random_lq(state_dim, action_dim, seed, discount_rate=discount_rate)
    x = np.random.default_rng(0).standard_normal((6, state_dim))
    best = solve_stationary(problem)
    assert np.abs(hjb_residual(problem, best, x)).max() < 1e-10
    assert growth_rate(problem, np.zeros((action_dim, state_dim))) < -0.49
    assert np.linalg.eigvalsh(best.K)[-1] < 0


def test_hjb_residual_sees_a_wrong_policy():
    env = ScalarLqr()
    wrong = env.value_of_policy(-0.8, -0.2, 0.2)
    assert np.abs(hjb_residual(env.problem(), wrong, [[1.0]])).max() > 1e-4


def test_zero_cost_on_an_unstable_state_still_stabilises():
    env = ScalarLqr(ScalarLqrConfig(A=1.0, B=1.0, C=0, D=0, sigma=1.0, M=0, N=1, R=0, P=0, Q=0, discount_rate=0.0))
    assert env.solution().gain.item() == pytest.approx(-2.0, abs=1e-10)  # the root 0 is not stabilising


@pytest.mark.parametrize("config", [ScalarLqrConfig(), LQ_B, ERGODIC])
def test_scalar_is_the_matrix_environment(config):
    scalar = ScalarLqr(config, dtype=torch.float64)
    matrix = MatrixLqr(problem=scalar.problem(), dtype=torch.float64)
    x, u = torch.randn(2, 5, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    t = torch.zeros(5, dtype=torch.float64)
    assert torch.allclose(scalar.drift(t, x, u), matrix.drift(t, x, u))
    assert torch.allclose(scalar.reward_rate(t, x, u), matrix.reward_rate(t, x, u))
    variance = [env.diffusion(t, x, u).square().sum(-1) for env in (scalar, matrix)]
    assert torch.allclose(*variance)
    assert torch.allclose(scalar.optimal_value(x), matrix.optimal_value(x))
    assert torch.allclose(scalar.optimal_policy().act(x), matrix.optimal_policy().act(x))


def test_optimum_beats_its_neighbours():
    problem = random_lq(3, 2, 0)
    best, x = solve_stationary(problem), np.ones(3)
    rng = np.random.default_rng(1)
    for _ in range(5):
        near = evaluate_linear_gaussian(
            problem, best.gain + 0.05 * rng.standard_normal((2, 3)), best.offset + 0.05, 1.1 * best.covariance
        )
        assert near.value(x) < best.value(x)


def test_stationary_moments_give_the_average_reward():
    env = ScalarLqr()
    gain, offset, variance = -0.9, 0.1, 0.15
    mean, covariance = stationary_moments(env.problem(), [[gain]], [offset], [[variance]])
    m1, m2 = mean.item(), covariance.item() + mean.item() ** 2
    k, u1 = env.config, gain * m1 + offset
    xu, u2 = gain * m2 + offset * m1, gain**2 * m2 + 2 * gain * offset * m1 + offset**2 + variance
    expected = -(k.M * m2 / 2 + k.R * xu + k.N * u2 / 2 + k.P * m1 + k.Q * u1)
    assert env.average_reward(gain, offset, variance) == pytest.approx(expected, abs=1e-12)


def test_value_of_policy_by_simulation():
    env = ScalarLqr(replace(ScalarLqrConfig(), dt=0.02, horizon=12.0, temperature=0.0, initial_sd=0.0, x0=1.0))
    gain, offset, variance = -0.8, -0.2, 0.1
    path, _ = rollout(
        env, GaussianFeedback(lambda x: gain * x + offset, variance**0.5, 1), begin(env, 4000, seed=3), 600
    )
    weight = torch.exp(-0.7 * path.t[:-1, None])
    total = (weight * path.reward).sum(0)
    exact = env.value_of_policy(gain, offset, variance).value([1.0]).item()
    assert total.mean().item() == pytest.approx(exact, abs=4 * total.std().item() / 4000**0.5 + 0.02)  # 0.02: dt


def test_finite_horizon_solves_the_hjb_equation_and_its_end():
    env = FiniteHorizonLqr(FiniteHorizonLqrConfig(discount_rate=0.3))
    found, x, h = env.solution(), np.random.default_rng(0).standard_normal((5, 2)), 1e-3
    for t in (0.2, 0.5, 0.9):
        slope = sum(w * found.at(t + s * h).value(x) for s, w in ((-2, 1), (-1, -8), (1, 8), (2, -1))) / (12 * h)
        assert np.abs(hjb_residual(env.problem, found.at(t), x, time_derivative=slope)).max() < 1e-9
    assert np.allclose(found.at(1.0).value(x), -(x**2).sum(-1), atol=1e-12)


def test_long_finite_horizon_is_the_stationary_problem():
    env = FiniteHorizonLqr(FiniteHorizonLqrConfig(discount_rate=0.5, horizon=30.0))
    early, ever = env.solution().at(0.0), solve_stationary(env.problem)
    assert np.allclose(early.K, ever.K, rtol=0, atol=1e-9)
    assert np.allclose(early.gain, ever.gain, rtol=0, atol=1e-9)
    assert early.k0 == pytest.approx(ever.k0, abs=1e-5)


def test_finite_horizon_by_simulation():
    env = FiniteHorizonLqr(FiniteHorizonLqrConfig(temperature=0.0, initial_sd=0.0))
    path, _ = rollout(env, env.optimal_policy(), begin(env, 4000, seed=1), 100, deterministic=True)
    assert bool(path.terminated[-1].all())
    assert not bool(path.terminated[:-1].any())
    total = path.reward.sum(0)
    exact = env.optimal_value(0.0, torch.zeros(1, 2)).item()
    assert total.mean().item() == pytest.approx(exact, abs=4 * total.std().item() / 4000**0.5 + 0.01)  # 0.01: dt


def test_ornstein_uhlenbeck_constants():
    env = OrnsteinUhlenbeck()
    assert env.theta() == pytest.approx((0.4, 0.512), abs=1e-12)
    for dt, first, second in ((0.1, 3.240e-2, -1.037e-2), (0.01, 3.204e-3, -1.025e-3), (0.001, 3.200e-4, -1.024e-4)):
        got = env.clstd_fixed_point(dt)
        assert (got[0] - 0.4, got[1] - 0.512) == pytest.approx((first, second), rel=1e-3)


def test_ornstein_uhlenbeck_stays_in_its_stationary_law():
    env = make("rlcore/OrnsteinUhlenbeck-v0", dt=0.5, dtype=torch.float64)
    policy = GaussianFeedback(lambda x: 0 * x, 1.0, 1)
    path, _ = rollout(env, policy, begin(env, 20000, seed=0), 4)
    assert path.obs[-1].square().mean().item() == pytest.approx(0.32, abs=4 * 0.32 * (2 / 20000) ** 0.5)


def test_family_is_seeded_and_of_any_size():
    one, two = (MatrixLqr(MatrixLqrConfig(state_dim=5, action_dim=3, problem_seed=s)) for s in (1, 2))
    again = MatrixLqr(MatrixLqrConfig(state_dim=5, action_dim=3, problem_seed=1))
    assert np.array_equal(one.problem.A, again.problem.A)
    assert not np.array_equal(one.problem.A, two.problem.A)


def test_large_problems_are_solved_without_their_matrix() -> None:
    """Krylov solutions against the n^2 x n^2 matrix, and the Riccati equation with 20 states."""
    problem = random_lq(14, 3, seed=1)
    operator = second_moments.moment_map(problem.A, problem.C)
    right = np.random.default_rng(0).standard_normal((14, 14))
    dense = np.linalg.solve(operator, right.reshape(-1)).reshape(14, 14)
    np.testing.assert_allclose(second_moments.solve_moments(problem.A, problem.C, right), dense, atol=1e-10)
    dense = np.linalg.solve(operator.T, right.reshape(-1)).reshape(14, 14)
    np.testing.assert_allclose(second_moments.solve_values(problem.A, problem.C, right), dense, atol=1e-10)
    rightmost = np.linalg.eigvals(operator).real.max()
    assert second_moments.growth_rate(problem.A, problem.C) == pytest.approx(rightmost, abs=1e-7)

    p = random_lq(20, 5, seed=0)
    K = solve_stationary(p).K
    S = p.B.T @ K + np.einsum("jnm,nk,jkl->ml", p.D, K, p.C) - p.R
    G = p.N - np.einsum("jnm,nk,jkl->ml", p.D, K, p.D)
    residual = -p.M + p.A.T @ K + K @ p.A + np.einsum("jkn,kl,jlm->nm", p.C, K, p.C) - p.discount_rate * K
    np.testing.assert_allclose(residual + S.T @ np.linalg.solve(G, S), 0.0, atol=1e-10)


def test_a_hundred_states_solve_their_equation_and_too_many_nodes_are_refused() -> None:
    problem = random_lq(100, 20, 0)
    x = np.random.default_rng(0).standard_normal((4, 100))
    with pytest.raises(ConfigError, match=r"product rule.*48\^20"):
        hjb_residual(problem, solve_stationary(problem), x)
    plain = replace(problem, temperature=0.0)
    assert np.abs(hjb_residual(plain, solve_stationary(plain), x)).max() < 1e-10
