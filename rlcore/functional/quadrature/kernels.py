"""Covariance functions of time with their integrals in closed form.

    z(t) = int_a^b k(s, t) ds,   c = int_a^b int_a^b k(s, t) ds dt
    stationary k(r):  G(d) = int_0^d k,  H(d) = int_0^d G:   z(t) = G(t - a) + G(b - t),   c = 2 H(b - a)
    Matern, nu = p + 1/2, x = lambda r, lambda = sqrt(2 nu) / l:
        k = exp(-x) P_p(x),   G = (c_p - exp(-x) g_p(x)) / lambda,   H = (c_p x - (2 p + 1) + exp(-x) h_p(x)) / lambda^2

Every function has unit scale: multiply by sigma^2. Leading dimensions of the length scale are batches.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

SERIES = 0.5
"""Below this x, H is summed as a series: its closed form cancels to x^2 / 2."""

# Coefficients of P_p, g_p and h_p in ascending powers of x.
MATERN_P = ((1.0,), (1.0, 1.0), (1.0, 1.0, 1 / 3), (1.0, 1.0, 2 / 5, 1 / 15), (1.0, 1.0, 3 / 7, 2 / 21, 1 / 105))
MATERN_G = (
    (1.0,),
    (2.0, 1.0),
    (8 / 3, 5 / 3, 1 / 3),
    (16 / 5, 11 / 5, 3 / 5, 1 / 15),
    (128 / 35, 93 / 35, 29 / 35, 2 / 15, 1 / 105),
)
MATERN_H = (
    (1.0,),
    (3.0, 1.0),
    (5.0, 7 / 3, 1 / 3),
    (7.0, 19 / 5, 4 / 5, 1 / 15),
    (9.0, 187 / 35, 47 / 35, 6 / 35, 1 / 105),
)


def polynomial(coefficients: tuple[float, ...], x: Tensor) -> Tensor:
    """Horner's scheme."""
    found = torch.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        found = found * x + coefficient
    return found


def matern(order: int, x: Tensor) -> Tensor:
    """k as a function of x = lambda |r|."""
    return torch.exp(-x) * polynomial(MATERN_P[order], x)


def matern_integral(order: int, x: Tensor) -> Tensor:
    """lambda G as a function of x = lambda d."""
    c = MATERN_G[order][0]
    closed = c - torch.exp(-x) * polynomial(MATERN_G[order], x)
    return torch.where(x < SERIES, polynomial((0.0, *matern_series(order, 1)), x.clamp(max=SERIES)), closed)


def matern_double_integral(order: int, x: Tensor) -> Tensor:
    """lambda^2 H as a function of x = lambda d."""
    c = MATERN_G[order][0]
    closed = c * x - (2 * order + 1) + torch.exp(-x) * polynomial(MATERN_H[order], x)
    return torch.where(x < SERIES, polynomial((0.0, 0.0, *matern_series(order, 2)), x.clamp(max=SERIES)), closed)


def matern_series(order: int, integrals: int, terms: int = 20) -> tuple[float, ...]:
    """Taylor coefficients of k, integrated term by term once or twice, without the powers of x that come in front."""
    found = []
    for n in range(terms):
        coefficient = math.fsum((-1.0) ** (n - j) / math.factorial(n - j) * p
                                for j, p in enumerate(MATERN_P[order]) if j <= n)  # fmt: skip
        found.append(coefficient / math.prod(range(n + 1, n + 1 + integrals)))
    return tuple(found)


class Kernel(ABC):
    """A covariance function k(s, t) of unit scale and its integrals over a window."""

    @abstractmethod
    def covariance(self, s: Tensor, t: Tensor) -> Tensor:
        """k(s, t), elementwise."""

    @abstractmethod
    def embedding(self, t: Tensor, start: Tensor, end: Tensor) -> Tensor:
        """z(t) [s], elementwise."""

    @abstractmethod
    def total(self, start: Tensor, end: Tensor) -> Tensor:
        """c [s^2], elementwise."""


class MaternKernel(Kernel):
    """The Matern kernel of smoothness nu = order + 1/2, order 0 to 4; `length_scale` in seconds, [...]."""

    def __init__(self, order: int, length_scale: float | Tensor) -> None:
        self.order, self.length_scale = order, length_scale

    def rate(self, like: Tensor, trailing: int) -> Tensor:
        """lambda = sqrt(2 nu) / l, per second, to broadcast against [..., *trailing]."""
        scale = torch.as_tensor(self.length_scale, dtype=like.dtype, device=like.device)
        return math.sqrt(2.0 * self.order + 1.0) / scale.reshape((*scale.shape, *[1] * trailing))

    def covariance(self, s: Tensor, t: Tensor) -> Tensor:
        return matern(self.order, self.rate(s, 2) * (s - t).abs())

    def embedding(self, t: Tensor, start: Tensor, end: Tensor) -> Tensor:
        rate = self.rate(t, 1)
        both = matern_integral(self.order, rate * (t - start)) + matern_integral(self.order, rate * (end - t))
        return both / rate

    def total(self, start: Tensor, end: Tensor) -> Tensor:
        rate = self.rate(start, 1)
        return 2.0 * matern_double_integral(self.order, rate * (end - start)) / rate**2


class SquaredExponentialKernel(Kernel):
    """exp(-r^2 / 2 l^2); `length_scale` in seconds."""

    def __init__(self, length_scale: float) -> None:
        self.length_scale = length_scale

    def covariance(self, s: Tensor, t: Tensor) -> Tensor:
        return torch.exp(-0.5 * ((s - t) / self.length_scale) ** 2)

    def embedding(self, t: Tensor, start: Tensor, end: Tensor) -> Tensor:
        unit = math.sqrt(2.0) * self.length_scale
        return self.length_scale * math.sqrt(0.5 * math.pi) * (((end - t) / unit).erf() + ((t - start) / unit).erf())

    def total(self, start: Tensor, end: Tensor) -> Tensor:
        scale, width = self.length_scale, end - start
        x = width / (math.sqrt(2.0) * scale)
        return math.sqrt(2.0 * math.pi) * scale * (
            width * x.erf() + scale * math.sqrt(2.0 / math.pi) * torch.expm1(-(x**2))
        )  # fmt: skip


class WienerKernel(Kernel):
    """min(s, t), for 0 <= start."""

    def covariance(self, s: Tensor, t: Tensor) -> Tensor:
        return torch.minimum(s, t)

    def embedding(self, t: Tensor, start: Tensor, end: Tensor) -> Tensor:
        return 0.5 * (t**2 - start**2) + t * (end - t)

    def total(self, start: Tensor, end: Tensor) -> Tensor:
        return start * (end - start) ** 2 + (end - start) ** 3 / 3.0
