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


def contacts(position: Tensor, walls: Tensor) -> tuple[Tensor, Tensor]:  # -> [B, 3, 2], [B, 3]
    """Unit normals that point away from the three walls in reach, and gaps [m]; inf where there is no wall."""
    height, width = walls.shape
    half = position.new_tensor([0.5 * width, 0.5 * height])
    place = torch.stack([position[:, 0], -position[:, 1]], 1) + half  # [B, 2] (column, row) of the ball
    cell = place.floor().clamp(min=0.0).minimum(2.0 * half - 1.0)
    inside = place - cell - 0.5  # [B, 2] from the centre of the cell
    side = torch.where(inside < 0.0, -1.0, 1.0)  # [B, 2] where the nearest corner lies
    apart = (0.5 - inside.abs()).clamp(min=0.0)  # [B, 2] to the edges of the cell that meet there
    corner = apart.norm(dim=1)
    away = apart / corner.clamp(min=1e-9).unsqueeze(1)
    zero, one = torch.zeros_like(corner), torch.ones_like(corner)
    toward = torch.stack([torch.stack([one, zero], 1), torch.stack([zero, one], 1), away], 1)  # [B, 3, 2]
    (column, row), (right, down) = cell.long().unbind(1), side.long().unbind(1)
    right, down = (column + right).clamp(0, width - 1), (row + down).clamp(0, height - 1)
    solid = torch.stack([walls[row, right], walls[down, column], walls[down, right]], 1)  # [B, 3]
    gap = torch.cat([apart, corner.unsqueeze(1)], 1) - RADIUS
    flip = torch.stack([-side[:, 0], side[:, 1]], 1).unsqueeze(1)  # rows run down, y runs up
    return toward * flip, torch.where(solid, gap, torch.inf)


def constrained(free: Tensor, velocity: Tensor, normal: Tensor, gap: Tensor) -> Tensor:  # -> a [B, 2]
    """The minimiser of the convex problem above, by Newton steps on its active set: a 2 x 2 system each."""
    depth = (gap - MARGIN).clamp(max=0.0)  # r [B, 3]
    share = (depth.abs() / WIDTH).clamp(max=1.0)
    blend = torch.where(share < 0.5, 2.0 * share**2, 1.0 - 2.0 * (1.0 - share) ** 2)
    impedance = IMPEDANCE[0] + (IMPEDANCE[1] - IMPEDANCE[0]) * blend  # d [B, 3]
    asked = -RATE * (normal * velocity.unsqueeze(1)).sum(2) - STIFFNESS * impedance * depth  # b [B, 3]
    weight = torch.where(gap <= MARGIN, impedance / (1.0 - impedance), 0.0)  # kappa [B, 3]
    nx, ny = normal.unbind(2)
    ax, ay = free.unbind(1)
    for _ in range(ROUNDS):
        active = weight * (nx * ax.unsqueeze(1) + ny * ay.unsqueeze(1) < asked)
        xx, xy, yy = 1.0 + (active * nx * nx).sum(1), (active * nx * ny).sum(1), 1.0 + (active * ny * ny).sum(1)
        px, py = free[:, 0] + (active * asked * nx).sum(1), free[:, 1] + (active * asked * ny).sum(1)
        determinant = xx * yy - xy * xy
        ax, ay = (yy * px - xy * py) / determinant, (xx * py - xy * px) / determinant
    return torch.stack([ax, ay], 1)
