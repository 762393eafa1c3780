"""Targets known up to their normaliser, p = e^log_target / Z: Z by importance sampling, moments by their dual.

Source: Khalifa, Elsahar and Dymetman, "A distributional approach to controlled text generation", ICLR 2021; Go et al.,
ICML 2023.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rlcore.errors import DataError, NumericsError, ShapeError


@dataclass(frozen=True)
class LogPartition:
    """log Z = log E_q[e^log_target / q], from all samples so far; one for each prompt if it has leading dimensions."""

    log_total: Tensor
    count: int = 0

    @classmethod
    def empty(cls, *shape: int, dtype: torch.dtype = torch.float64) -> LogPartition:
        """Nothing seen yet."""
        return cls(torch.full(shape, -math.inf, dtype=dtype))

    def update(self, log_target: Tensor, log_sampler: Tensor) -> LogPartition:  # [..., N] of samples of q
        """The same with more samples."""
        weights = (log_target - log_sampler).to(self.log_total.dtype)
        total = torch.logaddexp(self.log_total, weights.logsumexp(-1))
        return LogPartition(total, self.count + weights.shape[-1])

    @property
    def value(self) -> Tensor:  # [...]
        """The estimate of log Z; E of its exponential is Z, its own mean is below log Z."""
        if self.count == 0:
            raise DataError("no samples yet; update the estimate before it is read")
        return self.log_total - math.log(self.count)


def binary_target(log_reference: Tensor, holds: Tensor) -> Tensor:
    """log of a(x) b(x): the reference, conditioned on what holds."""
    return torch.where(holds, log_reference, -math.inf)


def moment_weights(features: Tensor, wanted: Tensor, log_weights: Tensor | None = None) -> Tensor:  # [N, k], [k] -> [k]
    """lambda so that mu e^(lambda . phi) has mean features `wanted`, by self-normalised samples of mu (or weights).

    Newton's method with halving on the convex dual log E_mu e^(lambda . phi) - lambda . wanted.
    """
    if features.dim() != 2 or wanted.shape != features.shape[1:]:
        raise ShapeError(f"need features [N, k] and moments [k], got {list(features.shape)} and {list(wanted.shape)}")
    base = features.new_zeros(len(features)) if log_weights is None else log_weights
    base = torch.log_softmax(base, -1)

    def dual(weights: Tensor) -> Tensor:
        return torch.logsumexp(base + features @ weights, -1) - weights @ wanted

    found = torch.zeros_like(wanted)
    for _ in range(200):
        share = torch.softmax(base + features @ found, -1)
        mean = share @ features
        if float((mean - wanted).abs().max()) < 1e-12:
            break
        covariance = features.mT @ (share.unsqueeze(-1) * features) - torch.outer(mean, mean)
        step, info = torch.linalg.solve_ex(covariance, wanted - mean)
        if int(info) != 0 or not bool(torch.isfinite(step).all()):
            break
        length, now = 1.0, dual(found)
        while length > 1e-10 and not bool(dual(found + length * step) <= now):
            length *= 0.5
        if length <= 1e-10:
            break
        found = found + length * step
    off = float((torch.softmax(base + features @ found, -1) @ features - wanted).abs().max())
    if not off < 1e-6:
        raise NumericsError(f"no weights give these moments, got {off:.3g} off; ask for moments that samples can have")
    return found
