"""Paths of closed loops to rounding, bases with derivatives, least squares by QR."""

from __future__ import annotations

import math

import pytest
import torch

from rlcore.envs.affine import CubicDecay, SineSystem
from rlcore.errors import ConfigError, NumericsError, ShapeError
from rlcore.functional.bases import Features, Monomials, curvature, half_vector, quadratic, symmetric
from rlcore.functional.least_squares import least_squares
from rlcore.functional.saturation import excess_cost, saturated_cost
from rlcore.simulation import Feedback, LinearPaths, SmoothPaths

ZERO = Feedback(lambda x: torch.zeros_like(x[..., :1]))


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_both_kinds_of_paths_agree_on_a_stiff_linear_loop():
    """A gain that puts poles at about -17, -0.3 and -0.1 per second, at uneven times."""
    a = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [-0.1, -0.5, -0.7]], dtype=torch.float64)
    b, gain = torch.tensor([[0.0], [0.0], [1.0]], dtype=torch.float64), torch.tensor([[5.0, 11.4, 17.0]]).double()
    law, times = Feedback(lambda x: -x @ gain.T), torch.tensor([0.0, 0.01, 0.3, 0.3, 1.7, 4.0], dtype=torch.float64)
    exact = LinearPaths(a, b).at(law, normal(5, 3), times)
    found = SmoothPaths(lambda x, u: x @ a.T + u @ b.T).at(law, normal(5, 3), times)
    torch.testing.assert_close(found, exact, rtol=0.0, atol=3e-14)
    torch.testing.assert_close(exact[:, 0], normal(5, 3), rtol=0.0, atol=1e-15)


def test_a_known_nonlinear_path():
    """dx = -x^3 dt: x(t) = x_0 / sqrt(1 + 2 x_0^2 t)."""
    env = CubicDecay(dtype=torch.float64)
    start, times = torch.tensor([[1.0], [-0.4], [2.5]], dtype=torch.float64), torch.linspace(0.0, 6.0, 50).double()
    found = SmoothPaths(env.problem.velocity).at(ZERO, start, times)[..., 0]
    exact = start / torch.sqrt(1.0 + 2.0 * start**2 * times)
    torch.testing.assert_close(found, exact, rtol=2e-14, atol=0.0)


def test_the_optimal_value_is_what_the_optimal_path_costs():
    env = SineSystem(dtype=torch.float64)
    start = torch.tensor([[1.0, 1.0], [-1.5, 0.7]], dtype=torch.float64)
    nodes, weights = torch.linspace(0.0, 1.0, 201).double(), torch.ones(201).double() / 200
    weights[0] = weights[-1] = 0.5 / 200
    states = SmoothPaths(env.problem.velocity).at(Feedback(env.optimal_action), start, nodes)
    cost = (env.cost_rate(states, env.optimal_action(states)) * weights).sum(-1)
    fall = env.optimal_value(start) - env.optimal_value(states[:, -1])
    torch.testing.assert_close(cost, fall, rtol=2e-5, atol=0.0)


def test_a_path_that_explodes_is_nan_from_there_and_its_neighbours_are_not():
    """dx = x^3 dt from 1 reaches infinity at 0.5 s."""
    found = SmoothPaths(lambda x, u: x**3).at(
        ZERO, torch.tensor([[1.0], [0.1]], dtype=torch.float64), torch.linspace(0.0, 1.0, 11).double()
    )[..., 0]
    exact = 1.0 / torch.sqrt(1.0 - 2.0 * torch.linspace(0.0, 0.4, 5).double())
    torch.testing.assert_close(found[0, :5], exact, rtol=1e-12, atol=0.0)
    assert bool(found[0, 6:].isnan().all())
    assert float(found[1, -1]) == pytest.approx(0.1 / math.sqrt(1.0 - 0.02), rel=1e-13)


def test_a_kink_is_passed():
    """dx = (-x + |x - 1/2|) dt from 1: a line down to 1/2 at 1 s, then 1/4 + exp(-2 (t - 1)) / 4."""
    times = torch.linspace(0.0, 2.0, 9).double()
    found = SmoothPaths(lambda x, u: -x + (x - 0.5).abs()).at(ZERO, torch.ones(1, 1).double(), times)[0, :, 0]
    exact = torch.where(times < 1.0, 1.0 - 0.5 * times, 0.25 + 0.25 * torch.exp(-2.0 * (times - 1.0)))
    torch.testing.assert_close(found, exact, rtol=0.0, atol=1e-9)


def test_a_path_does_not_depend_on_its_batch():
    env = SineSystem(dtype=torch.float64)
    law, times = Feedback(env.optimal_action), torch.linspace(0.0, 2.0, 9).double()
    paths = SmoothPaths(env.problem.velocity)
    together = paths.at(law, normal(6, 2), times)
    torch.testing.assert_close(paths.at(law, normal(6, 2)[3], times), together[3], rtol=0.0, atol=1e-14)


def test_linear_paths_refuse_a_policy_that_is_not_linear():
    one = torch.ones(1, 1, dtype=torch.float64)
    with pytest.raises(ConfigError, match="use SmoothPaths"):
        LinearPaths(-one, one).at(Feedback(torch.tanh), one, torch.tensor([0.0, 1.0]))


