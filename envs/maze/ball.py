"""The motion of MuJoCo's ball in a maze, as a pure function of batches.

A ball of mass m slides in the plane, pushed by the force g u and damped by c:  m v' = g u - c v + contact forces.
One step of length h, with the velocity first clipped to +-5 m/s in each axis:

    a0 = (g u - c v) / m
    a  = argmin_a  |a - a0|^2 / 2 + sum_i kappa_i min(0, n_i . a - b_i)^2 / 2        over the walls i within reach
    v <- v + h a m / (m + h c),   x <- x + h v

b_i = -B n_i . v - K d_i r_i is the acceleration that a critically damped spring of time constant 2 h asks for,
r_i = gap - margin <= 0 how deep the ball is in the layer around wall i, d_i its impedance in [0.9, 0.95], and
kappa_i = d_i / (1 - d_i). The ball is small beside a cell, so at most three cells are within reach: those that share
the nearest corner of the grid with its own. Two of them touch it with a face, the third with its corner.

Source: the model `point.xml` of Gymnasium-Robotics; MuJoCo documentation, "Computation", sections on the constraint
model (reference acceleration, impedance) and on its solver.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

STEP = 0.01  # h [s]
RADIUS = 0.1  # of the ball [m]
MASS = 1000.0 * 4.0 / 3.0 * math.pi * RADIUS**3  # m [kg]
DAMPING = 1.0  # c [N s/m]
GEAR = 100.0  # g [N], the force of a full action
MAX_SPEED = 5.0  # [m/s], of each axis, before a step
MARGIN = 0.004  # [m], twice that of a geom: MuJoCo adds the two
IMPEDANCE, WIDTH = (0.9, 0.95), 0.001  # d at the edge of the layer and beyond its width [m]
_TIME = 2.0 * STEP  # of the spring [s]
RATE, STIFFNESS = 2.0 / (IMPEDANCE[1] * _TIME), 1.0 / (IMPEDANCE[1] * _TIME) ** 2  # B [1/s], K [1/s^2]
ROUNDS = 4  # of the active-set iteration; two walls need at most three


def step(position: Tensor, velocity: Tensor, force: Tensor, walls: Tensor) -> tuple[Tensor, Tensor]:
    """One step of h: [B, 2] m, [B, 2] m/s, [B, 2] in [-1, 1], bool [H, W] -> position and velocity after it."""
    v = velocity.clamp(-MAX_SPEED, MAX_SPEED)
    free = (GEAR * force - DAMPING * v) / MASS  # a0 [B, 2]
    normal, gap = contacts(position, walls)
    after = v + STEP * (MASS / (MASS + STEP * DAMPING)) * constrained(free, v, normal, gap)
    return position + STEP * after, after


def contacts(position: Tensor, walls: Tensor) -> tuple[Tensor, Tensor]:  # -> [2, 3, B], [3, B]
    """Unit normals that point away from the three walls in reach, and gaps [m]; inf where there is no wall."""
    height, width = walls.shape
    column, aside, right = within_cell(position[:, 0] + 0.5 * width, width)
    row, below, down = within_cell(0.5 * height - position[:, 1], height)
    corner = torch.hypot(aside, below)
    away = 1.0 / corner.clamp(min=1e-9)
    none = torch.zeros_like(corner)
    nx = torch.stack([-right, none, -right * aside * away])
    ny = torch.stack([none, down, down * below * away])
    beside, beyond = (column + right.long()).clamp(0, width - 1), (row + down.long()).clamp(0, height - 1)
    solid = torch.stack([walls[row, beside], walls[beyond, column], walls[beyond, beside]])
    return torch.stack([nx, ny]), torch.where(solid, torch.stack([aside, below, corner]) - RADIUS, torch.inf)


def within_cell(place: Tensor, cells: int) -> tuple[Tensor, Tensor, Tensor]:  # [B] each
    """Along one axis: the cell, how far its nearer edge is [m], and on which side, +1 or -1."""
    cell = place.floor().clamp(0.0, cells - 1.0)
    inside = place - cell - 0.5  # from the middle of the cell
    return cell.long(), (0.5 - inside.abs()).clamp(min=0.0), torch.where(inside < 0.0, -1.0, 1.0).to(place)


def constrained(free: Tensor, velocity: Tensor, normal: Tensor, gap: Tensor) -> Tensor:  # -> a [B, 2]
    """The minimiser of the convex problem above, by Newton steps on its active set: a 2 x 2 system each."""
    nx, ny = normal.unbind()  # [3, B]
    depth = (gap - MARGIN).clamp(max=0.0)  # r [3, B]
    share = (depth / -WIDTH).clamp(max=1.0)
    blend = torch.where(share < 0.5, 2.0 * share**2, 1.0 - 2.0 * (1.0 - share) ** 2)
    impedance = IMPEDANCE[0] + (IMPEDANCE[1] - IMPEDANCE[0]) * blend  # d [3, B]
    approach = nx * velocity[:, 0] + ny * velocity[:, 1]
    asked = -RATE * approach - STIFFNESS * impedance * depth  # b [3, B]
    weight = torch.where(gap <= MARGIN, impedance / (1.0 - impedance), 0.0)  # kappa [3, B]
    products = torch.stack([nx * nx, nx * ny, ny * ny, asked * nx, asked * ny])  # [5, 3, B]
    ax, ay = fx, fy = free.unbind(1)
    for _ in range(ROUNDS):
        active = weight * (nx * ax + ny * ay < asked)
        xx, xy, yy, bx, by = (active * products).sum(1)  # [5, B]
        xx, yy, bx, by = 1.0 + xx, 1.0 + yy, fx + bx, fy + by
        scale = 1.0 / (xx * yy - xy * xy)
        ax, ay = scale * (yy * bx - xy * by), scale * (xx * by - xy * bx)
    return torch.stack([ax, ay], 1)
