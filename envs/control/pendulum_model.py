"""The torque-limited pendulum as equations, shared by the environment and by the solver of its HJB equation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rlcore.checks import check_not_negative, check_positive


@dataclass(frozen=True)
class PendulumConfig:
    """A uniform rod on a motor too weak to lift it in one go."""

    gravity: float = 10.0
    """g [m/s^2]."""
    mass: float = 1.0
    """m [kg]."""
    length: float = 1.0
    """l [m]."""
    max_torque: float = 2.0
    """The motor saturates at +-this [N m]."""
    max_speed: float = 8.0
    """The angular speed is kept in +-this [rad/s]."""
    angle_cost: float = 1.0
    """Cost rate per squared angle [1/(s rad^2)]."""
    speed_cost: float = 0.1
    """Cost rate per squared angular speed [1/s per (rad/s)^2]."""
    torque_cost: float = 0.001
    """Cost rate per squared torque [1/s per (N m)^2]."""
    torque_noise: float = 0.0
    """Intensity of white noise on the torque [N m sqrt(s)]; 0 gives an ordinary differential equation."""
    discount_rate: float = 1.0
    """beta [1/s]."""
    dt: float = 0.05
    """Control interval [s]."""
    horizon: float = 10.0
    """Length of an episode [s]; it truncates."""
    substeps: int = 2
    """Integrator steps per control interval."""

    def __post_init__(self) -> None:
        for name in ("gravity", "mass", "length", "max_torque", "max_speed"):
            check_positive(name, getattr(self, name))
        for name in ("angle_cost", "speed_cost", "torque_cost", "torque_noise"):
            check_not_negative(name, getattr(self, name))

    @property
    def gravity_gain(self) -> float:
        """3g / 2l [1/s^2], 15 by default."""
        return 1.5 * self.gravity / self.length

    @property
    def torque_gain(self) -> float:
        """3 / (m l^2) [1/(kg m^2)], 3 by default."""
        return 3.0 / (self.mass * self.length**2)

    def acceleration(self, angle: Tensor, torque: Tensor) -> Tensor:
        """theta'' = (3g / 2l) sin(theta) + 3 / (m l^2) u, with u saturated; rad/s^2."""
        return self.gravity_gain * torch.sin(angle) + self.torque_gain * self.saturate(torque)

    def cost_rate(self, angle: Tensor, speed: Tensor, torque: Tensor) -> Tensor:
        """theta^2 + 0.1 theta'^2 + 0.001 u^2 per second, with theta wrapped, theta' limited and u saturated."""
        wrapped, limited, spent = wrap(angle), self.limit(speed), self.saturate(torque)
        return self.angle_cost * wrapped**2 + self.speed_cost * limited**2 + self.torque_cost * spent**2

    def limit(self, speed: Tensor) -> Tensor:
        """The speed, kept in +-max_speed."""
        return speed.clamp(-self.max_speed, self.max_speed)

    def saturate(self, torque: Tensor) -> Tensor:
        """The torque that the motor delivers."""
        return torque.clamp(-self.max_torque, self.max_torque)


def wrap(angle: Tensor) -> Tensor:
    """The same angle in [-pi, pi]."""
    return angle - (2.0 * math.pi) * torch.round(angle * (0.5 / math.pi))
