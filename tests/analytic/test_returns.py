"""Returns to go: geometric series, cuts between episodes, and the rule of failed episodes."""

from __future__ import annotations

import pytest
import torch

from rlcore.errors import ConfigError, ShapeError
from rlcore.functional.returns import backward_recurrence, returns_to_go

GAMMA = 0.9


def test_a_constant_reward_gives_the_geometric_series() -> None:
    reward, discount = torch.ones(50, dtype=torch.float64), torch.full((50,), GAMMA, dtype=torch.float64)
    last = torch.zeros(50, dtype=torch.bool)
    last[19] = True  # 20 steps, then 30 that were cut
    left = torch.cat([torch.arange(20, 0, -1), torch.arange(30, 0, -1)])
    expected = (1.0 - GAMMA ** left.double()) / (1.0 - GAMMA)
    torch.testing.assert_close(returns_to_go(reward, discount, last), expected)


def test_a_time_limit_and_a_termination_are_followed_by_nothing() -> None:
    reward, last = torch.tensor([1.0, 2.0, 4.0, 8.0]), torch.tensor([False, True, False, True])
    truncated = returns_to_go(reward, torch.full((4,), 0.5), last)
    terminated = returns_to_go(reward, torch.tensor([0.5, 0.0, 0.5, 0.0]), last)
    assert truncated.tolist() == terminated.tolist() == [2.0, 2.0, 8.0, 8.0]


def test_paths_beside_each_other_are_the_paths_one_by_one() -> None:
    generator = torch.Generator().manual_seed(0)
    reward = torch.randn(40, 7, generator=generator)
    discount = torch.rand(40, 7, generator=generator)
    last = torch.rand(40, 7, generator=generator) < 0.1
    together = returns_to_go(reward, discount, last)
    for b in range(7):
        assert torch.equal(together[:, b], returns_to_go(reward[:, b], discount[:, b], last[:, b]))


def test_an_episode_that_only_failed_is_worth_failing_for_ever() -> None:
    reward = torch.tensor([-5.0, -5.0, -5.0, -5.0, 5.0, -5.0])
    last = torch.tensor([False, True, False, False, True, False])
    found = returns_to_go(reward, torch.full((6,), 0.99), last, failure_reward=-5.0)
    assert found[[0, 1, 5]].tolist() == pytest.approx([-500.0] * 3)
    assert found[4].item() == 5.0
    assert found[3].item() == pytest.approx(-5.0 + 0.99 * 5.0)
    uncalibrated = returns_to_go(reward, torch.full((6,), 0.99), last)
    assert uncalibrated[0].item() == pytest.approx(-9.95)


def test_bad_input_is_told() -> None:
    rows = torch.ones(3)
    with pytest.raises(ShapeError, match="one shape"):
        returns_to_go(rows, rows, torch.zeros(4, dtype=torch.bool))
    with pytest.raises(ConfigError, match="without a discount"):
        returns_to_go(rows, rows, torch.zeros(3, dtype=torch.bool), failure_reward=1.0)
    assert returns_to_go(rows[:0], rows[:0], torch.zeros(0, dtype=torch.bool)).shape == (0,)


@pytest.mark.parametrize("steps", [1, 7, 8, 9, 64, 130])
def test_a_recurrence_in_blocks_is_the_one_row_by_row(steps: int) -> None:
    generator = torch.Generator().manual_seed(steps)
    gain = torch.randn(steps, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    keep = torch.rand(steps, 3, dtype=torch.float64, generator=generator) * (torch.arange(steps) % 11 != 5).unsqueeze(1)
    rows, ahead = [], torch.zeros(3, dtype=torch.float64)
    for k in range(steps - 1, -1, -1):
        ahead = gain[k] + keep[k] * ahead
        rows.append(ahead)
    expected, found = torch.stack(rows[::-1]), backward_recurrence(gain, keep)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(x.square().sum(), gain)[0] for x in (found, expected)]
    torch.testing.assert_close(*gradients)
