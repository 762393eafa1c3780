"""The cart-pole as equations: settings, motion, costs and the linear-quadratic problem at upright."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rlcore.checks import check_not_negative, check_numbers, check_positive
from rlcore.errors import ConfigError
from rlcore.functional.linear_quadratic import Array, LqProblem


@dataclass(frozen=True)
class CartPoleConfig:
    """A uniform rod on a cart that a force drives along a rail; the defaults balance it."""

    gravity: float = 9.81
    """g [m/s^2]."""
    cart_mass: float = 1.0
    """M [kg]."""
    pole_mass: float = 0.1
    """m [kg], spread evenly along the rod."""
    length: float = 1.0
    """2 l [m], the whole rod."""
    max_force: float = 10.0
    """The drive saturates at +-this [N]."""
    force_noise: float = 0.0
    """varsigma [N sqrt(s)], intensity of white noise on the force; 0 gives an ordinary differential equation."""
    rail: float = math.inf
    """Springs push the cart back beyond +-this [m]; inf for no springs."""
    spring: float = 1000.0
    """Stiffness of those springs [N/m]."""
    position_cost: float = 1.0
    """Cost rate per squared position [1/(s m^2)]."""
    velocity_cost: float = 0.1
    """Cost rate per squared velocity [1/s per (m/s)^2]."""
    angle_cost: float = 10.0
    """Cost rate per 2 (1 - cos theta), which is theta^2 near upright [1/s]."""
    spin_cost: float = 0.1
    """Cost rate per squared angular velocity [1/s per (rad/s)^2]."""
    force_cost: float = 0.1
    """Cost rate per squared force [1/s per N^2]."""
    cost_bound: float = math.inf
    """What the cost rate of the state saturates at [1/s]; inf leaves it quadratic."""
    max_position: float = 2.4
    """An episode ends when the cart is farther from the middle than this [m]; inf for never."""
    max_angle: float = 0.5
    """An episode ends when the pole leans more than this [rad]; inf for never."""
    terminal_cost: float = 100.0
    """Paid once at such an end; more than the optimum costs anywhere inside, so that an end never pays."""
    start_angle: float = 0.0
    """Middle of the angles at the start [rad]; pi hangs."""
    start_spread: float = 0.1
    """Each component of the state starts uniformly in +-this around its middle [m, m/s, rad, rad/s]."""
    discount_rate: float = 0.5
    """beta [1/s]."""
    dt: float = 0.02
    """Control interval [s]."""
    horizon: float = 10.0
    """Length of an episode [s]; it truncates."""
    substeps: int = 2
    """Integrator steps per control interval."""

    def __post_init__(self) -> None:
        for name in ("gravity", "cart_mass", "pole_mass", "length", "max_force", "spring", "force_cost"):
            check_positive(name, getattr(self, name))
        for name in ("position_cost", "velocity_cost", "angle_cost", "spin_cost", "force_noise", "start_spread"):
            check_not_negative(name, getattr(self, name))
        check_not_negative("terminal_cost", self.terminal_cost)
        check_numbers("start_angle", self.start_angle)
        for name in ("rail", "cost_bound", "max_position", "max_angle"):
            if not getattr(self, name) > 0.0:
                raise ConfigError(f"{name} must be positive, or inf for none, got {getattr(self, name)}")

    def response(self, angle: Tensor) -> tuple[Tensor, Tensor]:
        """Accelerations of the cart [1/kg] and of the pole [1/(kg m)] per force on the cart."""
        half, total, cos = 0.5 * self.length, self.cart_mass + self.pole_mass, torch.cos(angle)
        pole = -cos / (half * (4.0 / 3.0 * total - self.pole_mass * cos**2))
        return (1.0 - self.pole_mass * half * cos * pole) / total, pole

    def accelerations(self, x: Tensor, force: Tensor) -> tuple[Tensor, Tensor]:  # [B, 4], [B] -> [B], [B]
        """x'' [m/s^2] and theta'' [rad/s^2].

        (M + m) x'' + m l (theta'' cos(theta) - theta'^2 sin(theta)) = u + spring force
        (4/3) l theta'' + x'' cos(theta) = g sin(theta)
        """
        position, angle, spin = x[:, 0], x[:, 2], x[:, 3]
        sin, per_cart, per_pole = torch.sin(angle), *self.response(angle)
        half = 0.5 * self.length
        push = self.saturate(force) + self.pole_mass * half * spin**2 * sin
        if math.isfinite(self.rail):
            push = push - self.spring * (position - position.clamp(-self.rail, self.rail))
        fall = 0.75 * self.gravity * sin / half  # theta'' if the cart stood still
        # the fall pushes the cart by -m l cos(theta) fall, and that cart's acceleration tilts the pole in turn
        push = push - self.pole_mass * half * torch.cos(angle) * fall
        return per_cart * push, fall + per_pole * push

    def cost_rate(self, x: Tensor, force: Tensor) -> Tensor:  # [B, 4], [B] -> [B]
        """c_bound (1 - exp(-q / c_bound)) + force_cost u^2 per second, q quadratic in the observation, u saturated."""
        position, velocity, angle, spin = x.unbind(1)
        q = self.position_cost * position**2 + self.velocity_cost * velocity**2 + self.spin_cost * spin**2
        q = q + 2.0 * self.angle_cost * (1.0 - torch.cos(angle))
        if math.isfinite(self.cost_bound):
            q = -self.cost_bound * torch.expm1(-q / self.cost_bound)
        return q + self.force_cost * self.saturate(force) ** 2

    def energy(self, x: Tensor) -> Tensor:  # [B, 4] -> [B]
        """Kinetic and potential energy, that of the springs included [J]; 0 upright at rest."""
        position, velocity, angle, spin = x.unbind(1)
        half, beyond = 0.5 * self.length, position - position.clamp(-self.rail, self.rail)
        motion = 0.5 * (self.cart_mass + self.pole_mass) * velocity**2 + 0.5 * self.spring * beyond**2
        turning = 2.0 / 3.0 * half * spin**2 + velocity * spin * torch.cos(angle)
        return motion + self.pole_mass * half * (turning - self.gravity * (1.0 - torch.cos(angle)))

    def saturate(self, force: Tensor) -> Tensor:
        """The force that the drive delivers."""
        return force.clamp(-self.max_force, self.max_force)

    def linearised(self) -> LqProblem:
        """The problem to first order in the motion and second order in the cost, at rest upright in the middle.

        With T = M + m and d = l (4/3 - m / T):
        x'' = (u - m l theta'') / T,  theta'' = (g theta - u / T) / d,  cost rate q + force_cost u^2.
        """
        half, total = 0.5 * self.length, self.cart_mass + self.pole_mass
        d, coupling = half * (4.0 / 3.0 - self.pole_mass / total), self.pole_mass * half / total
        A, B = np.zeros((4, 4)), np.zeros((4, 1))
        A[0, 1] = A[2, 3] = 1.0
        A[1, 2], A[3, 2] = -coupling * self.gravity / d, self.gravity / d
        B[1, 0], B[3, 0] = (1.0 + coupling / d) / total, -1.0 / (total * d)
        costs: Array = np.diag([self.position_cost, self.velocity_cost, self.angle_cost, self.spin_cost])
        none = np.zeros
        return LqProblem(
            A=A,
            B=B,
            C=none((1, 4, 4)),
            D=none((1, 4, 1)),
            sigma=self.force_noise * B,
            M=2.0 * costs,
            N=np.array([[2.0 * self.force_cost]]),
            R=none((1, 4)),
            P=none(4),
            Q=none(1),
            discount_rate=self.discount_rate,
        )


CART_POLE_BALANCE = CartPoleConfig()
"""Keep a leaning pole from falling, on a rail that ends; quadratic costs."""
CART_POLE_SWING_UP = CartPoleConfig(
    rail=2.4,
    position_cost=0.1,
    velocity_cost=0.01,
    angle_cost=1.0,
    spin_cost=0.01,
    force_cost=0.01,
    cost_bound=4.0,
    max_position=math.inf,
    max_angle=math.inf,
    start_angle=math.pi,
)
"""Swing a hanging pole up and hold it: springs end the rail, and costs saturate, a tenth of the above near upright."""
