"""What the library is timed against: the same physics, written as a Gymnasium user would."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from rlcore.envs.control.lqr import ScalarLqrConfig

Array = NDArray[np.float64]
DEFAULT = ScalarLqrConfig()


class NumpyScalarLqr(gymnasium.Env[Array, Array]):
    """`ScalarLqr` for one path, in plain Python floats (float64), as fast as that goes.

    X' = X + (A X + B u) dt + (C X + D u) dW + sigma dB, reward -(M X^2 / 2 + R X u + N u^2 / 2 + P X + Q u) dt
    """

    def __init__(self, config: ScalarLqrConfig = DEFAULT) -> None:
        self.config = k = config
        self.observation_space = Box(-np.inf, np.inf, (1,), np.float64)
        self.action_space = Box(-k.action_bound, k.action_bound, (1,), np.float64)
        self.drift = (1.0 + k.A * k.dt, k.B * k.dt)
        root = math.sqrt(k.dt)
        self.noise = (k.C * root, k.D * root, k.sigma * root)
        self.last = math.inf if math.isinf(k.horizon) else round(k.horizon / k.dt)
        self.x, self.steps = 0.0, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        super().reset(seed=seed)
        self.normal = self.np_random.standard_normal
        self.x, self.steps = self.config.x0 + self.config.initial_sd * self.normal(), 0
        return np.array([self.x]), {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        k, x, u = self.config, self.x, float(action[0])
        reward = -(0.5 * k.M * x * x + k.R * x * u + 0.5 * k.N * u * u + k.P * x + k.Q * u) * k.dt
        (keep, push), (c, d, sigma) = self.drift, self.noise
        after = keep * x + push * u + (c * x + d * u) * self.normal()
        self.x = after + sigma * self.normal() if sigma else after
        self.steps += 1
        return np.array([self.x]), reward, False, self.steps >= self.last, {}
