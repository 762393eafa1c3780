"""Gymnasium's Pendulum-v1 as one of our environments: the physics that all peers share, which ours does not."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rlcore.envs.control.pendulum_model import PendulumConfig, wrap
from rlcore.simulation import ControlSpec, Environment, EnvState

MODEL = PendulumConfig()


class GymPendulum(Environment):
    """omega' = clip(omega + (15 sin(theta) + 3 u) dt, +-8), theta' = theta + omega' dt; undiscounted costs before it.

    `rlcore/Pendulum-v0` has the same constants, but integrates by Rk4 and pays a rate.
    """

    def __init__(self) -> None:
        spec = ControlSpec(
            name="Pendulum-v1",
            state_dim=2,
            action_dim=1,
            noise_dim=0,
            dt=MODEL.dt,
            horizon=MODEL.horizon,
            discount_rate=0.0,
            action_low=-MODEL.max_torque,
            action_high=MODEL.max_torque,
            observation_dim=3,
        )
        super().__init__(spec)
        self.dt = torch.tensor(MODEL.dt, dtype=torch.float64)

    def initial_state(self, noise: Tensor) -> EnvState:
        uniform = torch.erf(noise * 0.5**0.5)  # in (-1, 1)
        t = torch.zeros(noise.shape[0], dtype=torch.float64)
        return EnvState(t, torch.stack([math.pi * uniform[:, 0], uniform[:, 1]], dim=1))

    def transition(self, state: EnvState, action: Tensor, noise: Tensor) -> tuple[EnvState, Tensor]:
        angle, speed = state.x.unbind(1)
        torque = MODEL.saturate(action[:, 0])
        reward = -(angle**2 + 0.1 * speed**2 + 0.001 * torque**2)  # the angle is kept in [-pi, pi]
        speed = MODEL.limit(torch.add(speed, MODEL.acceleration(angle, torque), alpha=MODEL.dt))
        angle = wrap(torch.add(angle, speed, alpha=MODEL.dt))
        return EnvState(state.t + self.dt, torch.stack([angle, speed], dim=1)), reward

    def observe(self, state: EnvState) -> Tensor:
        angle, speed = state.x.unbind(1)
        return torch.stack([torch.cos(angle), torch.sin(angle), speed], dim=1)
