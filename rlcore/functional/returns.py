"""Sums of increments along sampled paths, with traces that fade in seconds rather than in steps."""

from __future__ import annotations

import torch
from torch import Tensor


def traced_sum(delta: Tensor, discount: Tensor, dt: Tensor, last: Tensor, trace_time: float) -> Tensor:
    """A_k = delta_k + discount_k exp(-dt_k / trace_time) A_{k+1}; all [K, B], `last` cuts the sum after an episode.

    With delta the increments of a value function, A is the generalised advantage of Schulman et al. (ICLR 2016) with
    lambda = exp(-dt / trace_time), which does not change its meaning with dt; trace_time 0 gives delta itself.
    """
    if trace_time == 0.0:
        return delta
    keep = discount * torch.exp(-dt / trace_time) * ~last
    found, ahead = torch.empty_like(delta), torch.zeros_like(delta[0])
    for k in range(len(delta) - 1, -1, -1):
        ahead = delta[k] + keep[k] * ahead
        found[k] = ahead
    return found
