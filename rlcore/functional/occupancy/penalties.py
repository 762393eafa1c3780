"""Penalties on an occupancy as rewards: the policy gradient of F(mu) is that with the reward dF / dmu(s, a).

| penalty                  | reward per step, frozen at the current policy              |
|--------------------------|------------------------------------------------------------|
| lambda sqrt(chi^2)       | lambda L / C                                               |
| lambda chi^2             | 2 lambda L                                                 |
| lambda KL(mu, mu0)       | lambda log L                                               |
| lambda KL(mu0, mu)       | -lambda / L                                                |
| lambda TV                | lambda sign(log L) / 2                                     |
| T (max-min), proxy's units | see `maxmin_reward`                                      |

All are given as what is subtracted from the proxy; L = mu / mu0 and C = sqrt(chi^2(mu | mu0)). A constant offset would
pay for survival where episodes end early, so none is added; an absorbing state makes all episodes equally long.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

OccupancyPenalty = Literal["sqrt_chi2", "chi2", "kl", "forward_kl", "tv"]


def penalty(kind: OccupancyPenalty, log_ratio: Tensor, root: Tensor) -> Tensor:  # [*], [] or [*] -> [*]
    """The table above for lambda = 1, of log L and C."""
    if kind == "sqrt_chi2":
        return log_ratio.exp() / root
    if kind == "chi2":
        return 2.0 * log_ratio.exp()
    if kind == "kl":
        return log_ratio
    if kind == "forward_kl":
        return -torch.exp(-log_ratio)
    return 0.5 * log_ratio.sign()


def maxmin_reward(x: Tensor, log_ratio: Tensor, p: Tensor, root: Tensor, r: float) -> Tensor:
    """r X - s (L - p X) / sqrt(C^2 - p^2): the gradient of T in standard deviations of the true reward; X standardised.

    Source: Liu, Sun and Zheng, ICLR 2026; the gradient derived here.
    """
    s = math.sqrt(max(0.0, 1.0 - r * r))
    rest = (root.square() - p.square()).clamp(min=1e-12).sqrt()
    return r * x - s * (log_ratio.exp() - p * x) / rest
