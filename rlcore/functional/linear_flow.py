"""States of linear systems at even times, to rounding, for whole batches of systems and initial states.

    dx = A x dt:   x(k h) = E^k x(0),   E = exp(A h)

The number of operations depends on shapes alone, never on numbers, so nothing waits for the CPU, and a GPU can capture
the whole.
Source: Moler and Van Loan, SIAM Review 45, 2003, method 3, for scaling and squaring.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rlcore.errors import ConfigError, ShapeError

DEGREE = 15
"""Of the Taylor polynomial: at a norm of 1/2 the next term is below 3e-17."""
SQUARINGS = 16
"""Norms up to 2^15 are scaled to 1/2; the exponential of a larger matrix is NaN."""


def matrix_exponential(a: Tensor, squarings: int = SQUARINGS) -> Tensor:  # [..., n, n] -> [..., n, n]
    """exp(A) by scaling, Taylor's polynomial and squaring; NaN for a 1-norm above 2^(squarings - 1)."""
    scale = torch.ceil(torch.log2(a.abs().sum(-2).amax(-1).clamp(min=0.5))) + 1.0  # [...], 0 or more
    unit = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    powers = [unit, a * torch.exp2(-scale)[..., None, None]]  # 1, A, A^2, A^3, and A^4 for Horner's scheme
    for _ in range(3):
        powers.append(powers[-1] @ powers[1])
    found = torch.zeros_like(a)
    for low in range(DEGREE - 3, -1, -4):
        part = sum(power / math.factorial(low + k) for k, power in enumerate(powers[:4]))
        found = found @ powers[4] + part
    for k in range(squarings):
        found = torch.where((k < scale)[..., None, None], found @ found, found)
    return torch.where((scale <= squarings)[..., None, None], found, math.nan)


def linear_flow(a: Tensor, start: Tensor, step: float | Tensor, count: int, squarings: int = SQUARINGS) -> Tensor:
    """x(0), x(h), ..., x((count - 1) h) of dx = A x dt: [..., n, n], [..., S, n] -> [..., count, S, n].

    `step` is h in seconds, a number or one for each system [...]; |A| h may reach 2^(squarings - 1). The powers of E
    are doubled, and then meet all starts in one product, which leaves the components of the state outermost in memory.
    """
    if a.ndim < 2 or start.ndim < 2 or {a.shape[-2], start.shape[-1]} != {a.shape[-1]}:
        raise ShapeError(f"A must be [..., n, n] and the starts [..., S, n], got {list(a.shape)}, {list(start.shape)}")
    if count < 1:
        raise ConfigError(f"count must be at least 1, got {count}")
    n = a.shape[-1]
    step = torch.as_tensor(step, dtype=a.dtype, device=a.device)[..., None, None]
    known = torch.eye(n, dtype=a.dtype, device=a.device).expand_as(a)  # 1, E, E^2, ... side by side
    power = matrix_exponential(a * step, squarings)
    while known.shape[-1] < count * n:
        known = torch.cat([known, power @ known], dim=-1)
        power = power @ power
    rows = known[..., : count * n].reshape(*known.shape[:-2], n * count, n)
    states = rows @ start.mT  # [..., n count, S]
    return states.reshape(*states.shape[:-2], n, count, start.shape[-2]).movedim(-3, -1)
