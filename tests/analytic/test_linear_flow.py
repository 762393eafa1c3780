"""Exact states of linear systems: the matrix exponential, closed forms, invariances, bad input."""

from __future__ import annotations

import math

import pytest
import torch

from rlcore.envs.affine.random_linear import random_stable
from rlcore.errors import ConfigError, ShapeError
from rlcore.functional.linear_flow import linear_flow, matrix_exponential
from rlcore.functional.riccati import largest_real_part


@pytest.mark.parametrize("size", [1e-6, 0.1, 1.0, 30.0, 300.0])
def test_matrix_exponential_is_that_of_torch(size):
    a = random_stable(50, 4, 1, seed=0).A
    a = a * size / torch.linalg.matrix_norm(a, ord=1)[:, None, None]
    expected = torch.linalg.matrix_exp(a)
    distance = torch.linalg.matrix_norm(matrix_exponential(a) - expected) / torch.linalg.matrix_norm(expected)
    assert float(distance.max()) < 1e-14 * max(10.0, size)


def test_matrix_exponential_of_a_jordan_block_and_of_too_large_a_matrix():
    a = torch.tensor([[-2.0, 3.0], [0.0, -2.0]], dtype=torch.float64)
    expected = math.exp(-2.0) * torch.tensor([[1.0, 3.0], [0.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(matrix_exponential(a), expected, rtol=1e-14, atol=1e-16)
    assert bool(matrix_exponential(-1e6 * torch.eye(2)).isnan().all())


def test_flow_of_an_oscillation_is_a_circle():
    turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    t = 0.1 * torch.arange(100, dtype=torch.float64)
    found = linear_flow(turn, torch.eye(2, dtype=torch.float64), 0.1, 100)
    expected = torch.stack([torch.cos(t), -torch.sin(t), torch.sin(t), torch.cos(t)], -1).view(100, 2, 2)
    torch.testing.assert_close(found, expected, rtol=0.0, atol=2e-14)


def test_a_system_does_not_depend_on_its_batch_and_half_steps_agree():
    a = random_stable(5, 3, 1, seed=1).A
    start = torch.randn(5, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    together = linear_flow(a, start, 0.2, 6)
    torch.testing.assert_close(linear_flow(a[3], start[3], 0.2, 6), together[3], rtol=0.0, atol=1e-15)
    torch.testing.assert_close(linear_flow(a, start, 0.1, 11)[:, ::2], together, rtol=0.0, atol=1e-14)
    steps = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5], dtype=torch.float64)
    torch.testing.assert_close(linear_flow(a, start, steps, 6)[1], together[1], rtol=0.0, atol=1e-15)


def test_random_problems_have_the_margin_asked_for_and_repeat():
    found = random_stable(200, 4, 2, seed=3, slowest=(0.5, 0.6))
    growth = largest_real_part(found.A)
    assert float(growth.max()) <= -0.5 + 1e-12
    assert float(growth.min()) >= -0.6 - 1e-12
    assert float(torch.linalg.eigvalsh(found.R).min()) >= 0.5 - 1e-12
    assert torch.equal(found.A, random_stable(200, 4, 2, seed=3, slowest=(0.5, 0.6)).A)


def test_bad_input():
    with pytest.raises(ShapeError, match="starts"):
        linear_flow(torch.eye(3), torch.ones(2, 2), 0.1, 3)
    with pytest.raises(ConfigError, match="count"):
        linear_flow(torch.eye(3), torch.ones(2, 3), 0.1, 0)
    with pytest.raises(ConfigError, match="slowest"):
        random_stable(3, 2, 1, 0, slowest=(0.0, 1.0))
