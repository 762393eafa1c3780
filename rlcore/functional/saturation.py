"""Inputs that saturate smoothly: the action cost whose best action is a hyperbolic tangent, without cancellation.

    W(u) = 2 lambda R int_0^u artanh(v / lambda) dv,   |u| <= lambda
    u* = -lambda tanh(D),   D = R^-1 g'grad V / (2 lambda)
    W(u*) = lambda^2 R (2 D tanh D - 2 ln cosh D),   min over u of grad V'g u + W(u) = -2 lambda^2 R ln cosh D

R is the diagonal of the weights, one for each component of u; W -> u'R u as lambda -> infinity.
Source: Abu-Khalaf and Lewis, Automatica 41, 2005, equations 13 to 20.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


def log_cosh(d: Tensor) -> Tensor:
    """ln cosh D to a relative accuracy of rounding, small and large D alike."""
    near = d.clamp(-1.0, 1.0)
    far = d.abs() + torch.log1p(torch.exp(-2.0 * d.abs())) - math.log(2.0)
    return torch.where(d.abs() < 1.0, 0.5 * torch.log1p(torch.sinh(near) ** 2), far)


def log_cosh_ratio(d: Tensor) -> Tensor:
    """ln cosh(D) / D, which is D / 2 near 0 and the sign of D far from it."""
    zero = d == 0.0
    return torch.where(zero, 0.5 * d, log_cosh(d) / torch.where(zero, 1.0, d))


def saturated_action(d: Tensor, bound: float) -> Tensor:
    """u* = -lambda tanh D."""
    return -bound * torch.tanh(d)


def saturated_cost(u: Tensor, weight: Tensor, bound: float) -> Tensor:  # [..., m], [m] -> [...]
    """W(u), summed over the components; an action beyond the bound costs what the bound costs, 2 ln 2 lambda^2 R.

    W = lambda^2 R ((1 + v) ln(1 + v) + (1 - v) ln(1 - v)) with v = u / lambda is exact where v is near +-1, and
    2 v artanh v + ln(1 - v^2) where it is near 0.
    """
    v = (u / bound).clamp(-1.0, 1.0)
    small = v.clamp(-0.5, 0.5)
    near = 2.0 * small * torch.atanh(small) + torch.log1p(-(small**2))
    far = torch.special.xlog1py(1.0 + v, v) + torch.special.xlog1py(1.0 - v, -v)
    return bound**2 * (weight * torch.where(v.abs() < 0.5, near, far)).sum(-1)


def saturated_cost_at(d: Tensor, weight: Tensor, bound: float) -> Tensor:  # [..., m], [m] -> [...]
    """W(-lambda tanh D) from D itself."""
    return bound**2 * (weight * (2.0 * d * torch.tanh(d) - 2.0 * log_cosh(d))).sum(-1)


def excess_cost(u: Tensor, best: Tensor, weight: Tensor, bound: float = math.inf) -> Tensor:
    """What an action costs per second above the best one, given the optimal value: [..., m], [..., m], [m, m] -> [...].

    grad V*'g (u - u*) + W(u) - W(u*) = int_{u*}^u (W'(v) - W'(u*)) dv, which is (u - u*)'R (u - u*) without a bound. By
    artanh a - artanh b = artanh((a - b) / (1 - a b)) nothing cancels, however close u is to u*.
    """
    off = u - best
    if math.isinf(bound):
        return torch.einsum("...m,mk,...k->...", off, weight, off)
    nodes, shares = (torch.as_tensor(part).to(u) for part in np.polynomial.legendre.leggauss(16))
    step = 0.5 * (nodes + 1.0) * (off / bound).unsqueeze(-1)  # [..., m, 16]: from u* towards u, beside the bound
    start = (best / bound).unsqueeze(-1)
    slope = torch.atanh((step / (1.0 - (start + step) * start)).clamp(-1.0, 1.0))
    inside = (slope * shares).sum(-1) * off  # twice the mean over the way, times its length
    return bound * (weight.diagonal() * inside).sum(-1)
