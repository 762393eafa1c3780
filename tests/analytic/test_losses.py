"""The losses against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from rlcore.errors import ConfigError
from rlcore.functional import losses

Q = torch.tensor([[[1.0, 2.0], [3.0, 0.0]]])  # [1, 2, 2]: two critics, two rows


def test_td_target_and_loss() -> None:
    target = losses.td_target(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, 0.0]]), torch.tensor([[4.0, 9.0]]))
    assert target.tolist() == [[3.0, 2.0]]  # the second row ended
    assert losses.td_loss(Q, target).item() == pytest.approx((4.0 + 0.0 + 0.0 + 4.0) / 4)
    assert losses.td_loss(Q.repeat(3, 1, 1), target.repeat(3, 1)).item() == pytest.approx(3 * 2.0)  # seeds add up


def test_least_and_best_of_least() -> None:
    assert losses.least_of(Q).tolist() == [[1.0, 0.0]]
    two_actions = torch.tensor([[[[1.0], [5.0]], [[4.0], [2.0]]]])  # [S=1, k=2, n=2, N=1]
    assert losses.best_of_least(two_actions).tolist() == [[2.0]]  # max(min(1, 4), min(5, 2)), not min of max


def test_actor_and_temperature() -> None:
    log_prob, q, temperature = torch.tensor([[-1.0, 0.5]]), torch.tensor([[2.0, 1.0]]), torch.tensor([0.1])
    assert losses.soft_actor_loss(log_prob, q, temperature).item() == pytest.approx((-2.1 - 0.95) / 2)
    temperature.requires_grad_()
    losses.temperature_loss(temperature, log_prob, -1.0).backward()
    assert temperature.grad.item() == pytest.approx(0.25 + 1.0)  # entropy above the target: T falls


def test_conservative_gap_with_and_without_importance() -> None:
    sampled = torch.tensor([[[[0.0], [1.0]]]])  # [1, 1, n=2, 1]
    data = torch.tensor([[[0.5]]])
    log_density = torch.log(torch.tensor([[[0.5], [0.25]]]))
    found = losses.conservative_gap(sampled, data, log_density)
    assert found.item() == pytest.approx(math.log(2.0 + 4.0 * math.e) - 0.5)
    found = losses.conservative_gap(sampled, data, None)
    assert found.item() == pytest.approx(math.log((1.0 + math.e + math.exp(0.5)) / 3.0) - 0.5)


def test_importance_sampling_estimates_the_integral() -> None:
    generator = torch.Generator().manual_seed(0)
    action = 2.0 * torch.rand(1, 200_000, 1, generator=generator, dtype=torch.float64) - 1.0
    q = (3.0 * action).unsqueeze(1)
    density = torch.full_like(action, math.log(0.5))
    found = losses.conservative_gap(q, torch.zeros(1, 1, 1, dtype=torch.float64), density) - math.log(200_000)
    assert found.item() == pytest.approx(math.log((math.exp(3.0) - math.exp(-3.0)) / 3.0), abs=5e-3)


def test_calibration_is_a_floor() -> None:
    q = torch.tensor([[[[-3.0, 2.0]]]])
    found = losses.calibrated(q, torch.tensor([[-1.0, 1.0]]))
    assert found.tolist() == [[[[-1.0, 2.0]]]]


def test_expectiles_solve_their_equation() -> None:
    sample = torch.tensor([0.0, 1.0, 2.0, 10.0], dtype=torch.float64)
    for tau in (0.5, 0.7, 0.9):
        value = torch.zeros(1, requires_grad=True, dtype=torch.float64)
        optimizer = torch.optim.LBFGS([value], max_iter=100, tolerance_grad=1e-12, tolerance_change=1e-14)

        def closure(value: torch.Tensor = value, tau: float = tau) -> torch.Tensor:
            optimizer.zero_grad()  # noqa: B023
            loss = losses.expectile_loss((sample - value).unsqueeze(0), tau)
            loss.backward()
            return loss

        optimizer.step(closure)
        above, below = (sample - value).clamp(min=0).sum(), (value - sample).clamp(min=0).sum()
        assert (tau * above).item() == pytest.approx(((1 - tau) * below).item(), rel=1e-6)
    with pytest.raises(ConfigError, match="strictly between"):
        losses.expectile_loss(sample.unsqueeze(0), 1.0)


def test_weights_of_advantages_are_capped() -> None:
    found = losses.advantage_weight(torch.tensor([0.0, math.log(2.0), 50.0]), 2.0, 100.0)
    assert found.tolist() == pytest.approx([1.0, 4.0, 100.0])
    likelihood = losses.weighted_likelihood_loss(torch.tensor([[-1.0, -3.0]]), torch.tensor([[2.0, 1.0]]))
    assert likelihood.item() == pytest.approx(2.5)
    assert losses.weighted_likelihood_loss(torch.tensor([[-1.0, -3.0]])).item() == pytest.approx(2.0)


def test_td3_bc_does_not_depend_on_the_scale_of_q() -> None:
    action, data = torch.tensor([[[0.5], [0.0]]]), torch.tensor([[[0.0], [0.0]]])
    q = torch.tensor([[2.0, 4.0]])
    expected = 0.125 - 2.5 * 3.0 / 3.0
    assert losses.td3_bc_loss(q, action, data, 2.5).item() == pytest.approx(expected)
    assert losses.td3_bc_loss(100.0 * q, action, data, 2.5).item() == pytest.approx(expected)
