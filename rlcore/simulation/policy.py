"""What the simulation asks of a policy: an action for an observation. Randomness comes in as data here too."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Policy(Protocol):
    """Anything that acts. `noise` is [B, noise_dim] standard normals; None asks for the deterministic action."""

    @property
    def noise_dim(self) -> int: ...

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor: ...  # [B, d] -> [B, m]


@dataclass(frozen=True)
class Feedback:
    """A deterministic feedback law u = law(obs) as a policy."""

    law: Callable[[Tensor], Tensor]  # [B, d] -> [B, m]
    noise_dim: int = 0

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        return self.law(obs)


@dataclass(frozen=True)
class GaussianFeedback:
    """A fixed Gaussian policy N(mean(obs), standard_deviation^2), independent in each component."""

    mean: Callable[[Tensor], Tensor]  # [B, d] -> [B, m]
    standard_deviation: float
    noise_dim: int

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        mean = self.mean(obs)
        return mean if noise is None else mean + self.standard_deviation * noise


@dataclass(frozen=True)
class UniformPolicy:
    """Uniform in the box [low, high]^m; its deterministic action is the middle."""

    low: float
    high: float
    noise_dim: int

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        if noise is None:
            return obs.new_full((obs.shape[0], self.noise_dim), 0.5 * (self.low + self.high))
        uniform = 0.5 * (1.0 + (noise * math.sqrt(0.5)).erf())
        return self.low + (self.high - self.low) * uniform


@dataclass(frozen=True)
class HeldNoise:
    """A policy whose noise is given."""

    policy: Policy
    noise: Tensor  # [B, m]
    noise_dim: int = 0

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        return self.policy.act(obs, noise=self.noise)