def test_derivatives_written_out_are_those_of_autodiff():
    basis, x, weights = Monomials((2, 0, 1), (0, 3, 0), (1, 1, 1), (0, 0, 0)), normal(4, 5, 3), normal(4, 4)
    other = Features(basis)
    torch.testing.assert_close(basis.jacobian(x), other.jacobian(x))
    torch.testing.assert_close(basis.gradient(x, weights), other.gradient(x, weights))
    second = curvature(quadratic(2), 2)
    torch.testing.assert_close(second[1], torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64))
    torch.testing.assert_close(second[0], torch.tensor([[2.0, 0.0], [0.0, 0.0]], dtype=torch.float64))
    with pytest.raises(ConfigError, match="powers"):
        Monomials((1, 2), (1,))


def test_weights_and_matrices_of_quadratic_values():
    p = normal(3, 4, 4)
    p = p + p.mT
    torch.testing.assert_close(symmetric(half_vector(p)), p)
    x = normal(3, 4)
    value = (quadratic(4)(x) * half_vector(p)).sum(-1)
    torch.testing.assert_close(value, torch.einsum("bi,bij,bj->b", x, p, x))


def test_least_squares_are_those_of_lapack_whatever_the_scale_of_the_columns():
    matrix, target = normal(7, 9, 4), normal(7, 9)
    found = least_squares(matrix * torch.tensor([1.0, 1e6, 1e-6, 10.0]).double(), target)
    plain = torch.linalg.lstsq(matrix, target.unsqueeze(-1)).solution.squeeze(-1)
    expected = plain / torch.tensor([1.0, 1e6, 1e-6, 10.0]).double()
    torch.testing.assert_close(found.solution, expected, rtol=1e-9, atol=0.0)
    plain_fit = least_squares(matrix, target)
    torch.testing.assert_close(plain_fit.condition, torch.linalg.cond(matrix))
    torch.testing.assert_close(plain_fit.pseudo_inverse, torch.linalg.pinv(matrix))
    torch.testing.assert_close(plain_fit.smallest_singular_value, torch.linalg.svdvals(matrix)[:, -1])
    assert plain_fit.check() is plain_fit
    torch.testing.assert_close(plain_fit.residual, target - (matrix @ plain.unsqueeze(-1)).squeeze(-1))


def test_a_bound_on_the_target_bounds_the_solution():
    matrix, target = normal(8, 5), normal(8)
    fit, error = least_squares(matrix, target), 0.01 * (1.0 + normal(8).abs())
    bound = fit.pseudo_inverse.abs() @ error
    for signs in torch.sign(normal(50, 8)):
        off = least_squares(matrix, target + error * signs).solution - fit.solution
        assert bool((off.abs() <= bound * (1 + 1e-9)).all())


def test_rank_is_lost_where_columns_depend_and_told_by_row():
    matrix = normal(3, 8, 4)
    matrix[1, :, 2] = 2.0 * matrix[1, :, 0]
    matrix[2, 0, 0] = math.nan
    found = least_squares(matrix, normal(3, 8))
    assert found.rank.tolist()[:2] == [4, 3]
    assert found.full_rank.tolist() == [True, False, False]
    assert math.isinf(float(found.condition[1]))
    with pytest.raises(NumericsError, match=r"rank 3.*row 1 of the batch"):
        found.check()
    with pytest.raises(ConfigError, match="3 windows for 4 features"):
        least_squares(normal(3, 4), normal(3))
    with pytest.raises(ShapeError, match="target"):
        least_squares(normal(5, 4), normal(6))


@pytest.mark.parametrize("bound", [0.5, 3.0, math.inf])
def test_the_excess_of_an_action_is_what_the_costs_differ_by(bound):
    """grad V*'g (u - u*) + W(u) - W(u*), where W'(u*) = -grad V*'g; and nothing cancels for u near u*."""
    weight = torch.diag(torch.tensor([2.0, 0.5], dtype=torch.float64))
    u, best = torch.tensor([0.3, -0.2], dtype=torch.float64), torch.tensor([-0.1, 0.45], dtype=torch.float64)
    if math.isinf(bound):
        slope, cost = 2.0 * weight.diagonal() * best, lambda v: (weight.diagonal() * v**2).sum(-1)
    else:
        slope = 2.0 * bound * weight.diagonal() * torch.atanh(best / bound)
        cost = lambda v: saturated_cost(v, weight.diagonal(), bound)  # noqa: E731
    expected = cost(u) - cost(best) - (slope * (u - best)).sum()
    torch.testing.assert_close(excess_cost(u, best, weight, bound), expected, rtol=1e-6, atol=0.0)
    near = best + torch.tensor([1e-9, -2e-9], dtype=torch.float64)
    bend = weight.diagonal() / (1.0 - (best / bound) ** 2)  # half of W''
    torch.testing.assert_close(
        excess_cost(near, best, weight, bound), (bend * (near - best) ** 2).sum(), rtol=1e-6, atol=0.0
    )
