"""`PointMaze` beside Gymnasium-Robotics' on MuJoCo: the same maps, motion, rewards and ends; needs `robotics`."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from rlcore.envs import make
from rlcore.envs.maze import ball, layout
from rlcore.simulation import EnvState

NAMES = {
    "umaze": "PointMaze_UMaze-v3",
    "open": "PointMaze_Open-v3",
    "medium": "PointMaze_Medium-v3",
    "large": "PointMaze_Large-v3",
    "open_diverse_g": "PointMaze_Open_Diverse_G-v3",
    "open_diverse_gr": "PointMaze_Open_Diverse_GR-v3",
    "medium_diverse_g": "PointMaze_Medium_Diverse_G-v3",
    "medium_diverse_gr": "PointMaze_Medium_Diverse_GR-v3",
    "large_diverse_g": "PointMaze_Large_Diverse_G-v3",
    "large_diverse_gr": "PointMaze_Large_Diverse_GR-v3",
}
TASKS = {"end": {"continuing_task": False}, "move": {"reset_target": True}, "stay": {}}


def theirs(maze: str, **settings: Any) -> Any:
    robotics = pytest.importorskip("gymnasium_robotics")
    gymnasium.register_envs(robotics)
    return gymnasium.make(NAMES[maze], **settings).unwrapped


@pytest.mark.parametrize("maze", NAMES)
def test_layouts(maze: str) -> None:
    env, ours = theirs(maze), layout(maze)
    assert np.array_equal([[letter == 1 for letter in row] for row in env.maze.maze_map], ours.walls)
    for cells, points in ((ours.starts, env.maze.unique_reset_locations), (ours.goals, env.maze.unique_goal_locations)):
        assert sorted(map(tuple, points)) == sorted(ours.centre(cell) for cell in cells)
    steps = gymnasium.spec(NAMES[maze]).max_episode_steps
    assert make("rlcore/PointMaze-v0", maze=maze).spec.horizon == pytest.approx(0.01 * steps)


def test_constants() -> None:
    model = theirs("umaze").point_env.model
    assert model.body_mass[1] == pytest.approx(ball.MASS, rel=1e-8)
    assert model.opt.timestep == ball.STEP
    assert model.dof_damping.tolist() == [ball.DAMPING] * 2
    assert model.actuator_gear[:, 0].tolist() == [ball.GEAR] * 2
    assert np.all(model.geom_solref == [2.0 * ball.STEP, 1.0])
    assert np.all(model.geom_solimp[:, :3] == [*ball.IMPEDANCE, ball.WIDTH])


@pytest.mark.parametrize("maze", ["umaze", "medium", "large"])
def test_single_steps_from_anywhere(maze: str) -> None:
    """At rest or fast, in the open, against walls and in corners, pressed into them by up to 5 cm: 10 um/s."""
    point, walls = theirs(maze).point_env, torch.as_tensor(layout(maze).walls)
    random = np.random.default_rng(0)
    free = np.array([layout(maze).centre(cell) for cell in layout(maze).cells(".")])
    near_corner = 0.5 - random.uniform(0.05, 0.12, (3000, 2))
    inside = np.where(random.random((3000, 2)) < 0.5, random.uniform(0.0, 0.5, (3000, 2)), near_corner)
    place = free[random.integers(len(free), size=3000)] + inside * random.choice([-1.0, 1.0], (3000, 2))
    velocity, force = random.normal(0.0, 3.0, (3000, 2)), random.uniform(-1.0, 1.0, (3000, 2))
    expected = []
    for row in range(3000):
        point.set_state(place[row], velocity[row])
        expected.append(point.step(force[row])[0])
    touching = ball.contacts(torch.tensor(place), walls)[1] < ball.MARGIN
    assert touching.any(0).sum() > 500
    assert (touching.sum(0) > 1).sum() > 50, "two walls at once too"
    got = torch.cat(ball.step(*map(torch.tensor, (place, velocity, force)), walls), 1)
    assert np.abs(got.numpy() - expected).max() < 1e-5


@pytest.mark.parametrize("maze", ["umaze", "medium", "large"])
@pytest.mark.parametrize(
    ("reward", "at_goal"), [("sparse", "end"), ("sparse", "stay"), ("sparse", "move"), ("dense", "stay")]
)
def test_paths_rewards_and_ends(maze: str, reward: str, at_goal: str) -> None:
    """400 steps under the same forces, most of them along walls: 0.1 mm and 0.1 mm/s, the same rewards and ends."""
    env = theirs(maze, reward_type=reward, **TASKS[at_goal])
    ours = make("rlcore/PointMaze-v0", maze=maze, reward=reward, at_goal=at_goal, dtype=torch.float64)
    random, force = np.random.default_rng(1), np.zeros(2)
    lasting = ours.spec.dt if "dense" in reward or at_goal == "stay" else 1.0
    for episode in range(2):
        obs, _ = env.reset(seed=episode)
        state = EnvState(
            torch.zeros(1, dtype=torch.float64), torch.tensor([[*obs["observation"], *obs["desired_goal"]]])
        )
        for _ in range(400):
            toward = np.sign(obs["desired_goal"] - obs["observation"][:2])
            if random.random() < 0.2:
                force = toward if random.random() < 0.5 else random.uniform(-1.3, 1.3, 2)
            obs, paid, ended, _, _ = env.step(force)
            state, earned = ours.transition(state, torch.tensor(force)[None], torch.zeros(1, 3, dtype=torch.float64))
            over = bool(ours.terminated(state))
            earned = earned + ours.terminal_reward(state) * over
            assert np.abs(state.x[0, :4].numpy() - obs["observation"]).max() < 1e-4
            assert float(earned) == pytest.approx(lasting * paid, abs=1e-5)
            assert over == ended
            if ended:
                break
            state.x[0, 4:] = torch.as_tensor(env.goal)  # the generators differ, so a goal that moved does too
