"""The tanh-Gaussian policies of S independent seeds, on the unit box [-1, 1]^m.

    u = tanh(z),  z ~ N(mean(x), scale(x)^2),   log pi(u | x) = log N(z) - sum log(1 - tanh(z)^2)

Source: Haarnoja et al., "Soft actor-critic algorithms and applications", 2018, appendix C.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from rlcore.nn.ensemble import Ensemble, Layers
from rlcore.nn.squashed import Box

LOG_SCALE = (math.log(1e-5), math.log(10.0))
INSIDE = 1.0 - 1e-5  # actions are brought here before the inverse of tanh, which is infinite on the border
UNIT = Box(-1.0, 1.0)


class TanhGaussian(nn.Module):
    """Mean and log-scale from one network per seed; the log-scale is a vector of its own if not `state_dependent`."""

    def __init__(
        self,
        seeds: int,
        observation_dim: int,
        action_dim: int,
        layers: Layers,
        *,
        generator: torch.Generator,
        state_dependent: bool = True,
    ) -> None:
        super().__init__()
        outputs = 2 * action_dim if state_dependent else action_dim
        self.network = Ensemble(seeds, 1, observation_dim, outputs, layers, generator=generator)
        self.log_scale = None if state_dependent else nn.Parameter(torch.zeros(seeds, 1, action_dim))

    def law(self, obs: Tensor) -> tuple[Tensor, Tensor]:  # [S, N, d] -> [S, N, m] twice
        """Mean and log-scale before the tanh."""
        found = self.network(obs).squeeze(1)
        mean, log_scale = (found, self.log_scale.expand_as(found)) if self.log_scale is not None else found.chunk(2, -1)
        return mean, log_scale.clamp(*LOG_SCALE)

    def mode(self, obs: Tensor) -> Tensor:  # [S, N, d] -> [S, N, m]
        """tanh of the mean."""
        return torch.tanh(self.law(obs)[0])

    def sample(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:  # [S, N, d], [S, N, m] -> [S, N, m], [S, N]
        """Actions and their log-density, differentiable in the parameters."""
        return squash(*self.law(obs), noise)

    def log_prob(self, obs: Tensor, unit: Tensor) -> Tensor:  # [S, N, d], [S, N, m] -> [S, N]
        """log pi of given actions, those on the border brought inside."""
        mean, log_scale = self.law(obs)
        z = torch.atanh(unit.clamp(-INSIDE, INSIDE))
        return log_density((z - mean) * torch.exp(-log_scale), log_scale, z)


def squash(mean: Tensor, log_scale: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:  # [..., m] -> [..., m], [...]
    """u = tanh(mean + scale noise) and log pi(u)."""
    z = mean + torch.exp(log_scale) * noise
    return torch.tanh(z), log_density(noise, log_scale, z)


def log_density(noise: Tensor, log_scale: Tensor, z: Tensor) -> Tensor:  # [..., m] -> [...]
    """log pi of tanh(z) with z = mean + scale noise; log(1 - tanh^2) without cancellation."""
    return (-0.5 * noise**2 - log_scale - 0.5 * math.log(2.0 * math.pi) - UNIT.log_slope(z)).sum(-1)
