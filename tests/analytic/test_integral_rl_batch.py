"""Batches of linear-quadratic problems: the Riccati equation within every bound, independence, no look at a number."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from rlcore.agents.integral_rl.linear_batch import LinearBatch, smaller_root, starts
from rlcore.envs.affine.random_linear import LinearProblems, random_stable
from rlcore.errors import ConfigError, ShapeError
from rlcore.experiments.integral_rl_scale import Config, errors, rule, solve, solve_all
from rlcore.functional.linear_flow import linear_flow
from rlcore.functional.riccati import kleinman


@pytest.mark.parametrize(
    ("states", "inputs", "nodes", "seed", "typical"),
    [(4, 1, 9, 0, 1e-6), (4, 2, 33, 2, 1e-9), (2, 1, 33, 2, 1e-9), (3, 3, 17, 5, 1e-7), (6, 2, 17, 3, 1e-7)],
)
def test_every_problem_is_within_its_own_bound(states, inputs, nodes, seed, typical):
    config = Config(problems=512, states=states, inputs=inputs, nodes=nodes, steps=10)
    error, bound = errors(random_stable(512, states, inputs, seed), config)
    assert float(error.median()) < typical
    assert bool((error <= bound).all())
    assert float((bound / error).median()) < 50.0, "a bound that says something"


def test_iterates_are_kleinmans_to_the_quadrature_error():
    problems = random_stable(64, 4, 2, seed=1)
    config = Config(inputs=2, nodes=33, steps=4)
    found = solve(problems, config, rule(config))[1]
    exact = kleinman(*problems, torch.zeros(64, 2, 4, dtype=torch.float64), 4)
    torch.testing.assert_close(found.value, exact[3], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.former, exact[2], rtol=1e-6, atol=1e-6)


def test_a_problem_does_not_depend_on_its_batch():
    problems, config = random_stable(8, 4, 1, seed=0), Config()
    together = solve_all(problems, config)[0]
    alone = solve_all(LinearProblems(*(part[5:6] for part in problems)), config)[0]
    torch.testing.assert_close(alone[0], together[5], rtol=0.0, atol=1e-12)
    split = solve_all(problems, replace(config, block=3))[0]
    torch.testing.assert_close(split, together, rtol=0.0, atol=1e-12)


def test_no_iteration_looks_at_a_number():
    """On tensors without data any branch on a value or copy to the CPU raises; three iterations go through."""
    A, B, Q, R = random_stable(16, 4, 1, seed=0)
    learner = LinearBatch(B, Q, R, rule(Config()))
    with FakeTensorMode(allow_non_fake_inputs=True):
        found = learner.run(
            lambda gain: linear_flow(A - B @ gain, starts(4), 0.02, 9, 7), torch.zeros(16, 1, 4).double(), 3
        )
        with pytest.raises(Exception, match="_local_scalar_dense"):
            bool(found.value.sum() > 0.0)
    assert tuple(found.value.shape) == (16, 4, 4)


def test_a_problem_that_diverges_has_no_bound_and_leaves_the_others_alone():
    problems = random_stable(6, 4, 1, seed=0)
    wild = LinearProblems(problems.A.clone(), *problems[1:])
    wild.A[2] = 3.0 * torch.eye(4)
    config = Config()
    error, bound = solve_all(wild, config)
    kept = torch.arange(6) != 2
    assert math.isinf(float(bound.value[2]))
    torch.testing.assert_close(error[kept], solve_all(problems, config)[0][kept], rtol=0.0, atol=1e-12)


def test_the_root_of_the_bound():
    kappa, change, epsilon = (torch.tensor([value], dtype=torch.float64) for value in (2.0, 1e-3, 1e-4))
    e = smaller_root(kappa, change, epsilon)
    torch.testing.assert_close(e, epsilon + kappa * (e + change) ** 2, rtol=1e-12, atol=0.0)
    assert bool(torch.isinf(smaller_root(kappa, change, epsilon * 1e4)).all())
    assert bool(torch.isinf(smaller_root(kappa, change * torch.nan, epsilon)).all())


def test_starts_tell_all_features_apart():
    x = starts(5)
    assert x.shape == (15, 5)
    features = torch.einsum("si,sj->sij", x, x).flatten(1)
    assert int(torch.linalg.matrix_rank(features)) == 15


def test_bad_input():
    B, Q, R = random_stable(3, 4, 1, seed=0)[1:]
    quadrature = rule(Config())
    with pytest.raises(ShapeError, match=r"B \[P, n, m\]"):
        LinearBatch(B[0], Q, R, quadrature)
    with pytest.raises(ConfigError, match="R must be positive definite"):
        LinearBatch(B, Q, -R, quadrature)
    with pytest.raises(ConfigError, match="steps"):
        LinearBatch(B, Q, R, quadrature).run(lambda K: K, B.mT, 1)
