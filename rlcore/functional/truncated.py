"""The normal law restricted to a box, in forms that stay accurate far in its tails."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def log_mass(low: Tensor, high: Tensor) -> Tensor:  # [*], [*] -> [*]
    """log P(low < Z < high) of a standard normal Z, for low < high."""
    flip = low > 0  # by symmetry the interval is moved to the left half, where the logarithm of the cdf is accurate
    left, right = torch.where(flip, -high, low), torch.where(flip, -low, high)
    log_right: Tensor = torch.special.log_ndtr(right)
    log_left: Tensor = torch.special.log_ndtr(left)
    return log_right + torch.log1p(-torch.exp(log_left - log_right))


def log_density(action: Tensor, mean: Tensor, scale: Tensor, low: float, high: float) -> Tensor:  # [*, m] -> [*]
    """Log density of N(mean, scale^2) restricted to the box [low, high]^m, independent components."""
    z = (action - mean) / scale
    normaliser = (
        torch.log(scale) + 0.5 * math.log(2.0 * math.pi) + log_mass((low - mean) / scale, (high - mean) / scale)
    )
    return (-0.5 * z * z - normaliser).sum(-1)


def sample(noise: Tensor, mean: Tensor, scale: Tensor, low: float, high: float) -> Tensor:  # [*, m] -> [*, m]
    """Carry standard normals to the restricted law by inverting its distribution function, in float64."""
    uniform = torch.special.ndtr(noise.double())
    lower, upper = ((low - mean) / scale).double(), ((high - mean) / scale).double()
    flip = lower > 0
    left, right = torch.where(flip, -upper, lower), torch.where(flip, -lower, upper)
    mass_left, mass_right = torch.special.ndtr(left), torch.special.ndtr(right)
    z = torch.special.ndtri(mass_left + torch.where(flip, 1.0 - uniform, uniform) * (mass_right - mass_left))
    z = torch.where(flip, -z, z)
    return (mean + scale * z.to(mean.dtype)).clamp(low, high)
