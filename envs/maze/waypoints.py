"""Through a maze along a shortest path of cells: a controller, and a bound on what any controller can do."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra
from torch import Tensor

from rlcore.checks import check_not_negative
from rlcore.envs.maze import ball
from rlcore.envs.maze.layout import Cell, Layout
from rlcore.envs.maze.point_maze import GOAL_RADIUS, PointMaze
from rlcore.errors import ConfigError
from rlcore.simulation.environment import EnvState

NEIGHBOURS = ((-1, 0), (0, 1), (1, 0), (0, -1))  # in this order a tie between shortest paths is broken
SPACING = 0.05  # of the lattice that measures ways [m]


def next_cells(maze: Layout) -> NDArray[np.int64]:  # [H W, H W]
    """Entry [a, b]: the cell after a on a shortest path to b, cells numbered row by row; b where none leads there."""
    height, width = maze.walls.shape
    table = np.tile(np.arange(height * width), (height * width, 1))
    for row, column in zip(*np.nonzero(~maze.walls), strict=True):
        goal = row * width + column
        known, ring = {(row, column)}, [(row, column)]
        while ring:
            outer: list[Cell] = []
            for i, j in ring:
                for down, right in NEIGHBOURS:
                    cell = (i + down, j + right)
                    if cell not in known and not maze.walls[cell]:
                        table[cell[0] * width + cell[1], goal] = i * width + j
                        known.add(cell)
                        outer.append(cell)
            ring = outer
    return table


def cell_of(point: Tensor, shape: tuple[int, int]) -> Tensor:  # [B, 2] sides of a cell, (H, W) -> [B]
    """The number of the cell that a point is in, row by row."""
    height, width = shape
    column = (point[:, 0] + 0.5 * width).floor().clamp(0, width - 1)
    row = (0.5 * height - point[:, 1]).floor().clamp(0, height - 1)
    number: Tensor = row * width + column
    return number.long()


def turns(maze: Layout, cut: float) -> NDArray[np.float64]:  # [H W, H W, 2]
    """Entry [a, b]: where the shortest path from a to b turns first, or ends, moved by `cut` [m] into the turn."""
    height, width = maze.walls.shape
    table = next_cells(maze)
    centre = np.array([maze.centre((i, j)) for i in range(height) for j in range(width)])
    found = np.tile(centre, (height * width, 1, 1))
    free = np.flatnonzero(~maze.walls)
    for a in free:
        for b in free:
            corner, stride = a, table[a, b] - a
            while corner != b and table[corner, b] - corner == stride:
                corner = table[corner, b]
            found[a, b] = centre[corner] + cut * (centre[table[corner, b]] - centre[corner])
    return found


class WaypointPolicy:
    """u = 10 (w - x) - v + noise, clipped to [-1, 1], towards w: the centre of the next cell, at last the goal itself.

    The recipe of D4RL's maze2d without its memory: the waypoint follows from where the ball is. `noise` is the
    standard deviation of the Gaussian added before clipping. `aim` says in which columns of an observation the point to
    go to is. With a `cut` [m], at most 0.4, it hurries: w is where the way turns next, moved that far into the turn.
    0.4 m takes a sixth fewer steps.

    Source: Fu et al., "D4RL", arXiv 2004.07219, appendix.
    """

    noise_dim = 2
    gain, damping = 10.0, 1.0  # per m, and per m/s

    def __init__(self, env: PointMaze, noise: float = 0.0, aim: slice = slice(4, 6), cut: float | None = None) -> None:
        check_not_negative("noise", noise)
        if cut is not None and not 0.0 <= cut <= 0.5 - ball.RADIUS:
            raise ConfigError(f"cut must be from 0 to {0.5 - ball.RADIUS} m, or the ball catches a corner, got {cut} m")
        self.noise, self.aim = noise, aim
        self.shape = height, width = env.layout.walls.shape
        place: Any = {"dtype": env.dtype, "device": env.device}
        cells = [env.layout.centre((i, j)) for i in range(height) for j in range(width)]
        self.centres = torch.tensor(cells, **place)  # [H W, 2]
        if cut is None:
            self.way = self.centres[torch.as_tensor(next_cells(env.layout), device=env.device)]  # [H W, H W, 2]
        else:
            self.way = torch.as_tensor(turns(env.layout, cut), **place)
        self.hurries = cut is not None

    def cell(self, point: Tensor) -> Tensor:  # [B, 2] -> [B]
        """The number of the cell that a point is in."""
        return cell_of(point, self.shape)

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:  # [B, d] -> [B, 2]
        position, velocity, goal = obs[:, :2], obs[:, 2:4], obs[:, self.aim]
        here, there = self.cell(position), self.cell(goal)
        waypoint = self.way[here, there]
        at_last = (waypoint == self.centres[there]).all(1) if self.hurries else here == there
        waypoint = torch.where(at_last.unsqueeze(1), goal, waypoint)
        force = self.gain * (waypoint - position) - self.damping * velocity
        return (force if noise is None else force + self.noise * noise).clamp(-1.0, 1.0)


def fewest_steps(env: PointMaze, state: EnvState) -> Tensor:  # -> [B] int64
    """Simulator steps of 0.01 s that any policy needs at least to reach its goal from rest; slow, for reference.

    The length of a way is measured by its faster component, and no component can go further in n steps than a ball
    pushed straight ahead (bounces, which can be faster for a step, are left out). Where a way needs no turn the bound
    is almost met; every turn costs some steps more.
    """
    if bool((state.x[:, 2:4] != 0.0).any()):
        raise ConfigError("the bound holds from rest, got balls that move; pass initial states")
    reach, velocity = [0.0], 0.0
    while reach[-1] < env.layout.walls.size:  # longer than any way
        speed = min(velocity, ball.MAX_SPEED)
        velocity = speed + ball.STEP * (ball.GEAR - ball.DAMPING * speed) / (ball.MASS + ball.STEP * ball.DAMPING)
        reach.append(reach[-1] + ball.STEP * velocity)
    x = state.x.double().cpu().numpy()
    ways = [length_of_way(env.layout, row[:2], row[4:6]) for row in x]
    return torch.as_tensor(np.searchsorted(reach, ways))


def length_of_way(maze: Layout, start: NDArray[np.float64], goal: NDArray[np.float64]) -> float:  # m
    """Length in the maximum norm of a shortest way for the middle of the ball, into the goal's radius; at most that."""
    height, width = maze.walls.shape
    per_cell = round(1.0 / SPACING)
    x = (np.arange(width * per_cell) + 0.5) * SPACING - 0.5 * width
    y = 0.5 * height - (np.arange(height * per_cell) + 0.5) * SPACING
    free = ~np.kron(maze.walls, np.ones((per_cell, per_cell), bool))  # the middle of the ball never enters a wall
    number = np.arange(free.size).reshape(free.shape)
    ends = [(number[free & np.roll(free, shift, (0, 1))], shift) for shift in ((0, 1), (1, 0), (1, 1), (1, -1))]
    tail = np.concatenate([at for at, _ in ends])
    head = np.concatenate([at - down * free.shape[1] - right for at, (down, right) in ends])
    graph = coo_array((np.ones(len(tail)), (tail, head)), (free.size, free.size)).tocsr()
    near = np.hypot(x - goal[0], y[:, None] - goal[1]) <= GOAL_RADIUS + SPACING
    steps = dijkstra(graph, directed=False, unweighted=True, indices=number[free & near], min_only=True)
    away = np.where(free, np.hypot(x - start[0], y[:, None] - start[1]), np.inf)
    found = float(steps[away.argmin()])
    return max(0.0, (found - 1.0) * SPACING)
