"""Neural value functions in integral RL: the linear case, positivity, weights by the error bar, the cost, bad input."""

from __future__ import annotations

import pytest
import torch

from rlcore.agents.integral_rl import (
    NeuralIntegralRl,
    NeuralIntegralRlConfig,
    evaluate_policy,
)
from rlcore.envs.affine import ThirdOrderLinear
from rlcore.errors import ConfigError, NumericsError
from rlcore.experiments.integral_rl_basis import monomials, network, plane, scalar
from rlcore.experiments.integral_rl_tasks import Task, task
from rlcore.functional.least_squares import least_squares
from rlcore.functional.quadrature import IntegratedWiener, Simpson
from rlcore.nn.mlp import LinearInFeatures, Mlp
from rlcore.nn.positive import PositiveDefinite
from rlcore.simulation.policy import Feedback
from rlcore.training.closed_loop_source import ClosedLoopSource

EXACT = NeuralIntegralRlConfig(damping=1e-14, stop=1e-15, steps=3)


def no_action(x: torch.Tensor) -> torch.Tensor:
    return x.new_zeros(*x.shape[:-1], 1)


def linear_task() -> tuple[Task, ClosedLoopSource]:
    problem = task(ThirdOrderLinear(dtype=torch.float64))
    return problem, ClosedLoopSource(problem.paths, problem.starts, window=0.2, count=4, nodes=9)


def test_where_v_is_linear_an_update_is_the_weighted_policy_evaluation():
    problem, source = linear_task()
    windows = source.next(Feedback(no_action))
    value = LinearInFeatures(problem.basis, 6, dtype=torch.float64)
    agent = NeuralIntegralRl(value, problem.known, IntegratedWiener(3), EXACT, law=no_action)
    agent.update(windows)
    utility = problem.known.utility(windows.states, windows.actions)
    found = evaluate_policy(problem.basis, windows, utility, IntegratedWiener(3).at(windows.times))
    scale = (found.deviation**2 + (EXACT.tolerance * found.integral) ** 2).sqrt()
    theta = problem.basis(windows.states[:, 0]) - problem.basis(windows.states[:, -1])
    weighted = least_squares(theta / scale[:, None], found.integral / scale).solution
    torch.testing.assert_close(value.theta.detach(), weighted, rtol=1e-9, atol=1e-9)


def test_where_v_is_linear_policy_iteration_reaches_the_riccati_solution():
    problem, source = linear_task()
    value = LinearInFeatures(problem.basis, 6, dtype=torch.float64)
    agent = NeuralIntegralRl(value, problem.known, IntegratedWiener(3), EXACT, law=no_action)
    for _ in range(10):
        agent.update(source.next(agent))
    assert float(problem.error(value.theta.detach())) < 2e-6


def test_the_discount_is_that_of_the_linear_evaluation():
    problem, source = linear_task()
    windows = source.next(Feedback(no_action))
    value = LinearInFeatures(problem.basis, 6, dtype=torch.float64)
    config = NeuralIntegralRlConfig(discount_rate=0.7, damping=1e-14, stop=1e-15, steps=3)
    NeuralIntegralRl(value, problem.known, IntegratedWiener(3), config, law=no_action).update(windows)
    utility = problem.known.utility(windows.states, windows.actions)
    found = evaluate_policy(problem.basis, windows, utility, IntegratedWiener(3).at(windows.times), 0.7)
    torch.testing.assert_close(value.theta.detach(), found.weights, rtol=1e-5, atol=1e-6)


def test_the_head_is_positive_and_flat_at_the_origin():
    value = PositiveDefinite(Mlp(3, (8,), 4, generator=torch.Generator().manual_seed(0)), epsilon=0.01).double()
    x = torch.randn(100, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    zero = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    assert bool((value(x) >= 0.01 * x.square().sum(-1)).all())
    (slope,) = torch.autograd.grad(value(zero).sum(), zero)
    assert float(value(zero).detach().abs().max()) == 0.0
    assert float(slope.abs().max()) == 0.0
    torch.testing.assert_close(value(x.view(10, 10, 3)).flatten(), value(x))


def test_a_network_comes_near_the_optimum_of_a_converse_problem():
    found = network(plane(), 12, 6, seed=0)[1]
    assert found.value < 1e-2
    assert found.cost < 1e-3


def test_a_network_serves_where_few_monomials_do_not():
    found, few = network(scalar(), 8, 6, seed=0)[1], monomials(scalar(), 4)[1]
    assert found.value < 0.02 * few.value
    assert found.cost < few.cost


def test_bad_input():
    problem, source = linear_task()
    value = LinearInFeatures(problem.basis, 6, dtype=torch.float64)
    with pytest.raises(ConfigError, match="tolerance"):
        NeuralIntegralRl(value, problem.known, IntegratedWiener(3), NeuralIntegralRlConfig(tolerance=0.0))
    with pytest.raises(ConfigError, match="epsilon"):
        PositiveDefinite(value, epsilon=0.0)
    with pytest.raises(ConfigError, match="no prior"):
        NeuralIntegralRl(value, problem.known, Simpson(), law=no_action).update(source.next(Feedback(no_action)))
    still = LinearInFeatures(lambda x: 0.0 * problem.basis(x), 6, dtype=torch.float64)
    with pytest.raises(NumericsError, match="depend on the parameters"):
        NeuralIntegralRl(still, problem.known, IntegratedWiener(3), law=no_action).update(
            source.next(Feedback(no_action))
        )
    lost = source.next(Feedback(lambda x: 1e5 * x[..., 2:]))
    with pytest.raises(NumericsError, match="keep the state finite"):
        NeuralIntegralRl(value, problem.known, IntegratedWiener(3), law=no_action).update(lost)


def test_a_policy_that_raises_v_is_refused():
    problem, source = linear_task()
    value = LinearInFeatures(problem.basis, 6, dtype=torch.float64)
    agent = NeuralIntegralRl(value, problem.known, IntegratedWiener(3), EXACT, law=no_action)
    agent.update(source.next(agent))
    before = value.theta.detach().clone()
    with pytest.raises(NumericsError, match="V must fall"):
        agent.update(source.next(Feedback(lambda x: x[..., 2:])))
    assert torch.equal(value.theta, before)
