"""States of linear systems at even times, to rounding, for whole batches of systems and initial states.

    dx = A x dt:   x(k h) = E^k x(0),   E = exp(A h)

The number of operations depends on shapes alone, never on numbers, so nothing waits for the CPU, and a GPU can capture
the whole.
Source: Moler and Van Loan, SIAM Review 45, 2003, method 3, for scaling and squaring.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from rlcore.errors import ConfigError, ShapeError

TERMS = 15
"""Taylor terms: at a norm of 1/2 the next one is below 3e-17."""
SQUARINGS = 16
"""Norms up to 2^15 are scaled to 1/2; the exponential of a larger matrix is NaN."""


def matrix_exponential(a: Tensor) -> Tensor:  # [..., n, n] -> [..., n, n]
    """exp(A) by scaling, Taylor's series and squaring."""
    size = torch.linalg.matrix_norm(a, ord=1)
    squarings = torch.ceil(torch.log2(size.clamp(min=1e-30))).add(1.0).clamp(min=0.0)  # [...]
    small = a * torch.exp2(-squarings)[..., None, None]
    unit = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    found = unit + small / TERMS
    for k in range(TERMS - 1, 0, -1):
        found = unit + small @ found / k
    for k in range(SQUARINGS):
        found = torch.where((k < squarings)[..., None, None], found @ found, found)
    return torch.where((squarings <= SQUARINGS)[..., None, None], found, math.nan)


def linear_flow(a: Tensor, start: Tensor, step: float | Tensor, count: int) -> Tensor:
    """x(0), x(h), ..., x((count - 1) h) of dx = A x dt: [..., n, n], [..., S, n] -> [..., count, S, n].

    `step` is h in seconds, a number or one for each system [...]. Each doubling of the known stretch is one product.
    """
    if a.ndim < 2 or start.ndim < 2 or {a.shape[-2], start.shape[-1]} != {a.shape[-1]}:
        raise ShapeError(f"A must be [..., n, n] and the starts [..., S, n], got {list(a.shape)}, {list(start.shape)}")
    if count < 1:
        raise ConfigError(f"count must be at least 1, got {count}")
    step = torch.as_tensor(step, dtype=a.dtype, device=a.device)[..., None, None]
    power = matrix_exponential(a * step).mT  # [..., n, n], acts on rows
    lead = np.broadcast_shapes(power.shape[:-2], start.shape[:-2])
    S, n = start.shape[-2:]
    known = start.expand(*lead, S, n)  # [..., k S, n], k states of each start
    while known.shape[-2] < count * S:
        known = torch.cat([known, known @ power], dim=-2)
        power = power @ power
    return known[..., : count * S, :].reshape(*lead, count, S, n)
