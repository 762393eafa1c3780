"""Bayesian quadrature in many digits: the dense textbook form, where a hundred digits make up for its conditioning.

    w = K^-1 z,   Var = c - z'w
    with polynomials X of unknown coefficients:   w = K^-1 (z + X v),   X'w = their integrals

All kernels and integrals are derived here anew, from k = exp(-x) P(x) alone: the antiderivative of exp(-x) P is
-exp(-x) (P + P' + P'' + ...), twice for c.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mpmath
import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[Any]  # of mpmath.mpf


def matern_coefficients(order: int) -> list[Any]:
    """Of P in ascending powers: p! / (2 p)! sum_i (p + i)! / (i! (p - i)!) (2 x)^(p - i)."""
    f = mpmath.factorial
    found = [mpmath.mpf(0)] * (order + 1)
    for i in range(order + 1):
        power = order - i
        found[power] = f(order) / f(2 * order) * f(order + i) / (f(i) * f(power)) * mpmath.mpf(2) ** power
    return found


def antiderivative(coefficients: list[Any]) -> list[Any]:
    """g with exp(-x) P = d/dx [-exp(-x) g]: g = P + g'."""
    found = list(coefficients)
    for k in range(len(found) - 2, -1, -1):
        found[k] = coefficients[k] + (k + 1) * found[k + 1]
    return found


def decaying(coefficients: list[Any], x: Any) -> Any:
    """exp(-x) times a polynomial."""
    return mpmath.exp(-x) * mpmath.polyval(coefficients[::-1], x)


def matern_oracle(
    order: int,
    length_scale: float,
    times: Sequence[float],
    start: float,
    end: float,
    *,
    mean_degree: int | None = None,
    noise: float = 0.0,
    digits: int = 100,
) -> tuple[Numbers, Any]:
    """Weights and variance for the very floating-point numbers given, in seconds and s^2."""
    with mpmath.workdps(digits):
        rate = mpmath.sqrt(2 * order + 1) / mpmath.mpf(length_scale)
        p = matern_coefficients(order)
        g = antiderivative(p)
        h = antiderivative(g)
        t = np.array([mpmath.mpf(x) for x in times], dtype=object)
        a, b, count = mpmath.mpf(start), mpmath.mpf(end), len(t)
        K = np.empty((count, count), dtype=object)
        for i in range(count):
            for j in range(i + 1):
                K[i, j] = K[j, i] = decaying(p, rate * abs(t[i] - t[j]))
            K[i, i] += mpmath.mpf(noise)
        z = np.array([(2 * g[0] - decaying(g, rate * (x - a)) - decaying(g, rate * (b - x))) / rate for x in t])
        width = rate * (b - a)
        c = 2 * (g[0] * width - h[0] + decaying(h, width)) / rate**2
        L = cholesky(K)
        w = solve(L, z)
        if mean_degree is None:
            return w, c - z @ w
        powers = range(mean_degree + 1)
        X = np.stack([t**j for j in powers], axis=1)
        moments = np.array([(b ** (j + 1) - a ** (j + 1)) / (j + 1) for j in powers], dtype=object)
        KX = solve(L, X)
        missing = moments - X.T @ w
        v = solve(cholesky(X.T @ KX), missing)
        return w + KX @ v, c - z @ w + missing @ v


def cholesky(matrix: Numbers) -> Numbers:
    """Lower factor, column by column."""
    left, factor = matrix.copy(), np.zeros_like(matrix)
    for k in range(len(left)):
        factor[k:, k] = left[k:, k] / mpmath.sqrt(left[k, k])
        for j in range(k + 1, len(left)):
            left[j:, j] -= factor[j:, k] * factor[j, k]
    return factor


def solve(factor: Numbers, right: Numbers) -> Numbers:
    """The solution of L L'x = right."""
    x = right.copy()
    for k in range(len(x)):
        x[k] = (x[k] - factor[k, :k] @ x[:k]) / factor[k, k]
    for k in reversed(range(len(x))):
        x[k] = (x[k] - factor[k + 1 :, k] @ x[k + 1 :]) / factor[k, k]
    return x


def relative_errors(weights: Sequence[float], variance: float, exact: tuple[Numbers, Any]) -> tuple[float, float]:
    """Of the weights, beside the largest of them, and of the variance."""
    with mpmath.workdps(60):
        off = max(abs(mpmath.mpf(got) - true) for got, true in zip(weights, exact[0], strict=True))
        return float(off / max(abs(true) for true in exact[0])), float(abs(mpmath.mpf(variance) / exact[1] - 1))
