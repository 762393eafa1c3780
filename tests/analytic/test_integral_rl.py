"""On-policy integral RL: exact policy iteration, error laws, invariances, the discounted and the saturated problem."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from rlcore.agents.integral_rl import (
    IntegralRl,
    IntegralRlConfig,
    KnownParts,
    OwnNodes,
    SideBySide,
    Windows,
    evaluate_policy,
    linear_quadratic,
    newton_limit,
    regressors,
)
from rlcore.envs.affine import CosineInput, QuarticValue, SaturatedInput, SineSystem, ThirdOrderLinear, TwoInputs
from rlcore.envs.affine.random_linear import random_stable
from rlcore.errors import ConfigError
from rlcore.experiments.integral_rl_tasks import Task, task
from rlcore.functional import riccati
from rlcore.functional.bases import Features, half_vector, quadratic, symmetric
from rlcore.functional.quadrature import IntegratedWiener, Matern, Simpson, Trapezoid, clenshaw_curtis, gauss_legendre
from rlcore.simulation.closed_loop import LinearPaths
from rlcore.simulation.policy import Feedback
from rlcore.training import ClosedLoopSource

GAUSS = OwnNodes(gauss_legendre(17))
EXACT = [22.87215, 10.00061, 3.893876, 1.285786, 0.2666836, 1.017723e-2, 1.088598e-5]


def third_order() -> Task:
    return task(ThirdOrderLinear(dtype=torch.float64))


def agent_for(found: Task, rule: Any, **settings: Any) -> IntegralRl:
    return IntegralRl(found.basis, found.known, rule, found.env.admissible_weights, **settings)


def source_for(found: Task, nodes: Any, window: float = 0.5, count: int = 3) -> ClosedLoopSource:
    return ClosedLoopSource(found.paths, found.starts, window=window, count=count, nodes=nodes)


def test_policy_iteration_is_that_of_kleinman():
    """With an exact rule the sampled iteration takes the known sequence, value by value."""
    found = third_order()
    agent, source = agent_for(found, GAUSS), source_for(found, GAUSS.places, window=0.25)
    for expected in EXACT:
        agent.update(source.next(agent))
        assert float(found.error(agent.weights)) == pytest.approx(expected, rel=2e-6)
    agent.learn(source, 3)
    assert float(found.error(agent.weights)) < 2e-13


@pytest.mark.parametrize("cls", [SineSystem, CosineInput, QuarticValue, TwoInputs, SaturatedInput])
def test_an_exact_rule_finds_the_optimum_of_nonlinear_problems(cls):
    env = cls(dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    starts = 2.0 * torch.rand(8, env.spec.state_dim, generator=generator, dtype=torch.float64) - 1.0
    found = task(env, starts.tolist())
    agent = agent_for(found, GAUSS)
    metrics = agent.learn(source_for(found, GAUSS.places, window=0.25), 9)
    assert float(found.error(agent.weights)) < 5e-12
    assert metrics["train/rank"] == len(agent.weights)
    assert metrics["train/residual"] < 1e-12
    x = starts.clone()
    torch.testing.assert_close(agent.act(x), env.optimal_action(x), rtol=0.0, atol=1e-11)


def test_a_discounted_problem_has_the_optimum_of_the_shifted_riccati_equation():
    """exp(-beta t) turns A into A - beta / 2: the system of Riccati's equation, not that of the paths."""
    found, beta = third_order(), 0.6
    env = found.env
    assert isinstance(env, ThirdOrderLinear)
    best = riccati.care(env.A - 0.5 * beta * torch.eye(3, dtype=torch.float64), env.B, env.Q, env.R)
    agent = agent_for(found, GAUSS, config=IntegralRlConfig(discount_rate=beta))
    agent.learn(source_for(found, GAUSS.places), 9)
    torch.testing.assert_close(symmetric(agent.weights), best, rtol=0.0, atol=1e-12)


