"""A walk for MuJoCo's ant in any direction, as feedback: a controller without a clock and without a memory.

The ant has four legs, at angles theta_i = pi/4 + i pi/2 from its nose; each swings about the vertical at the hip and
bends at the ankle. A walk towards the angle alpha (from the nose) is a closed curve in the space of the joints,

    hip_i(phi)   = swing sin(alpha - theta_i) cos(phi_i)                                    [rad]
    ankle_i(phi) = bend + reach cos(alpha - theta_i) cos(phi_i + reach_lag) - lift max(0, sin(phi_i + lift_lag))

with phi_i = phi + i pi, a trot: opposite legs move together. The hip does what goes along the circle around the body,
the ankle what goes along the leg. The controller looks for the phase phi of the point of the curve nearest to the
joints as they are and pulls them, as a damped spring, to the point `lead` ahead of it:

    torque = stiffness (q(phi + lead) - q) - damping q',   clipped to [-1, 1]

So the action is a function of the observation, and a learner can imitate it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from rlcore.errors import ConfigError

PHASES = 64  # points of the curve that are compared
TO_ACTION = [6, 7, 0, 1, 2, 3, 4, 5]  # actuators begin with the fourth leg, joints with the first
DOWN = (1.0, -1.0, -1.0, 1.0)  # the sign in which an ankle bends down


@dataclass(frozen=True)
class AntGait:
    """The curve and the springs."""

    swing: float = 0.698
    """Amplitude of the hips [rad]."""
    bend: float = 0.819
    """Bend of the ankles in the middle [rad]."""
    reach: float = -0.165
    """Amplitude of the ankles of legs that point ahead or back [rad]."""
    reach_lag: float = -0.549
    """Phase of that motion before the hips [rad]."""
    lift: float = 0.647
    """How far an ankle is raised while its leg swings forward [rad]."""
    lift_lag: float = 2.149
    """Phase of that before the hips [rad]."""
    stiffness: float = 1.369
    """Torque per distance, in units of the largest torque [1/rad]."""
    damping: float = 0.113
    """The same per speed [s/rad]."""
    lead: float = 1.348
    """How far ahead of the joints their target is [rad]."""

    def __post_init__(self) -> None:
        for name, value in self.settings().items():
            if not math.isfinite(value):
                raise ConfigError(f"{name} must be finite, got {value}")

    def settings(self) -> dict[str, float]:
        """Every number by its name."""
        return {field.name: float(getattr(self, field.name)) for field in fields(self)}

    def vector(self) -> Tensor:  # [9]
        """Every number in order."""
        return torch.tensor(list(self.settings().values()), dtype=torch.float64)


def gait_of(vector: Tensor) -> AntGait:  # [9]
    """The inverse of `AntGait.vector`."""
    return AntGait(*vector.tolist())


def joints_at(gait: AntGait, phase: Tensor, direction: Tensor) -> Tensor:  # both [...] rad -> [..., 8] rad
    """The point of the curve at this phase: hip and ankle of leg 1, of leg 2, ...; `direction` is alpha."""
    leg = torch.arange(4, dtype=phase.dtype, device=phase.device)
    angle = direction.unsqueeze(-1) - (0.25 + 0.5 * leg) * math.pi  # [..., 4]
    phi = phase.unsqueeze(-1) + leg * math.pi
    hip = gait.swing * angle.sin() * phi.cos()
    raised = gait.lift * (phi + gait.lift_lag).sin().clamp(min=0.0)
    ankle = gait.bend + gait.reach * angle.cos() * (phi + gait.reach_lag).cos() - raised
    return torch.stack([hip, ankle * ankle.new_tensor(DOWN)], -1).flatten(-2)


def walk(gait: AntGait, body: Tensor, heading: Tensor) -> Tensor:  # [B, 27], [B] rad -> [B, 8]
    """Torques that walk towards `heading`, an angle from the x axis of the world.

    `body` is the ant's own observation without contact forces: height, orientation (w, x, y, z), 8 joints, velocity,
    angular velocity, 8 joint velocities.
    """
    w, x, y, z = body[:, 1:5].unbind(1)
    nose = torch.atan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z))  # [B] rad
    joints, velocity, direction = body[:, 5:13], body[:, 19:27], heading - nose
    phase = torch.arange(PHASES, dtype=body.dtype, device=body.device) * (2.0 * math.pi / PHASES)
    curve = joints_at(gait, phase, direction.unsqueeze(1))  # [B, PHASES, 8]
    nearest = phase[(curve - joints.unsqueeze(1)).square().sum(-1).argmin(1)]  # [B]
    target = joints_at(gait, nearest + gait.lead, direction)
    torque = gait.stiffness * (target - joints) - gait.damping * velocity
    return torque[:, TO_ACTION].clamp(-1.0, 1.0)
