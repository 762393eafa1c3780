"""Samples of the Ornstein-Uhlenbeck process whose moments are those of its law: fixed points without sampling noise."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from scipy.stats import qmc
from torch import Tensor

from rlcore.checks import check_positive
from rlcore.data import Trajectory
from rlcore.envs.control.ornstein_uhlenbeck import OrnsteinUhlenbeck, OrnsteinUhlenbeckConfig


def squares(x: Tensor) -> Tensor:  # [..., 1] -> [..., 2]
    """(x^2, 1), the features that span the value."""
    return torch.cat([x**2, torch.ones_like(x)], dim=-1)


def path(kappa: float, sigma: float, dts: Sequence[float], z: Tensor) -> Trajectory:  # z [N, K+1]
    """Stationary paths at uneven times, driven by the given standard normals; reward x^2 dt at the left end."""
    states = [math.sqrt(0.5 * sigma**2 / kappa) * z[:, :1]]
    for k, dt in enumerate(dts):
        spread = sigma * math.sqrt(-math.expm1(-2.0 * kappa * dt) / (2.0 * kappa))
        states.append(math.exp(-kappa * dt) * states[-1] + spread * z[:, k + 1 : k + 2])
    obs = torch.stack(states)  # [K+1, N, 1]
    steps = torch.tensor(dts, dtype=z.dtype)
    time = torch.cat([torch.zeros(1, dtype=z.dtype), steps.cumsum(0)])
    reward = obs[:-1, :, 0] ** 2 * steps.unsqueeze(1)
    return Trajectory(time, obs, torch.zeros_like(obs[1:]), reward, steps, torch.zeros_like(reward, dtype=torch.bool))


def gaussian_steps(kappa: float, sigma: float, dts: Sequence[float]) -> Trajectory:
    """6^(K+1) paths over K steps whose moments are exact up to the fifth degree in each of the K+1 normals.

    The six levels -sqrt 3, 0, 0, 0, 0, sqrt 3 are Gauss and Hermite's three-point rule in equal weights.
    """
    for dt in dts:
        check_positive("dt", dt, "s")
    levels = math.sqrt(3.0) * torch.tensor([-1.0, 0.0, 0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    index = torch.tensor(list(itertools.product(range(6), repeat=len(dts) + 1)))
    return path(kappa, sigma, dts, levels[index])


def balanced_steps(dt: float, exponent: int = 18) -> Trajectory:
    """One step from each of 2^exponent quasi-random stationary states, with quasi-random noise, each in both signs."""
    config = OrnsteinUhlenbeck(OrnsteinUhlenbeckConfig(dt=dt)).config
    uniform = torch.as_tensor(qmc.Sobol(2, seed=0).random_base2(exponent))
    z = torch.special.ndtri(uniform.clamp(1e-12, 1.0 - 1e-12))
    z = torch.cat([z, z * z.new_tensor([1.0, -1.0])])  # every state with both signs of its noise
    return path(config.kappa, config.sigma, [dt], z / z.square().mean(0).sqrt())
