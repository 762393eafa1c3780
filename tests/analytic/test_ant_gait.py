"""The ant's gait and the way through a maze: symmetries of the robot, and directions that are known. No simulator."""

from __future__ import annotations

import math

import pytest
import torch

from rlcore.envs.maze import layout
from rlcore.envs.robotics.ant_gait import PHASES, TO_ACTION, AntGait, gait_of, joints_at, walk
from rlcore.envs.robotics.ant_maze import CELL, LOOK_AHEAD, AntWaypointPolicy
from rlcore.errors import ConfigError

SIGNS = torch.tensor([1.0, 1.0, 1.0, -1.0, 1.0, -1.0, 1.0, 1.0], dtype=torch.float64)  # of ankles that bend down
GAIT = AntGait()


def body(joints: torch.Tensor, velocity: torch.Tensor, nose: float) -> torch.Tensor:  # [8], [8] -> [1, 27]
    """An ant that stands level, with these joints."""
    found = torch.zeros(1, 27, dtype=torch.float64)
    found[0, 1], found[0, 4] = math.cos(0.5 * nose), math.sin(0.5 * nose)
    found[0, 5:13], found[0, 19:27] = joints, velocity
    return found


def test_a_quarter_turn_passes_the_gait_to_the_next_leg() -> None:
    """Legs are a quarter turn and half a phase apart, so the robot's symmetry is the gait's."""
    phase = torch.linspace(0.0, 6.0, 7, dtype=torch.float64)
    here = joints_at(GAIT, phase, torch.full_like(phase, 0.4)) * SIGNS
    turned = joints_at(GAIT, phase + math.pi, torch.full_like(phase, 0.4 + 0.5 * math.pi)) * SIGNS
    assert torch.allclose(turned, here.roll(2, dims=1))


def test_only_the_heading_from_the_nose_counts() -> None:
    generator = torch.Generator().manual_seed(0)
    joints, velocity = 0.5 * torch.randn(2, 8, generator=generator, dtype=torch.float64)
    one = walk(GAIT, body(joints, velocity, 0.0), torch.tensor([0.7], dtype=torch.float64))
    two = walk(GAIT, body(joints, velocity, 1.1), torch.tensor([1.8], dtype=torch.float64))
    assert torch.allclose(one, two)
    assert float(one.abs().max()) <= 1.0


def test_on_the_curve_the_springs_pull_to_the_point_ahead() -> None:
    phase = torch.tensor([2.0 * math.pi * 9 / PHASES], dtype=torch.float64)
    direction = torch.tensor([0.3], dtype=torch.float64)
    joints = joints_at(GAIT, phase, direction)[0]
    velocity = torch.full((8,), 0.5, dtype=torch.float64)
    pulled = GAIT.stiffness * (joints_at(GAIT, phase + GAIT.lead, direction)[0] - joints) - GAIT.damping * velocity
    torque = walk(GAIT, body(joints, velocity, 0.0), direction)[0]
    assert torch.allclose(torque, pulled[TO_ACTION].clamp(-1.0, 1.0))


def test_rows_do_not_depend_on_each_other() -> None:
    generator = torch.Generator().manual_seed(1)
    rows, heading = torch.randn(5, 27, generator=generator), torch.randn(5, generator=generator)
    assert torch.allclose(walk(GAIT, rows, heading)[2:3], walk(GAIT, rows[2:3], heading[2:3]))


def test_settings() -> None:
    assert gait_of(AntGait(lift=0.25).vector()) == AntGait(lift=0.25)
    with pytest.raises(ConfigError, match="swing must be finite"):
        AntGait(swing=math.nan)


def test_the_way_through_the_maze() -> None:
    maze = layout("umaze_far")
    policy = AntWaypointPolicy(maze, GAIT)
    start, goal = (CELL * torch.tensor([maze.centre(cell)]) for cell in (maze.starts[0], maze.goals[0]))

    def heading(x: float, y: float) -> float:
        return float(policy.heading(start + torch.tensor([[x, y]]), goal))

    assert heading(0.0, 0.0) == pytest.approx(0.0), "along the upper corridor"
    assert heading(0.7, 1.0) == pytest.approx(math.atan2(-1.0, LOOK_AHEAD)), "back to its middle"
    assert heading(2 * CELL, 0.0) == pytest.approx(-0.5 * math.pi), "down at the corner"
    assert heading(2 * CELL, -2 * CELL) == pytest.approx(math.pi), "back along the lower one"
    near = float(policy.heading(goal + torch.tensor([[1.0, 1.0]]), goal))
    assert near == pytest.approx(-0.75 * math.pi), "straight to the goal"
