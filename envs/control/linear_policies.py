"""Linear Gaussian policies: the exact optima of the linear-quadratic problems."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rlcore.functional.linear_quadratic import Array


@dataclass(frozen=True, eq=False)
class LinearGaussian:
    """The policy N(gain x + offset, root root') as tensors; satisfies `Policy`."""

    gain: Tensor  # [m, n]
    offset: Tensor  # [m]
    root: Tensor  # [m, m]

    @property
    def noise_dim(self) -> int:
        return self.root.shape[0]

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:  # [B, n] -> [B, m]
        mean = obs @ self.gain.T + self.offset
        return mean if noise is None else mean + noise @ self.root.T


@dataclass(frozen=True, eq=False)
class ScheduledGaussian:
    """A linear Gaussian policy for each control step, found by the remaining time in the observation (x, T - t)."""

    gain: Tensor  # [K, m, n]
    offset: Tensor  # [K, m]
    root: Tensor  # [K, m, m]
    dt: float

    @property
    def noise_dim(self) -> int:
        return self.root.shape[-1]

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:  # [B, n + 1] -> [B, m]
        last = len(self.gain) - 1
        k = (last + 1 - torch.round(obs[:, -1] / self.dt)).long().clamp(0, last)
        mean = (self.gain[k] @ obs[:, :-1, None])[..., 0] + self.offset[k]
        return mean if noise is None else mean + (self.root[k] @ noise[..., None])[..., 0]


def square_root(covariance: Array) -> Array:
    """L with L L' = covariance, also for covariance 0."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.clip(values, 0.0, None)))
