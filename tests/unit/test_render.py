"""Pictures: the right shape, the rod where the angle says, smooth edges, the scene untouched."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rlcore.envs.control.drawing import AMBER, PAPER, blank, disc, draw_pendulum, paint, segment
from rlcore.envs.control.pendulum import Pendulum
from rlcore.simulation import EnvState


def amber_centre(picture: np.ndarray) -> tuple[float, float]:
    """Centre (x right, y up) in [-1, 1] of what has the colour of the tip."""
    near = np.abs(picture / 255.0 - np.asarray(AMBER)).max(-1) < 0.02
    row, column = (index.mean() for index in np.nonzero(near))
    size = picture.shape[0]
    return (column + 0.5) * 2 / size - 1, 1 - (row + 0.5) * 2 / size


@pytest.mark.parametrize("angle", [0.0, 0.5 * math.pi, math.pi, -1.0, 2.5])
def test_tip_is_where_the_angle_says(angle: float) -> None:
    x, y = amber_centre(draw_pendulum(angle))
    assert math.cos(math.atan2(-x, y) - angle) > 0.999


def test_render_is_a_picture_of_row_0_and_repeats() -> None:
    env = Pendulum()
    state = EnvState(torch.zeros(2, dtype=torch.float64), torch.tensor([[0.5, 3.0], [2.0, 0.0]]))
    first, second = env.render(state), env.render(state)
    assert first.shape == (400, 400, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, second), "drawing leaves the cached scene alone"
    assert not np.array_equal(first, env.render(EnvState(state.t, state.x.flip(0))))


def test_trail_lies_behind_the_motion() -> None:
    """A rod that moves anticlockwise leaves its trail on the clockwise side."""
    still = draw_pendulum(0.0).astype(int)
    changed = np.abs(draw_pendulum(0.0, trail=0.6).astype(int) - still).sum((0, 2))
    assert changed[200:].sum() > 20 * changed[:200].sum()


def test_coverage_integrates_to_the_area() -> None:
    for shape, area in (
        (disc(200, (0.1, -0.2), 0.3), math.pi * 0.09),
        (segment(200, (-0.5, 0.0), (0.5, 0.3), 0.1), 0.1 * math.hypot(1.0, 0.3) + math.pi * 0.0025),
    ):
        picture = blank(200, (0.0, 0.0, 0.0))
        paint(picture, shape, (1.0, 1.0, 1.0))
        assert float(picture[..., 0].sum()) * (2.0 / 200) ** 2 == pytest.approx(area, rel=5e-3)
        assert np.unique(picture).size > 10, "edges are antialiased"


def test_background_is_paper() -> None:
    assert draw_pendulum(0.3)[0, 0].tolist() == [int(255 * value + 0.5) for value in PAPER]
