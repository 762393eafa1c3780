"""What a proxy that correlates with the truth on reference data says of the truth elsewhere.

Under the reference occupancy mu0 let X, Y be the standardised proxy and true reward, r their correlation,
s = sqrt(1 - r^2), and for another occupancy mu << mu0

    L = mu / mu0,   C = sqrt(chi^2(mu | mu0)),   p = <mu, X>,   y = <mu, Y>

Then |p| <= C and the true gain y is at least

    A = (p - s C) / r,    B = r p - s C,    T = r p - s sqrt(C^2 - p^2)

A gives the objective J(P) - lambda* C with lambda* = sd(P) s. T is the best there is: some true reward attains it. A
and T have the same sign, so kappa = p / C >= s certifies y >= 0.
Source: Laidlaw, Singhal and Dragan, ICLR 2025, theorem 5.1 (A); Liu, Sun and Zheng, ICLR 2026, theorem 1 (T).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from rlcore.errors import ConfigError, DataError


class Moments(NamedTuple):
    """A proxy and a true reward [...] on reference data."""

    proxy_mean: Tensor
    proxy_sd: Tensor
    true_mean: Tensor
    true_sd: Tensor
    correlation: Tensor


def moments(proxy: Tensor, true: Tensor, weight: Tensor) -> Moments:
    """Means, standard deviations and Pearson's correlation under weights that sum to 1."""
    (p_mean, p_sd), (y_mean, y_sd) = (spread(x, weight) for x in (proxy, true))
    covariance = (weight * (proxy - p_mean) * (true - y_mean)).sum()
    return Moments(p_mean, p_sd, y_mean, y_sd, (covariance / (p_sd * y_sd)).clamp(-1.0, 1.0))


def spread(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation under weights that sum to 1; of a constant exactly 0, not what rounding leaves."""
    origin = x.flatten()[weight.argmax()]
    apart = x - origin
    mean = (weight * apart).sum()
    return origin + mean, (weight * (apart - mean).square()).sum().sqrt()


def check_correlation(r: float) -> float:
    """r if it lies in (0, 1], which is what a proxy is."""
    if not 0.0 < r <= 1.0:
        raise ConfigError(
            f"the correlation r of proxy and true reward must lie in (0, 1], got {r}; with r <= 0 it is no proxy"
        )
    return r


def best_lambda(proxy_sd: float, r: float) -> float:
    """lambda* = sd(P) sqrt(1 - r^2), the weight of sqrt(chi^2) for which bound A is the objective."""
    return proxy_sd * math.sqrt(1.0 - check_correlation(r) ** 2)


def bound_a(p: Tensor, c: Tensor, r: float | Tensor) -> Tensor:
    """(p - s C) / r."""
    return (p - _s(r) * c) / r


def bound_b(p: Tensor, c: Tensor, r: float | Tensor) -> Tensor:
    """r p - s C: weaker, also in its sign."""
    return r * p - _s(r) * c


def bound_t(p: Tensor, c: Tensor, r: float | Tensor) -> Tensor:
    """r p - s sqrt(C^2 - p^2), which is attained."""
    return r * p - _s(r) * (c.square() - p.square()).clamp(min=0.0).sqrt()


def _s(r: float | Tensor) -> Tensor:
    return (1.0 - torch.as_tensor(r, dtype=torch.float64).square()).clamp(min=0.0).sqrt()


def chi_squared(mu: Tensor, base: Tensor) -> Tensor:
    """E_mu[L - 1]; infinite if mu has mass where the base has none."""
    ratio = torch.where(mu > 0.0, mu / base, 0.0)
    return (mu * ratio).sum() - 1.0


def adversarial_reward(mu: Tensor, base: Tensor, proxy: Tensor, r: float) -> Tensor:
    """A standardised true reward with correlation r to the proxy under the base, for which y = T.

    Y = r X + s Z with Z proportional to -(L - 1 - p X), the part of the change that the proxy does not see.
    """
    check_correlation(r)
    mean, sd = spread(proxy, base)
    if not float(sd) > 0.0:
        raise DataError("the proxy is constant on the reference: no correlation is defined; take another reference")
    x = (proxy - mean) / sd
    ratio = torch.where(base > 0.0, mu / base, 0.0)
    rest = ratio - 1.0 - (mu * x).sum() * x
    size = (base * rest.square()).sum().sqrt()
    z = -rest / size if float(size) > 1e-12 else torch.zeros_like(rest)
    return r * x + math.sqrt(1.0 - r * r) * z


def fisher_limit(r: float, labelled: int, *, z: float = 1.6449) -> float:
    """Lower confidence limit tanh(artanh r - z / sqrt(n - 3)) of a correlation from n labelled steps, 95 % one-sided.

    Source: Fisher, Metron 1 (1921). Steps of one episode resemble each other: count episodes when in doubt.
    """
    if labelled < 4:
        raise ConfigError(f"a confidence limit of a correlation needs at least 4 labelled steps, got {labelled}")
    inside = min(max(r, -1.0 + 1e-12), 1.0 - 1e-12)
    return math.tanh(math.atanh(inside) - z / math.sqrt(labelled - 3))
