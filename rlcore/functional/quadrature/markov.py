"""Priors whose values form a Markov process with their derivatives: the state-space form of a kernel.

    state s = (l, l', ..., l^(p), mu, mu', ..., mu^(d), zeta),   zeta = int l,   ds = F s dtau + L dw
    Matern        (D + 1)^(p+1) (l - mu) = white noise of density 2^(2p+1) (p!)^2 / (2p)!,   tau = lambda t
    integrated Wiener of order p:   D^(p+1) l = white noise,   tau = t / T
    mu a polynomial of degree d with diffuse coefficients; the first state of the integrated Wiener process is diffuse

Time is dimensionless, and l itself, not its distance from mu, is a state: once l is observed its row of a factor is
exactly zero, and what is left is small in absolute terms. That is why no precision is lost.

Source: Hartikainen and Saerkkae, IEEE MLSP 2010.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy.linalg import cholesky, solve_continuous_lyapunov
from torch import Tensor

REACH = 0.25
"""The longest dimensionless step that is summed as it is."""
TERMS = 20
"""Of the exponential's Taylor series: the next is below rounding beside the first of every entry."""
NODES = 14
"""Of the Gauss-Legendre rule over a step; the integrand is a polynomial of degree 10 times an exponential."""


@dataclass(frozen=True, eq=False)
class MarkovPrior:
    """The matrices of a prior, float64 on the CPU, and its first state."""

    drift: Tensor
    """F [n, n]."""
    input: Tensor
    """L [n], times the root of the noise's density."""
    proper: Tensor
    """Columns [n, c] of the first state's covariance factor."""
    diffuse: Tensor
    """Columns [n, d] of infinite variance."""

    @property
    def size(self) -> int:
        """Number of states."""
        return len(self.input)


@lru_cache(maxsize=64)
def matern_prior(order: int, mean_degree: int | None) -> MarkovPrior:
    """Matern of smoothness order + 1/2 about a polynomial mean with diffuse coefficients, or about 0."""
    p, d = order, 0 if mean_degree is None else mean_degree + 1
    n = p + 1 + d + 1
    binomials = np.array([math.comb(p + 1, j) for j in range(p + 2)], dtype=float)
    F, L = np.zeros((n, n)), np.zeros(n)
    F[np.arange(p), np.arange(1, p + 1)] = 1.0
    F[p, : p + 1] = -binomials[:-1]
    F[p, p + 1 : p + 1 + min(d, p + 2)] = binomials[:d]  # (D + 1)^(p+1) mu
    F[np.arange(p + 1, p + d), np.arange(p + 2, p + 1 + d)] = 1.0
    F[n - 1, 0] = 1.0
    L[p] = math.sqrt(2.0 ** (2 * p + 1) * math.factorial(p) ** 2 / math.factorial(2 * p))
    inner = F[: p + 1, : p + 1]
    stationary = solve_continuous_lyapunov(inner, -np.outer(L[: p + 1], L[: p + 1]))
    proper, diffuse = np.zeros((n, p + 1)), np.zeros((n, d))
    proper[: p + 1] = cholesky(stationary, lower=True)  # of l - mu
    diffuse[p + 1 : p + 1 + d] = np.eye(d)
    diffuse[: min(d, p + 1)] = np.eye(min(d, p + 1), d)  # l moves with mu
    proper -= diffuse @ proper[:d]  # which under a flat prior says as much of mu given l
    rows = [*range(d, p + 1), *range(p + 1, p + 1 + min(d, p + 1))]
    proper[rows] = np.asarray(np.linalg.qr(proper[rows].T, mode="r")).T  # no two columns alike in l
    return MarkovPrior(*(torch.from_numpy(part) for part in (F, L, proper, diffuse)))


@lru_cache(maxsize=16)
def wiener_prior(order: int) -> MarkovPrior:
    """The Wiener process integrated `order` times, with a diffuse first state."""
    n = order + 2
    F, L = torch.zeros(n, n, dtype=torch.float64), torch.zeros(n, dtype=torch.float64)
    F[torch.arange(order), torch.arange(1, order + 1)] = 1.0
    F[n - 1, 0], L[order] = 1.0, 1.0
    return MarkovPrior(F, L, torch.zeros(n, 0, dtype=torch.float64), torch.eye(n, order + 1, dtype=torch.float64))


def transitions(prior: MarkovPrior, steps: Tensor) -> tuple[Tensor, Tensor]:  # [...] -> [..., n, n], [..., n, n]
    """exp(F s) and a factor B, B B' = int_0^s exp(F r) L L' exp(F'r) dr, for dimensionless steps s >= 0.

    Both are summed over s / 2^J, where the series converges at once and every entry keeps its own relative accuracy,
    and doubled J times: exp(2 F s) = exp(F s)^2, and B(2 s) from the columns of exp(F s) B(s) and B(s). The difference
    of two stationary covariances, which the textbooks take, would cancel for small steps.
    """
    n = prior.size
    doublings = max(0, math.ceil(math.log2(max(float(steps.max()), 1e-300) / REACH)))
    base = steps.unsqueeze(-1) / 2**doublings
    powers = torch.cat([torch.ones_like(base), base.expand(*steps.shape, TERMS - 1)], -1).cumprod(-1)
    flow, drive = (part.to(steps) for part in taylor(prior))
    A = (powers @ flow.reshape(TERMS, -1)).reshape(*steps.shape, n, n)
    columns = (powers @ drive.reshape(TERMS, -1)).reshape(*steps.shape, NODES, n)
    B = triangle(columns * base.sqrt().unsqueeze(-1))
    for _ in range(doublings):
        B = triangle(torch.cat([(A @ B).mT, B.mT], dim=-2))
        A = A @ A
    return A, B


@lru_cache(maxsize=64)
def taylor(prior: MarkovPrior) -> tuple[Tensor, Tensor]:  # -> [TERMS, n, n], [TERMS, NODES, n]
    """Coefficients of exp(F s), and of sqrt(w_i) exp(F s x_i) L for the Gauss-Legendre rule (x_i, w_i) on [0, 1]."""
    series = [torch.eye(prior.size, dtype=torch.float64)]
    for k in range(1, TERMS):
        series.append(series[-1] @ prior.drift / k)
    flow = torch.stack(series)
    roots, masses = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(NODES))
    powers = (0.5 * (roots + 1.0)) ** torch.arange(TERMS).unsqueeze(-1)  # [TERMS, NODES]
    return flow, (powers * (0.5 * masses).sqrt()).unsqueeze(-1) * (flow @ prior.input).unsqueeze(-2)


def triangle(rows: Tensor) -> Tensor:  # [..., k, n] -> [..., n, n]
    """Lower-triangular S with S S' = rows' rows, by a QR factorisation: the sum is never formed."""
    found: Tensor = torch.linalg.qr(rows, mode="r").R
    return found.mT