def test_problems_side_by_side_are_those_alone():
    """A batch of problems, each with its own matrices, gives bit for bit the scale of rounding of every one alone."""
    problems, starts = random_stable(6, 3, 2, seed=1), third_order().starts
    known = linear_quadratic(problems.B, problems.Q, problems.R)
    together = IntegralRl(quadratic(3), known, IntegratedWiener(3), torch.zeros(6, 6, dtype=torch.float64))
    paths = LinearPaths(problems.A, problems.B)
    together.learn(ClosedLoopSource(paths, starts.expand(6, 7, 3), window=0.2, count=3, nodes=9), 8)
    for i in (0, 4):
        one = IntegralRl(
            quadratic(3),
            linear_quadratic(problems.B[i], problems.Q[i], problems.R[i]),
            IntegratedWiener(3),
            torch.zeros(6, dtype=torch.float64),
        )
        single = LinearPaths(problems.A[i], problems.B[i])
        one.learn(ClosedLoopSource(single, starts, window=0.2, count=3, nodes=9), 8)
        torch.testing.assert_close(together.weights[i], one.weights, rtol=0.0, atol=1e-11)
    best = riccati.care(*problems)
    off = torch.linalg.matrix_norm(symmetric(together.weights) - best) / torch.linalg.matrix_norm(best)
    assert float(off.max()) < 1e-5


