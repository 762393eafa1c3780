"""A Gaussian policy whose mean is any module and whose log-variance is a parameter of its own."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from rlcore.errors import ConfigError


class Gaussian(nn.Module):
    """pi(. | x) = N(mean(x), diag exp(s)), s a parameter [m]."""

    def __init__(self, mean: nn.Module, action_dim: int, *, log_variance: float = 0.0) -> None:
        super().__init__()
        if not math.isfinite(log_variance):
            raise ConfigError(f"log_variance must be a finite number, got {log_variance}; 0 is a variance of 1")
        self.mean = mean  # [*, d] -> [*, m]
        self.log_variance = nn.Parameter(torch.full((action_dim,), log_variance))  # s
        self.noise_dim = action_dim

    @property
    def variance(self) -> Tensor:  # [m]
        return torch.exp(self.log_variance)

    def act(self, obs: Tensor, noise: Tensor | None) -> Tensor:  # [*, d], [*, m] -> [*, m]
        mean: Tensor = self.mean(obs)
        return mean if noise is None else mean + torch.exp(0.5 * self.log_variance) * noise

    def log_prob(self, obs: Tensor, action: Tensor) -> Tensor:  # [*, d], [*, m] -> [*]
        squares: Tensor = (action - self.mean(obs)) ** 2 * torch.exp(-self.log_variance)
        return -0.5 * (squares + self.log_variance + math.log(2.0 * math.pi)).sum(-1)

    def entropy(self) -> Tensor:  # []
        """The same at every state."""
        return 0.5 * (self.log_variance + math.log(2.0 * math.pi * math.e)).sum()
