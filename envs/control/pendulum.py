"""Swing-up of a torque-limited pendulum in continuous time."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlcore.envs.control.drawing import draw_pendulum
from rlcore.envs.control.pendulum_hjb import solve
from rlcore.envs.control.pendulum_model import PendulumConfig, wrap
from rlcore.simulation.environment import ControlledDiffusion, ControlSpec, EnvState
from rlcore.simulation.integrators import Heun, Rk4
from rlcore.simulation.policy import Feedback

__all__ = ["Pendulum", "PendulumConfig"]


class Pendulum(ControlledDiffusion):
    """Swing a rod up and hold it there, with a motor too weak to do it in one go.

        theta'' = 15 sin(theta) + 3 u,   theta = 0 upright,   d theta' = theta'' dt + 3 varsigma dW

    Observation
    | # | quantity      | range     | unit  |
    |---|---------------|-----------|-------|
    | 0 | cos(theta)    | [-1, 1]   | 1     |
    | 1 | sin(theta)    | [-1, 1]   | 1     |
    | 2 | theta'        | [-8, 8]   | rad/s |

    Action
    | # | quantity      | range     | unit  |
    |---|---------------|-----------|-------|
    | 0 | torque u      | [-2, 2]   | N m   |

    The motor saturates: a larger torque acts, and costs, as the largest. The speed is kept in its range, and the angle
    of the state (theta, theta') in [-pi, pi]. Positive is anticlockwise.

    Reward: the rate -(theta^2 + 0.1 theta'^2 + 0.001 u^2) per second, discounted at beta = 1 per second.
    Start: theta uniform in (-pi, pi), theta' uniform in (-1, 1) rad/s.
    End: never terminates; truncated after 10 s. The control interval is 0.05 s. With torque noise varsigma = 0, the
    default, the motion is deterministic and integrated by Rk4, otherwise by Heun.
    Known answer: `optimal_value`, from the HJB equation on a grid; -6.75 hanging at rest, -3.73 level at rest.

    Source: Doya, "Reinforcement learning in continuous time and space", Neural Computation 12, 2000; constants of
    Gymnasium's Pendulum-v1.
    """

    def __init__(
        self,
        config: PendulumConfig = PendulumConfig(),  # noqa: B008, frozen
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        spec = ControlSpec(
            name="rlcore/Pendulum-v0",
            state_dim=2,
            action_dim=1,
            noise_dim=1 if config.torque_noise else 0,
            dt=config.dt,
            horizon=config.horizon,
            discount_rate=config.discount_rate,
            action_low=-config.max_torque,
            action_high=config.max_torque,
            observation_dim=3,
        )
        integrator = Heun(config.substeps) if config.torque_noise else Rk4(config.substeps)
        super().__init__(spec, integrator, dtype=dtype, device=device)
        self.config = config

    def initial_state(self, noise: Tensor) -> EnvState:
        uniform = torch.erf(noise * 0.5**0.5)  # in (-1, 1)
        t = torch.zeros(noise.shape[0], dtype=torch.float64, device=noise.device)
        return EnvState(t, torch.stack([math.pi * uniform[:, 0], uniform[:, 1]], dim=1))

    def drift(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:
        angle, speed = x[:, 0], x[:, 1]
        return torch.stack([self.config.limit(speed), self.config.acceleration(angle, u[:, 0])], dim=1)

    def diffusion(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:
        sigma = x.new_zeros(*x.shape, self.spec.noise_dim)
        sigma[:, 1] = self.config.torque_gain * self.config.torque_noise
        return sigma

    def reward_rate(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:
        return -self.config.cost_rate(x[:, 0], x[:, 1], u[:, 0])

    def transition(self, state: EnvState, action: Tensor, noise: Tensor) -> tuple[EnvState, Tensor]:
        (t, x), reward = super().transition(state, action, noise)
        return EnvState(t, torch.stack([wrap(x[:, 0]), self.config.limit(x[:, 1])], dim=1)), reward

    def observe(self, state: EnvState) -> Tensor:
        angle, speed = state.x[:, 0], state.x[:, 1]
        return torch.stack([torch.cos(angle), torch.sin(angle), speed], dim=1)

    def optimal_value(self, angle: Tensor, speed: Tensor, *, cells: int = 241) -> Tensor:
        """Largest discounted reward from (theta [rad], theta' [rad/s]), continuous control, no noise, infinite horizon.

        Within 1 % when hanging and 0.1 % elsewhere. The grid is solved at the first call, in about a second, and kept.
        """
        return -solve(self.config, cells).value(angle, speed)

    def optimal_policy(self, *, cells: int = 241) -> Feedback:
        """The bang-bang-like feedback that is greedy for `optimal_value`."""
        solution = solve(self.config, cells)
        return Feedback(lambda obs: solution.policy(torch.atan2(obs[:, 1], obs[:, 0]), obs[:, 2]).unsqueeze(1))

    def render(self, state: EnvState) -> NDArray[np.uint8]:  # [400, 400, 3]
        """Picture of row 0: the rod, where it should stand, and a trail as long as the way of the last 0.15 s."""
        angle, speed = state.x[0].tolist()
        return draw_pendulum(angle, trail=0.15 * speed)