def test_rules_side_by_side_are_those_alone():
    found = third_order()
    rules = [Trapezoid(), Simpson(), Matern(3, 0.3), IntegratedWiener(2)]
    starts = found.starts.expand(4, 7, 3)
    batch = IntegralRl(found.basis, found.known, SideBySide(rules), torch.zeros(4, 6, dtype=torch.float64))
    batch.learn(ClosedLoopSource(found.paths, starts, window=0.1, count=3, nodes=5), 7)
    for k, rule in enumerate(rules):
        one = agent_for(found, rule)
        one.learn(source_for(found, 5, window=0.1), 7)
        torch.testing.assert_close(batch.weights[k], one.weights, rtol=0.0, atol=1e-11)
        assert batch.evaluation is not None
        assert one.evaluation is not None
        deviations = batch.evaluation.deviation
        assert deviations is not None
        assert bool(deviations[k].isnan().all()) == (one.evaluation.deviation is None)
        if one.evaluation.deviation is not None:
            torch.testing.assert_close(deviations[k], one.evaluation.deviation, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize(
    ("rule", "order"), [(Trapezoid(), 2), (Simpson(), 4), (IntegratedWiener(1), 3), (Matern(2, 0.5), 4)]
)
def test_the_error_falls_with_the_order_of_the_rule(rule, order):
    found = third_order()
    errors = []
    for nodes in (17, 33):
        agent = agent_for(found, rule)
        agent.learn(source_for(found, nodes), 9)
        errors.append(float(found.error(agent.weights)))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize(("rule", "law"), [(Trapezoid(), riccati.trapezoid_error), (Simpson(), riccati.simpson_error)])
def test_the_error_is_that_of_euler_and_maclaurin(rule, law):
    """Whatever the windows and the starts: here other ones than in the acceptance rows."""
    found = task(
        ThirdOrderLinear(dtype=torch.float64), torch.randn(9, 3, generator=torch.Generator().manual_seed(4)).tolist()
    )
    env = found.env
    assert isinstance(env, ThirdOrderLinear)
    agent = agent_for(found, rule)
    agent.learn(source_for(found, 7, window=0.15, count=2), 9)
    closed = env.A - env.B @ env.optimal_gain
    predicted = law(closed, env.Q + env.optimal_gain.T @ env.R @ env.optimal_gain, 0.15 / 6)
    off = symmetric(agent.weights) - env.P
    assert float(torch.linalg.matrix_norm(off - predicted) / torch.linalg.matrix_norm(off)) < 2e-3


def test_the_error_of_the_fixed_point_is_that_of_the_optimal_windows():
    found = third_order()
    agent = agent_for(found, IntegratedWiener(1))
    agent.learn(source_for(found, 9), 9)
    windows = source_for(found, 9).next(Feedback(found.env.optimal_action))
    utility = found.known.utility(windows.states, windows.actions)
    evaluation = evaluate_policy(found.basis, windows, utility, IntegratedWiener(1).at(windows.times))
    exact = found.env.optimal_value(windows.states[:, 0]) - found.env.optimal_value(windows.states[:, -1])
    predicted = evaluation.fit.pseudo_inverse @ (evaluation.integral - exact)
    off = agent.weights - found.env.optimal_weights
    assert float((off - predicted).norm() / off.norm()) < 2e-3


@pytest.mark.parametrize("cls", [ThirdOrderLinear, SineSystem, SaturatedInput])
def test_the_error_budget_covers_weights_actions_and_cost(cls):
    """Each bound is held against the truth, and the cost falls with the square of the weights."""
    found = task(cls(dtype=torch.float64))
    ratios = []
    for nodes in (5, 9):
        agent, source = agent_for(found, Matern(2, 0.5)), source_for(found, nodes)
        agent.learn(source, 9)
        windows = source.next(agent)
        budget = agent.error_budget(windows)
        off = (agent.weights - found.env.optimal_weights).abs()
        assert bool((off <= budget.weights).all())
        miss = (windows.actions - found.env.optimal_action(windows.states)).abs()
        assert bool((miss <= budget.actions + 1e-15).all())
        assert 0.0 < float(budget.cost_share) < 1e-2
        ratios.append((float(budget.weights.norm()), float(budget.cost_share)))
    (w5, c5), (w9, c9) = ratios
    assert math.log(c5 / c9) == pytest.approx(2.0 * math.log(w5 / w9), rel=0.05)


def test_the_cost_share_bounds_the_true_excess():
    found = third_order()
    env = found.env
    assert isinstance(env, ThirdOrderLinear)
    agent, source = agent_for(found, IntegratedWiener(0)), source_for(found, 5, window=0.1, count=10)
    agent.learn(source, 9)
    gain = riccati.feedback_gain(env.B, env.R, symmetric(agent.weights))
    excess = float(riccati.cost_excess(env.A, env.B, env.Q, env.R, gain, env.P))
    share = float(agent.error_budget(source.next(agent)).cost_share)
    assert 0.0 < excess <= share * float(env.P.trace())


def test_newtons_limit_is_where_the_recursion_ends():
    limit, reach = newton_limit(3.0, 0.05)
    error = 0.999 * reach
    for _ in range(2000):
        error = 3.0 * error**2 + 0.05
    assert error == pytest.approx(limit, rel=1e-9)
    assert limit <= 2.0 * 0.05
    error = 1.001 * reach
    for _ in range(40):
        error = min(3.0 * error**2 + 0.05, 1e9)
    assert error == 1e9
    with pytest.raises(ConfigError, match="4 kappa epsilon < 1"):
        newton_limit(3.0, 0.1)


def test_any_features_serve_as_a_basis():
    found = third_order()
    agent = IntegralRl(Features(quadratic(3)), found.known, GAUSS, torch.zeros(6, dtype=torch.float64))
    agent.learn(source_for(found, GAUSS.places), 9)
    assert float(found.error(agent.weights)) < 1e-12


def test_a_first_law_that_no_value_belongs_to_may_start():
    found = third_order()
    env = found.env
    assert isinstance(env, ThirdOrderLinear)
    gain = torch.tensor([[0.3, 0.1, 2.0]], dtype=torch.float64)
    agent = agent_for(found, GAUSS, law=lambda x: -x @ gain.T)
    x = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(agent.act(x), -x @ gain.T)
    source = source_for(found, GAUSS.places)
    agent.update(source.next(agent))
    exact = riccati.value_of_gain(env.A, env.B, env.Q, env.R, gain)
    torch.testing.assert_close(symmetric(agent.weights), exact, rtol=1e-11, atol=0.0)
    torch.testing.assert_close(agent.act(x), -x @ riccati.feedback_gain(env.B, env.R, exact).T, rtol=1e-9, atol=1e-9)


def test_uneven_nodes_and_rules_with_nodes_of_their_own():
    found = third_order()
    places = torch.tensor([0.0, 0.07, 0.2, 0.31, 0.5, 0.58, 0.77, 0.9, 1.0])
    agent = agent_for(found, Matern(3, 5.0))
    agent.learn(source_for(found, places), 9)
    assert float(found.error(agent.weights)) < 2e-5
    chebyshev = OwnNodes(clenshaw_curtis(9))
    torch.testing.assert_close(chebyshev.places, clenshaw_curtis(9).times)
    agent = agent_for(found, chebyshev)
    agent.learn(source_for(found, chebyshev.places), 9)
    assert float(found.error(agent.weights)) < 1e-9
    with pytest.raises(ConfigError, match="own nodes"):
        chebyshev.at(torch.linspace(0.0, 0.5, 9, dtype=torch.float64))


def test_windows_logged_by_hand_need_no_source():
    """One scalar problem by pencil: dx = -x dt under u = 0, q = x^2; V = x^2 / 2, and one improvement from there."""
    times = torch.linspace(0.0, 1.0, 41, dtype=torch.float64)
    states = torch.exp(-times)[None, :, None] * torch.tensor([1.0, 2.0], dtype=torch.float64)[:, None, None]
    windows = Windows(times, states, torch.zeros_like(states))
    torch.testing.assert_close(regressors(quadratic(1), windows)[0], 1.0 - torch.exp(torch.tensor([-2.0]).double()))
    one = torch.ones(1, 1, dtype=torch.float64)
    agent = IntegralRl(quadratic(1), linear_quadratic(one, one, one), Simpson(), torch.zeros(1, dtype=torch.float64))
    agent.update(windows)
    assert float(agent.weights) == pytest.approx(0.5, abs=1e-7)
    assert float(agent.act(torch.full((1, 1), 3.0, dtype=torch.float64))) == pytest.approx(-1.5, abs=1e-6)


def test_saving_and_loading_keeps_every_bit(tmp_path):
    found = third_order()
    agent, source = agent_for(found, IntegratedWiener(2)), source_for(found, 9)
    agent.learn(source, 3)
    agent.save(tmp_path / "agent.ckpt")
    copy = agent_for(found, IntegratedWiener(2))
    copy.load(tmp_path / "agent.ckpt")
    windows = source.next(agent)
    agent.update(windows)
    copy.update(windows)
    assert torch.equal(agent.weights, copy.weights)
    assert int(copy.improvements) == 4


def test_a_path_that_goes_on_gives_the_windows_of_one_long_path():
    found = third_order()
    law = Feedback(found.env.optimal_action)
    single = replace(found, starts=found.starts[:1])
    source = ClosedLoopSource(single.paths, single.starts, window=0.5, count=2, nodes=5, continuing=True)
    first, second = source.next(law), source.next(law)
    whole = ClosedLoopSource(single.paths, single.starts, window=0.5, count=4, nodes=5).next(law)
    torch.testing.assert_close(torch.cat([first.states, second.states]), whole.states, rtol=0.0, atol=1e-14)
    assert source.simulated == pytest.approx(2.0)
    state = source.state_dict()
    other = ClosedLoopSource(single.paths, single.starts, window=0.5, count=2, nodes=5, continuing=True)
    other.load_state_dict(state)
    assert torch.equal(other.next(law).states, source.next(law).states)


def test_single_precision_stays_single():
    env = ThirdOrderLinear()
    known = KnownParts(env.state_cost, env.input_gain, env.control_weight)
    agent = IntegralRl(quadratic(3), known, Simpson(), torch.zeros(6))
    starts = third_order().starts.float()
    agent.learn(ClosedLoopSource(LinearPaths(env.A, env.B), starts, window=0.5, count=3, nodes=9), 9)
    assert agent.weights.dtype == torch.float32
    assert float((agent.weights - half_vector(env.P)).norm()) < 2e-3


def test_windows_may_have_times_of_their_own():
    """Every window sampled at other times, each a random 0.3 steps off: the error of even nodes, and its bound."""
    found = third_order()
    agent, generator = agent_for(found, IntegratedWiener(3)), torch.Generator().manual_seed(5)
    off = 0.3 * (2.0 * torch.rand(21, 15, generator=generator, dtype=torch.float64) - 1.0)
    inner = (torch.arange(1, 16) + off) / 16.0
    places = torch.cat([torch.zeros(21, 1).double(), inner, torch.ones(21, 1).double()], -1)
    for _ in range(9):
        starts = found.starts.repeat_interleave(3, 0) * torch.tensor([1.0, 0.7, 0.4]).double().repeat(7)[:, None]
        rows = [found.paths.at(agent, x[None], 0.3 * row) for x, row in zip(starts, places, strict=True)]
        states = torch.cat(rows)
        agent.update(Windows(0.3 * places, states, agent.act(states)))
    assert float(found.error(agent.weights)) < 1e-7
    budget = agent.error_budget(Windows(0.3 * places, states, agent.act(states)))
    assert float(found.error(agent.weights)) < float(budget.weights.norm())
