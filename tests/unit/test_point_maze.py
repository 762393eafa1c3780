"""The ball in a maze: closed forms of its motion, the laws of starts and goals, ways and bounds, bad settings."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from rlcore.envs import make
from rlcore.envs.maze import LAYOUTS, WaypointPolicy, ball, fewest_steps, layout
from rlcore.envs.maze.point_maze import GOAL_RADIUS, START_APART
from rlcore.envs.maze.waypoints import length_of_way, next_cells
from rlcore.errors import ConfigError, UnknownNameError
from rlcore.simulation import EnvState, begin, rollout, rollout_with_reset

ID = "rlcore/PointMaze-v0"


def corridor(**settings):
    """Five free cells in a row, 0.5 m to the walls on both sides."""
    return make(ID, maze="#######/#R...G#/#######", dtype=torch.float64, **settings)


def test_free_flight_is_an_exponential_approach():
    """(m + h c) (v_k+1 - v_k) = h (g u - c v_k), so v_k = (g u / c) (1 - (m / (m + h c))^k), below 5 m/s."""
    walls = torch.as_tensor(layout("open").walls)
    x, v, u = torch.zeros(1, 2).double(), torch.zeros(1, 2).double(), torch.tensor([[0.1, -0.05]]).double()
    factor = ball.MASS / (ball.MASS + ball.STEP * ball.DAMPING)
    for k in range(1, 60):
        x, v = ball.step(x, v, u, walls)
        torch.testing.assert_close(v, ball.GEAR * u / ball.DAMPING * (1.0 - factor**k), rtol=1e-12, atol=0)
    assert bool((v.abs() < ball.MAX_SPEED).all())


def test_a_ball_pressed_against_a_wall_rests_where_force_and_spring_agree():
    """0 = a0 + kappa b: the depth solves kappa(d) K d |r| = g u / m."""
    walls = torch.as_tensor(layout("open").walls)
    x, v = torch.tensor([[2.0, 0.0]]).double(), torch.zeros(1, 2).double()
    for _ in range(400):
        x, v = ball.step(x, v, torch.tensor([[1.0, 0.0]]).double(), walls)
    gap = 2.5 - float(x[0, 0]) - ball.RADIUS
    r = gap - ball.MARGIN
    share = -r / ball.WIDTH
    d = 0.9 + 0.05 * (2 * share**2 if share < 0.5 else 1 - 2 * (1 - share) ** 2)
    assert d / (1 - d) * ball.STIFFNESS * d * -r == pytest.approx(ball.GEAR / ball.MASS, rel=1e-9)
    assert abs(float(v[0, 0])) < 1e-12


def test_contact_accelerations_minimise_their_convex_problem():
    """Against all 8 subsets of active walls, of which exactly the right one is consistent."""
    generator = torch.Generator().manual_seed(0)
    rows = 4000
    normal = torch.randn(rows, 3, 2, generator=generator).double()
    normal[:, 0], normal[:, 1] = torch.tensor([-1.0, 0.0]), torch.tensor([0.0, -1.0])  # as on the grid: two faces,
    normal[:, 2] = -normal[:, 2].abs() / normal[:, 2].norm(dim=1, keepdim=True)  # and a corner between them
    gap = torch.rand(rows, 3, generator=generator).double() * 0.06 - 0.05
    velocity, free = (4.0 * torch.randn(2, rows, 2, generator=generator).double()).unbind()
    got = ball.constrained(free, velocity, normal.permute(2, 1, 0), gap.T)
    depth = (gap - ball.MARGIN).clamp(max=0.0)
    share = (-depth / ball.WIDTH).clamp(max=1.0)
    d = 0.9 + 0.05 * torch.where(share < 0.5, 2 * share**2, 1 - 2 * (1 - share) ** 2)
    asked = -ball.RATE * (normal * velocity[:, None]).sum(2) - ball.STIFFNESS * d * depth
    weight = torch.where(gap <= ball.MARGIN, d / (1 - d), 0.0)

    def cost(a):
        miss = ((normal * a[:, None]).sum(2) - asked).clamp(max=0.0)
        return 0.5 * ((a - free) ** 2).sum(1) + 0.5 * (weight * miss**2).sum(1)

    best = torch.full((rows,), torch.inf, dtype=torch.float64)
    for active in itertools.product([0.0, 1.0], repeat=3):
        w = weight * torch.tensor(active).double()
        matrix = torch.eye(2).double() + torch.einsum("bi,bij,bik->bjk", w, normal, normal)
        best = torch.minimum(
            best, cost(torch.linalg.solve(matrix, free + torch.einsum("bi,bij->bj", w * asked, normal)))
        )
    torch.testing.assert_close(cost(got), best, rtol=1e-9, atol=1e-9)


def test_no_ball_goes_through_a_wall():
    env = make(ID, maze="large", at_goal="stay", horizon=50.0)
    free = ~env.walls
    for seed in range(3):
        push = torch.randn(256, 2, generator=torch.Generator().manual_seed(seed)).sign()
        path, _ = rollout(env, _Push(push), begin(env, 256, seed=seed), 300)
        cells = WaypointPolicy(env).cell(path.obs.flatten(0, 1))
        assert bool(free.flatten()[cells].all())
        assert float(path.obs[..., 2:4].abs().max()) < 8.0, "5.3 m/s when pushed, more when thrown out of a corner"


class _Push:
    noise_dim = 2

    def __init__(self, push):
        self.push = push

    def act(self, obs, *, noise=None):
        self.push = torch.where(noise > 2.0, -self.push, self.push)
        return self.push


@pytest.mark.parametrize("maze", LAYOUTS)
def test_starts_and_goals(maze):
    env = make(ID, maze=maze)
    x = begin(env, 4000, seed=1).env.x
    assert float((x[:, :2] - x[:, 4:]).norm(dim=1).min()) > START_APART
    for points, cells in ((x[:, :2], env.starts), (x[:, 4:], env.goals)):
        away = (points[:, None] - cells[None]).abs().amax(2)  # [B, C]
        assert float(away.amin(1).max()) <= env.config.spread
        count = torch.bincount(away.argmin(1), minlength=len(cells)).double()
        assert bool((count > 0).all()), "every cell comes"
    goals = torch.bincount((x[:, None, 4:] - env.goals[None]).abs().amax(2).argmin(1)).double()
    expected = len(x) / len(env.goals)
    assert (
        float(((goals - expected) ** 2 / expected).sum()) < len(goals) + 5.0 * (2.0 * len(goals)) ** 0.5
    )  # chi square


def test_a_goal_that_is_reached_moves_away_and_pays_once():
    env = make(ID, maze="umaze", at_goal="move")
    path, _ = rollout(env, WaypointPolicy(env, 0.5), begin(env, 64, seed=0), 250)
    moved = (path.obs[1:, :, 4:] != path.obs[:-1, :, 4:]).any(2)
    assert bool((path.reward == moved.float()).all())
    assert float(moved.sum(0).float().mean()) > 2.0
    apart = (path.obs[1:, :, :2] - path.obs[1:, :, 4:]).norm(dim=2)
    assert float(apart.min()) > GOAL_RADIUS
    assert not bool(path.terminated.any())


def test_arrival_ends_with_one_and_discount_nought():
    env = make(ID, maze="umaze")
    batch, _ = rollout_with_reset(env, WaypointPolicy(env, 0.5), begin(env, 128, seed=0), 300)
    arrived = (batch.next_obs[..., :2] - batch.next_obs[..., 4:]).norm(dim=2) <= GOAL_RADIUS
    assert bool((batch.reward == arrived.float()).all())
    assert bool(((batch.discount == 0.0) == arrived).all())
    assert float(batch.discount.max()) == pytest.approx(0.99, abs=1e-4)
    assert int(batch.extras["last"].sum()) == int(arrived.sum()) > 300


def test_rewards_per_second_do_not_depend_on_the_interval():
    fine, coarse = (
        make(ID, maze="open", at_goal="stay", reward="dense", dt=dt, dtype=torch.float64) for dt in (0.01, 0.05)
    )
    start = begin(fine, 32, seed=0).env
    state, sums = {0.01: start, 0.05: start}, {0.01: 0.0, 0.05: 0.0}
    for dt, env in ((0.01, fine), (0.05, coarse)):
        for k in range(round(1.0 / dt)):
            force = torch.full((32, 2), 0.2 if k * dt < 0.5 else -0.3).double()
            state[dt], earned = env.transition(state[dt], force, torch.zeros(32, 0))
            sums[dt] = sums[dt] + earned
    torch.testing.assert_close(state[0.01].x, state[0.05].x, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(sums[0.01], sums[0.05], rtol=0.05, atol=0.0)


def test_next_cells_shorten_the_way_by_one():
    """Against distances from repeated multiplication by the adjacency matrix."""
    maze = layout("large")
    walls, table = maze.walls, next_cells(maze)
    width = walls.shape[1]
    cells = maze.cells(".")
    number = {cell: i for i, cell in enumerate(cells)}
    adjacent = np.array([[abs(a - c) + abs(b - d) == 1 for c, d in cells] for a, b in cells]).astype(float)
    distance, reach, power = np.full(adjacent.shape, np.inf), np.eye(len(cells)), 0
    while np.isinf(distance).any():
        distance = np.minimum(distance, np.where(reach > 0, power, np.inf))
        reach, power = np.minimum(reach @ adjacent, 1.0), power + 1
    for a, b in itertools.product(cells, cells):
        if a != b:
            step = divmod(int(table[a[0] * width + a[1], b[0] * width + b[1]]), width)
            assert distance[number[step], number[b]] == distance[number[a], number[b]] - 1
            assert adjacent[number[a], number[step]]


@pytest.mark.parametrize("maze", ["umaze", "medium", "large", "large_far"])
@pytest.mark.parametrize(("noise", "cut", "most"), [(0.0, None, 1.85), (0.5, None, 1.85), (0.0, 0.4, 1.5)])
def test_waypoints_lead_to_every_goal_and_not_faster_than_possible(maze, noise, cut, most):
    env = make(ID, maze=maze)
    start = begin(env, 48, seed=2)
    path, _ = rollout(env, WaypointPolicy(env, noise, cut=cut), start, round(env.spec.horizon / env.spec.dt))
    assert bool((path.reward.sum(0) == 1.0).all()), "all succeed in time"
    taken, least = (~path.terminated).sum(0) + 1, fewest_steps(env, start.env)
    assert bool((taken >= least).all())
    assert float((taken / least).mean()) < most


def test_the_bound_is_met_on_a_straight_way():
    env = corridor(spread=0.0)
    start = begin(env, 1, seed=0)
    path, _ = rollout(env, WaypointPolicy(env), start, 300)
    taken = int((~path.terminated).sum()) + 1
    assert taken - int(fewest_steps(env, start.env)) in (0, 1, 2)
    assert length_of_way(env.layout, np.array([-2.0, 0.0]), np.array([2.0, 0.0])) == pytest.approx(4.0 - 0.45, abs=0.1)
    with pytest.raises(ConfigError, match="holds from rest"):
        fewest_steps(env, EnvState(start.env.t, start.env.x + 1.0))


def test_render_shows_the_ball_and_the_goal():
    env = make(ID, maze="medium")
    state = begin(env, 2, seed=0).env
    picture = env.render(state)
    assert picture.shape == (400, 400, 3)
    assert np.array_equal(picture, env.render(state)), "drawing leaves the cached scene alone"
    assert not np.array_equal(picture, env.render(EnvState(state.t, state.x.flip(0))))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"maze": "#####/#R.#"}, "rows of one length"),
        ({"maze": "####/#R.#/#.G./####"}, "closed by walls"),
        ({"maze": "####/#RR#/####"}, "a start apart from each goal|needs a goal"),
        ({"maze": "####/#C##/####"}, "a start apart from each goal"),
        ({"maze": 3}, "a name or a drawing"),
        ({"reward": "shaped"}, "reward must be one of sparse, dense"),
        ({"at_goal": "jump"}, "at_goal must be one of end, move, stay"),
        ({"dt": 0.015}, "multiple of 0.01"),
        ({"spread": 0.45}, "spread must be at most 0.4"),
        ({"horizon": -1.0}, "horizon"),
    ],
)
def test_bad_settings(setting, message):
    with pytest.raises(ConfigError, match=message) as caught:
        make(ID, **setting)
    assert "\n" not in str(caught.value)


def test_bad_cuts():
    for cut in (-0.1, 0.45):
        with pytest.raises(ConfigError, match=r"cut must be from 0 to 0\.4"):
            WaypointPolicy(make(ID), cut=cut)


def test_unknown_maze():
    with pytest.raises(UnknownNameError, match="did you mean 'medium'"):
        make(ID, maze="mediums")
