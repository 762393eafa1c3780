"""The recipes of the point-maze sets: what acts, what is paid, where episodes begin and end."""

from __future__ import annotations

import math

import pytest
import torch

from rlcore.data import lengths
from rlcore.envs import make
from rlcore.envs.maze.point_maze import GOAL_RADIUS
from rlcore.errors import DataError, RlcoreError
from rlcore.experiments import point_maze_data
from rlcore.experiments.maze_figures import coverage, visits
from rlcore.experiments.point_maze_data import Config, generate, task
from rlcore.training.prepare import with_returns

SMALL = Config(steps=12_000, paths=24)


@pytest.mark.parametrize("kind", ["waypoint", "diverse"])
@pytest.mark.parametrize("maze", ["umaze", "medium"])
def test_rows_are_steps_of_the_evaluated_task(maze, kind):
    """Replayed in the environment of the evaluation, every row gives the same next state, reward and end."""
    rows = generate(maze, kind, SMALL, seed=1)
    env = make("rlcore/PointMaze-v0", maze=task(maze, kind))
    state = env.initial_state(torch.zeros(len(rows), 6))._replace(x=rows.obs)
    after, earned = env.transition(state, rows.action, torch.zeros(len(rows), 0))
    ended = env.terminated(after)
    torch.testing.assert_close(after.x, rows.next_obs, rtol=1e-5, atol=1e-5)
    assert bool((earned + env.terminal_reward(after) * ended == rows.reward).all())
    assert bool(((rows.discount == 0.0) == ended).all())
    first = torch.cat([torch.tensor([True]), rows.extras["last"][:-1]])
    assert bool((rows.obs[first, 2:4] == 0.0).all()), "episodes begin at rest"
    assert max(lengths(rows)) <= round(env.spec.horizon / env.spec.dt)
    paid = float(rows.reward.sum()) / len(lengths(rows))
    assert paid > 0.75 if kind == "waypoint" else 0.0 < paid < 0.75


def test_diverse_goals_are_the_far_corner_and_starts_are_anywhere():
    rows = generate("umaze", "diverse", SMALL, seed=0)
    goal = torch.tensor(make("rlcore/PointMaze-v0", maze="umaze").layout.centre((3, 1)))
    assert float((rows.obs[:, 4:] - goal).abs().max()) <= 0.25
    first = torch.cat([torch.tensor([True]), rows.extras["last"][:-1]])
    assert coverage(rows.obs[first, :2], make("rlcore/PointMaze-v0").layout) > 0.15
    assert float((rows.obs[:, :2] - rows.obs[:, 4:]).norm(dim=1).min()) > GOAL_RADIUS - 1e-6


def test_seeds_and_batches():
    one, two, other = (generate("umaze", "waypoint", Config(steps=600, paths=6), seed) for seed in (0, 0, 1))
    assert torch.equal(one.obs, two.obs)
    assert not torch.equal(one.obs, other.obs)
    more = generate("umaze", "waypoint", Config(steps=1200, paths=12), seed=0)
    assert torch.equal(more.obs[:600], one.obs), "a path does not depend on the batch it runs in"


def test_visits_count_every_row():
    rows = generate("medium", "waypoint", Config(steps=1000, paths=10), seed=0)
    maze = make("rlcore/PointMaze-v0", maze="medium").layout
    count = visits(rows.obs[:, :2], maze)
    assert count.sum() == len(rows)
    assert count.reshape(8, 4, 8, 4).sum((1, 3))[maze.walls].sum() == 0


def test_rewards_are_scaled_and_summed_with_the_rule_of_failure():
    """Failed episodes: -5 / (1 - gamma) at every step; paid ones: -5 each step before the last, which gives +5."""
    rows = with_returns(generate("umaze", "diverse", SMALL, 0), scale=10.0, bias=-5.0, failure_reward=0.0)
    assert rows.reward.unique().tolist() == [-5.0, 5.0]
    gamma = math.exp(-1.005 * 0.01)
    paid = 0
    for reward, got in zip(*(x.split(lengths(rows)) for x in (rows.reward, rows.extras["mc_return"])), strict=True):
        left = torch.arange(len(reward) - 1, -1, -1, dtype=torch.float64)  # steps after this one
        arrives = float(reward[-1]) == 5.0
        paid += arrives
        expected = -5.0 * (1.0 - gamma**left) / (1.0 - gamma) + 5.0 * gamma**left
        expected = expected if arrives else torch.full_like(expected, -5.0 / (1.0 - gamma))
        torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-4)
    assert 0 < paid < len(lengths(rows))
    with pytest.raises(DataError, match="does not lead"):
        with_returns(rows.replace(obs=rows.obs.roll(1, 0)))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"mazes": ("open",)}, "large, medium, umaze"),
        ({"kinds": ("expert",)}, "diverse, waypoint"),
        ({"steps": 5, "paths": 6}, "steps >= paths"),
        ({"mazes": ()}, "at least one maze"),
        ({"noise": -1.0}, "noise"),
        ({"dt": 0.015}, "multiple of 0.01"),
    ],
)
def test_bad_settings(setting, message, tmp_path):
    with pytest.raises(RlcoreError, match=message):
        point_maze_data.run(Config(root=str(tmp_path), **({"steps": 100, "paths": 2} | setting)), seed=0)
