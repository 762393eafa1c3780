"""The optimal cost of the pendulum: a semi-Lagrangian solution of its Hamilton-Jacobi-Bellman equation on a grid.

    beta V(x) = min_u [ c(x, u) + f(x, u) . grad V(x) ],   x = (theta, theta')

is discretised along characteristics of length h by the midpoint rule,

    V(x) = min_u [ (1 - exp(-beta h)) / beta  c(x_1/2, u) + exp(-beta h) V(x_1) ],
    x_1/2 = x + h/2 f(x, u),   x_1 = x + h f(x_1/2, u),

with V bilinear between the nodes, periodic in the angle, and solved by modified policy iteration: a greedy sweep, then
many sweeps that keep its torques. Source: Falcone and Ferretti, Semi-Lagrangian Approximation Schemes for Linear and
Hamilton-Jacobi Equations, SIAM 2014, chapter 8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from rlcore.checks import check_positive
from rlcore.envs.control.pendulum_model import PendulumConfig, wrap
from rlcore.errors import ConfigError, NumericsError

STEP_AT_121 = 0.04  # s; the step shrinks with the spacing of the nodes, as the scheme's error bound asks


@dataclass(frozen=True, eq=False)
class PendulumValue:
    """Optimal cost and torque, from the values at the nodes of a grid. Angles [rad] of any turn, speeds [rad/s]."""

    config: PendulumConfig
    nodes: Tensor  # [P, Q] cost at angle -pi + i 2 pi / P, speed -max_speed + j 2 max_speed / (Q - 1)
    torques: Tensor  # [A] N m
    step: float  # h, s

    def value(self, angle: Tensor, speed: Tensor) -> Tensor:
        """V at any points of one shape."""
        index, weight = corners(self.config, self.nodes.shape, angle.to(self.nodes), speed.to(self.nodes))
        return (weight * self.nodes.flatten()[index]).sum(0).to(angle)

    def policy(self, angle: Tensor, speed: Tensor) -> Tensor:
        """The torque that minimises the discretised right-hand side, one step ahead."""
        cost, index, weight = lookahead(
            self.config, self.nodes.shape, self.torques, self.step, angle.to(self.nodes), speed.to(self.nodes)
        )
        best = (cost + (weight * self.nodes.flatten()[index]).sum(0)).argmin(0)
        return self.torques[best].to(angle)


def corners(config: PendulumConfig, shape: torch.Size, angle: Tensor, speed: Tensor) -> tuple[Tensor, Tensor]:
    """Flat indices and weights [4, ...] of the bilinear interpolation at points of any one shape."""
    p, q = shape
    i = (angle + math.pi) * (p / (2.0 * math.pi))
    j = (config.limit(speed) / config.max_speed + 1.0) * (0.5 * (q - 1))
    i0, j0 = i.floor(), j.floor().clamp(max=q - 2)
    a, b = i - i0, j - j0
    left, low = i0.long() % p, j0.long()
    right = (left + 1) % p
    index = torch.stack([left * q + low, left * q + low + 1, right * q + low, right * q + low + 1])
    return index, torch.stack([(1 - a) * (1 - b), (1 - a) * b, a * (1 - b), a * b])


def lookahead(
    config: PendulumConfig, shape: torch.Size, torques: Tensor, h: float, angle: Tensor, speed: Tensor
) -> tuple[Tensor, Tensor, Tensor]:  # [A, ...], [4, A, ...], [4, A, ...]
    """Cost over h of each torque, and where it leads: indices and discounted weights of the nodes around."""
    u, beta = torques.view(-1, *[1] * angle.dim()), config.discount_rate
    mid_angle = angle + 0.5 * h * speed + torch.zeros_like(u)
    mid_speed = config.limit(speed + 0.5 * h * config.acceleration(angle, u))
    end_speed = config.limit(speed + h * config.acceleration(mid_angle, u))
    index, weight = corners(config, shape, angle + h * mid_speed, end_speed)
    cost = -math.expm1(-beta * h) / beta * config.cost_rate(mid_angle, mid_speed, u)
    return cost, index, math.exp(-beta * h) * weight


@lru_cache(maxsize=4)
def solve(
    config: PendulumConfig = PendulumConfig(),  # noqa: B008, frozen
    cells: int = 121,
    dt: float | None = None,
    *,
    actions: int = 9,
    tolerance: float = 1e-5,
    max_sweeps: int = 2000,
) -> PendulumValue:
    """V on a grid of `cells` nodes per axis (both ends of each counted), to `tolerance` from the scheme's fixed point.

    `dt` is h [s]; by default 0.04 s at 121 nodes and in proportion to the spacing. Raises `NumericsError` if
    `max_sweeps` greedy sweeps do not reach the tolerance.
    """
    check_positive("discount_rate", config.discount_rate, "1/s")
    if config.torque_noise:
        raise ConfigError(f"the HJB solver needs torque_noise = 0, got {config.torque_noise}")
    if cells < 3 or actions < 2:
        raise ConfigError(f"need cells >= 3 and actions >= 2, got {cells} and {actions}")
    h = STEP_AT_121 * 120 / (cells - 1) if dt is None else dt
    check_positive("dt", h, "s")
    p, q = cells - 1, cells  # -pi and pi are one node
    angle = wrap(-math.pi + torch.arange(p, dtype=torch.float64) * (2.0 * math.pi / p))
    speed = torch.linspace(-config.max_speed, config.max_speed, q, dtype=torch.float64)
    angles, speeds = (grid.flatten() for grid in torch.meshgrid(angle, speed, indexing="ij"))
    torques = torch.linspace(-config.max_torque, config.max_torque, actions, dtype=torch.float64)
    shape = torch.Size((p, q))
    cost, index, weight = lookahead(config, shape, torques, h, angles, speeds)
    node = torch.arange(p * q)
    sweeps = math.ceil(1.0 / (config.discount_rate * h))  # about one discounting time per evaluation
    value = torch.zeros(p * q, dtype=torch.float64)
    gap = tolerance * -math.expm1(-config.discount_rate * h)  # a change of this bounds the error by the tolerance
    for _ in range(max_sweeps):
        greedy, best = (cost + (weight * value[index]).sum(0)).min(0)
        change = float((greedy - value).abs().max())
        value = greedy
        if change <= gap:
            return PendulumValue(config, value.view(p, q), torques, h)
        chosen_cost, chosen_index, chosen_weight = cost[best, node], index[:, best, node], weight[:, best, node]
        for _ in range(sweeps):
            value = chosen_cost + (chosen_weight * value[chosen_index]).sum(0)
    raise NumericsError(f"the HJB sweeps must change V by at most {gap:.1e}, got {change:.1e}; raise max_sweeps")
