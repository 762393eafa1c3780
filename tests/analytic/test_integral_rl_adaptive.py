"""Sampling steered by the error bar: the known table, the tolerance kept, infinity, bad input."""

from __future__ import annotations

import pytest
import torch

from rlcore.agents.integral_rl import IntegralRl, RefusalError, update_resolved
from rlcore.envs.affine import SineSystem, ThirdOrderLinear
from rlcore.errors import ConfigError
from rlcore.experiments.integral_rl_adaptive import Config, adaptive, with_fixed_nodes
from rlcore.experiments.integral_rl_tasks import Task, task
from rlcore.functional import riccati
from rlcore.functional.bases import half_vector
from rlcore.functional.quadrature import IntegratedWiener, Matern, Simpson
from rlcore.simulation.policy import Feedback
from rlcore.training.adaptive_source import AdaptiveSource, Resolution


def source(problem: Task, rtol: float = 1e-4, **settings: float) -> AdaptiveSource:
    resolution = Resolution(rtol, **settings)  # type: ignore[arg-type]
    return AdaptiveSource(problem.paths, problem.starts, 1.0, 2, problem.known.utility, IntegratedWiener(3), resolution)


def test_the_adaptive_run_ends_where_the_table_says_and_fixed_nodes_are_refused():
    assert with_fixed_nodes(5, Config()) != with_fixed_nodes(5, Config()), "nan"
    found = adaptive(1e-6, Config())
    assert found.error == pytest.approx(1.44e-6, rel=0.02)
    assert found.nodes[1] == pytest.approx(71.6, abs=0.5)
    assert found.largest == 257
    assert found.error <= found.bound


@pytest.mark.parametrize("rtol", [1e-3, 1e-6])
def test_integrals_keep_the_tolerance_with_the_nodes_they_say(rtol):
    """Under u = 0 the integral over a window is x'P x at its start less that at its end, with the exact P."""
    problem = task(ThirdOrderLinear(dtype=torch.float64))
    env, windows = problem.env, source(problem, rtol).next(Feedback(lambda x: x.new_zeros(*x.shape[:-1], 1)))
    P = riccati.value_of_gain(env.A, env.B, env.Q, env.R, torch.zeros(1, 3, dtype=torch.float64))
    ends = problem.basis(windows.states[:, [0, -1]]) @ half_vector(P)
    exact = ends[:, 0] - ends[:, 1]
    assert bool(windows.resolved.all())
    assert bool(((windows.integral - exact).abs() <= 2.0 * windows.deviation).all())
    assert bool((windows.deviation <= rtol * windows.integral).all())
    assert set(windows.nodes.tolist()) <= {5, 9, 17, 33, 65, 129, 257}


def test_a_nonlinear_task_reaches_its_tolerance_too():
    problem = task(SineSystem(dtype=torch.float64))
    agent = IntegralRl(problem.basis, problem.known, Matern(3, 10.0), problem.env.admissible_weights)
    feed = source(problem, 1e-6)
    for _ in range(6):
        metrics = update_resolved(agent, feed.next(agent))
    assert float(problem.error(agent.weights)) < 3e-6
    assert float(metrics["train/unresolved"]) == 0.0
    assert feed.steps > 6 * 10 * 5


def test_a_discounted_integral_is_that_of_the_shifted_system():
    problem = task(ThirdOrderLinear(dtype=torch.float64))
    env, beta = problem.env, 0.6
    found = source(problem, 1e-8, discount_rate=beta).next(Feedback(lambda x: x.new_zeros(*x.shape[:-1], 1)))
    shifted = env.A - 0.5 * beta * torch.eye(3, dtype=torch.float64)
    P = riccati.value_of_gain(shifted, env.B, env.Q, env.R, torch.zeros(1, 3, dtype=torch.float64))
    ends = problem.basis(found.states[:, [0, -1]]) @ half_vector(P)
    torch.testing.assert_close(found.integral, ends[:, 0] - 0.5488116360940264 * ends[:, 1], rtol=1e-7, atol=1e-9)


def test_what_the_nodes_cannot_resolve_is_told():
    problem = task(ThirdOrderLinear(dtype=torch.float64))
    agent = IntegralRl(problem.basis, problem.known, IntegratedWiener(3), problem.env.admissible_weights)
    found = source(problem, 1e-8, most=9).next(agent)
    assert not bool(found.resolved.any())
    assert int(found.nodes.max()) == 9
    assert float(update_resolved(agent, found)["train/unresolved"]) == 1.0


def test_a_path_that_leaves_for_infinity_is_refused_not_resolved():
    problem = task(ThirdOrderLinear(dtype=torch.float64))
    agent = IntegralRl(problem.basis, problem.known, IntegratedWiener(3), problem.env.admissible_weights)
    lost = source(problem).next(Feedback(lambda x: 1e5 * x[..., 2:]))
    assert not bool(lost.resolved.all())
    with pytest.raises(RefusalError, match="keep the state finite"):
        update_resolved(agent, lost)


def test_bad_input():
    problem = task(ThirdOrderLinear(dtype=torch.float64))
    with pytest.raises(ConfigError, match="no prior"):
        AdaptiveSource(problem.paths, problem.starts, 1.0, 2, problem.known.utility, Simpson())
    with pytest.raises(ConfigError, match="rtol"):
        source(problem, 0.0)
    with pytest.raises(ConfigError, match="first <= most"):
        source(problem, 1e-3, first=9, most=5)
