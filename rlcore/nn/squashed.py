"""Actors on a box of actions, and the points in which averages over them are taken."""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from rlcore.checks import check_positive
from rlcore.errors import ConfigError


class Cloud(NamedTuple):
    """Weighted actions that stand for a policy's law at each row: E f(a) = sum_j weight_j f(action_j)."""

    action: Tensor  # [*, J, m]
    log_density: Tensor  # [*, J]; 0 for a deterministic policy
    weight: Tensor  # [J], sums to 1


class Actor(Protocol):
    """A policy that can be averaged over, differentiably in its parameters."""

    noise_dim: int

    def act(self, obs: Tensor, noise: Tensor | None) -> Tensor: ...  # [*, d], [*, m] -> [*, m]

    def cloud(self, obs: Tensor) -> Cloud: ...  # [*, d]


def gaussian_rule(dim: int, points: int) -> tuple[Tensor, Tensor]:
    """Nodes [J, dim] and weights [J] for averages over N(0, I).

    In one dimension Gauss-Hermite with `points` nodes, exact to degree 2 points - 1. In more dimensions the 2 dim
    points +-sqrt(dim) e_i, exact to degree 3 (Stroud, "Approximate calculation of multiple integrals", 1971).
    """
    if dim == 1:
        nodes, weights = np.polynomial.hermite_e.hermegauss(points)
        return torch.tensor(nodes).unsqueeze(1), torch.tensor(weights / weights.sum())
    axes = math.sqrt(dim) * torch.eye(dim, dtype=torch.float64)
    return torch.cat([axes, -axes]), torch.full((2 * dim,), 0.5 / dim, dtype=torch.float64)


class Box(nn.Module):
    """tanh onto [low, high]^m."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        if not -math.inf < low < high < math.inf:
            raise ConfigError(f"need finite low < high, got {low} and {high}")
        self.middle, self.extent = 0.5 * (low + high), 0.5 * (high - low)

    def forward(self, z: Tensor) -> Tensor:
        return self.middle + self.extent * torch.tanh(z)

    def to_unit(self, action: Tensor) -> Tensor:
        """[low, high] -> [-1, 1]."""
        return (action - self.middle) / self.extent

    def from_unit(self, unit: Tensor) -> Tensor:
        """[-1, 1] -> [low, high]."""
        return self.middle + self.extent * unit

    def log_slope(self, z: Tensor) -> Tensor:
        """log of the derivative: log half + log(1 - tanh(z)^2), without cancellation for large |z|."""
        return math.log(self.extent) + 2.0 * (math.log(2.0) - z - nn.functional.softplus(-2.0 * z))


class SquashedGaussian(nn.Module):
    """a = middle + half tanh(z), z ~ N(mean(x), scale(x)^2), components independent.

    `network` gives 2 m numbers per row. The log-scale is kept in (-5, 1), the mean in (-8, 8).
    """

    nodes: Tensor  # [J, m]
    weights: Tensor  # [J]

    def __init__(self, network: nn.Module, action_dim: int, low: float, high: float, *, points: int = 4) -> None:
        super().__init__()
        check_positive("points", points)
        self.network, self.box, self.noise_dim = network, Box(low, high), action_dim
        for name, value in zip(("nodes", "weights"), gaussian_rule(action_dim, points), strict=True):
            self.register_buffer(name, value.float())

    def law(self, obs: Tensor) -> tuple[Tensor, Tensor]:  # -> [*, m], [*, m]
        """Mean and scale before the tanh."""
        mean, spread = self.network(obs).chunk(2, dim=-1)
        return 8.0 * torch.tanh(mean / 8.0), torch.exp(-2.0 + 3.0 * torch.tanh(spread / 3.0 + 0.5))

    def act(self, obs: Tensor, noise: Tensor | None) -> Tensor:
        mean, scale = self.law(obs)
        return self.box(mean if noise is None else mean + scale * noise)  # type: ignore[no-any-return]

    def cloud(self, obs: Tensor) -> Cloud:
        mean, scale = (x.unsqueeze(-2) for x in self.law(obs))  # [*, 1, m]
        z = mean + scale * self.nodes
        normal = -0.5 * self.nodes**2 - torch.log(scale) - 0.5 * math.log(2.0 * math.pi)
        return Cloud(self.box(z), (normal - self.box.log_slope(z)).sum(-1), self.weights)


class SquashedFeedback(nn.Module):
    """a = middle + half z / sqrt(1 + z^2), z = network(x); exploration adds `exploration` half-widths times the noise.

    The slope falls like |z|^-3, where that of tanh falls like e^{-2|z|}: an actor driven to a corner of the box by a
    critic that knows nothing yet still feels which way to go back. Actions stay within the box.
    """

    def __init__(self, network: nn.Module, action_dim: int, low: float, high: float, *, exploration: float) -> None:
        super().__init__()
        check_positive("exploration", exploration)
        self.network, self.box = network, Box(low, high)
        self.noise_dim, self.exploration = action_dim, exploration

    def act(self, obs: Tensor, noise: Tensor | None) -> Tensor:
        z: Tensor = self.network(obs)
        middle, half = self.box.middle, self.box.extent
        action = middle + half * z * torch.rsqrt(1.0 + z * z)
        if noise is None:
            return action
        return (action + self.exploration * half * noise).clamp(middle - half, middle + half)

    def cloud(self, obs: Tensor) -> Cloud:
        action = self.act(obs, None).unsqueeze(-2)
        return Cloud(action, action.new_zeros(action.shape[:-1]), action.new_ones(1))
