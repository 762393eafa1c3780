"""Controllers of `Glucose` to begin with: a PID controller and constant rates."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlcore.envs.hacking.glucose import FULL_RATE, HISTORY, MEMORY, MOST, Glucose
from rlcore.errors import ConfigError


@dataclass(frozen=True)
class PidPolicy:
    """PID on the sensor's error e = CGM - 120, per reading of 5 min, with the noise of the published base policy.

    u = proportional e + integral sum e + derivative (e - e_before) + noise z  [U/min]
    """

    basal: float
    """Basal rate of the patient [U/min]."""
    proportional: float = 1e-4
    """[U/min per mg/dL]."""
    integral: float = 5e-7
    """[U/min per mg/dL and reading]."""
    derivative: float = 1e-2
    """[U/min per mg/dL of change between two readings]."""
    noise: float = 0.003
    """Standard deviation [U/min]."""
    noise_dim: int = 1

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:  # [B, 97] -> [B, 1]
        now, before, total = 100.0 * obs[:, HISTORY - 1], 100.0 * obs[:, HISTORY - 2], MEMORY * obs[:, -1]
        rate = self.proportional * (now - 20.0) + self.integral * total + self.derivative * (now - before)
        if noise is not None:
            rate = rate + self.noise * noise[:, 0]
        return (rate / (FULL_RATE * self.basal)).clamp(0.0, MOST).unsqueeze(1)


def pid(env: Glucose) -> PidPolicy:
    """The published base controller for an environment of one patient, with 5 min between readings."""
    if len(env.patients) != 1 or env.config.dt != 5.0:
        raise ConfigError(
            f"the published PID gains are for one patient and dt = 5 min, got {len(env.patients)} patients and "
            f"{env.config.dt} min; construct PidPolicy with gains of your own"
        )
    x = env.initial_state(torch.zeros(1, env.spec.initial_noise_dim, dtype=env.dtype, device=env.device)).x
    return PidPolicy(basal=float(env.basal(x)))
