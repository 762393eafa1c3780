"""Planned movements of the hand at times and aims whose action is known. No simulator."""

from __future__ import annotations

import pytest
import torch

from rlcore.envs.robotics.adroit import AIM
from rlcore.envs.robotics.adroit_control import HANDLE_MEAN, PER_METRE, PULL_TIMES, DoorPull, PenTurn, along
from rlcore.errors import ConfigError, ShapeError


def test_a_movement_goes_straight_from_point_to_point() -> None:
    points = torch.tensor([[[0.0], [1.0], [-1.0]]])
    time = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0, 7.0])
    assert along(points, time, (0.0, 0.5, 1.0)).squeeze(1).tolist() == [0.0, 0.5, 1.0, 0.0, -1.0, -1.0]
    uneven = along(points, torch.tensor([0.1, 0.2, 0.6]), (0.0, 0.2, 1.0))
    assert uneven.squeeze(1).tolist() == pytest.approx([0.5, 1.0, 0.0], abs=1e-6)


def test_the_arm_goes_with_the_handle() -> None:
    vector = torch.zeros(DoorPull.numbers, dtype=torch.float64)
    vector[72:81] = 0.1 * torch.arange(1.0, 10.0)  # the last point
    vector[93:105] = torch.tensor([0.5, 0, 0, 0, 0.5, 0, 0, 0, 0.5, 0, 0, 0])  # arm joint i by coordinate i
    policy, obs = DoorPull(vector, noise=0.1), torch.zeros(2, 79)
    obs[:, 39 + 32 : 39 + 35] = torch.tensor(HANDLE_MEAN)
    obs[1, 39 + 32] += 0.02
    obs[:, -1] = PULL_TIMES[-1]
    action = policy.act(obs)
    assert action[0, :6].tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert action[0, [7, 8, 23]].tolist() == pytest.approx([0.7, 0.8, 0.9]), "knuckles, fingers, thumb"
    moved = (action[1] - action[0]).tolist()
    assert moved == pytest.approx([0.5 * PER_METRE * 0.02] + 27 * [0.0], abs=1e-6)
    shaken = policy.act(obs, noise=torch.full((2, 28), 2.0))
    assert torch.allclose(shaken, (action + 0.2).clamp(-1.0, 1.0))


def test_the_pen_is_turned_by_the_movement_that_came_nearest() -> None:
    movements = torch.stack([torch.full((5, 24), value) for value in (0.1, 0.2, 0.3)])
    turned = torch.zeros(3, 100, 3)
    turned[0, :] = torch.tensor([1.0, 0.0, 0.0])
    turned[1, 50] = torch.tensor([0.0, 1.0, 0.0])
    obs = torch.zeros(3, 91)
    obs[:, AIM] = torch.tensor([[0.8, 0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
    policy = PenTurn(movements, turned)
    assert policy.nearness(obs[:, AIM]).tolist() == [
        pytest.approx([0.8, 0.6, 0.0]), pytest.approx([0.6, 0.8, 0.0]), [0.0, 0.0, 0.0]
    ]  # fmt: skip
    assert policy.act(obs)[:, 0].tolist() == pytest.approx([0.1, 0.2, 0.1])


def test_bad_settings() -> None:
    with pytest.raises(ShapeError, match="vector"):
        DoorPull(torch.zeros(3))
    with pytest.raises(ShapeError, match="turned"):
        PenTurn(torch.zeros(2, 5, 24), torch.zeros(2, 99, 3))
    with pytest.raises(ConfigError, match="noise"):
        DoorPull(torch.zeros(DoorPull.numbers), noise=-1.0)
