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


def matern_filter_oracle(
    order: int, length_scale: float, count: int, step: float, *, digits: int = 100
) -> tuple[Numbers, Any]:
    """Weights and variance on `count` nodes that are exactly `step` apart, for as many nodes as one likes: O(N).

    An ordinary Kalman filter on covariances, where digits make up for its cancellations, and its adjoint.
    """
    with mpmath.workdps(digits):
        n = order + 2  # the derivatives of l, and its integral
        rate = mpmath.sqrt(2 * order + 1) / mpmath.mpf(length_scale)
        F, noise = np.full((n, n), mpmath.mpf(0)), np.full((n, n), mpmath.mpf(0))
        for i in range(order):
            F[i, i + 1] = mpmath.mpf(1)
        for j in range(order + 1):
            F[order, j] = -mpmath.binomial(order + 1, j)
        F[n - 1, 0] = mpmath.mpf(1)
        noise[order, order] = 2 ** (2 * order + 1) * mpmath.factorial(order) ** 2 / mpmath.factorial(2 * order)
        A, Q = discrete(F, noise, rate * mpmath.mpf(step), digits)
        P = np.full((n, n), mpmath.mpf(0))
        p = matern_coefficients(order)
        moments = taylor(p, 2 * order)  # of k: the covariance of derivatives i and j is (-1)^i k^(i + j)(0)
        for i in range(order + 1):
            for j in range(order + 1):
                if (i + j) % 2 == 0:
                    P[i, j] = (-1) ** i * moments[i + j]
        gains = []
        for k in range(count):
            if k:
                P = A @ P @ A.T + Q
            gain = P[:, 0] / P[0, 0]
            P = P - np.outer(gain, P[0])
            gains.append(gain)
        v = np.full(n, mpmath.mpf(0))
        v[-1] = mpmath.mpf(1)
        weights = []
        for gain in reversed(gains):
            weights.append(v @ gain)
            v[0] -= weights[-1]
            v = v @ A
        return np.array(weights[::-1]) / rate, P[-1, -1] / rate**2


def taylor(p: list[Any], terms: int) -> list[Any]:
    """Derivatives 0 to `terms` of exp(-x) P(x) at 0+; the even ones are those of the covariance."""
    f = mpmath.factorial
    return [
        f(m) * sum(p[i] * mpmath.mpf(-1) ** (m - i) / f(m - i) for i in range(min(m, len(p) - 1) + 1))
        for m in range(terms + 1)
    ]


def discrete(F: Numbers, noise: Numbers, s: Any, digits: int) -> tuple[Numbers, Numbers]:
    """exp(F s), and int_0^s exp(F r) noise exp(F'r) dr by Van Loan's block exponential, summed as a series."""
    n = len(F)
    block = np.full((2 * n, 2 * n), mpmath.mpf(0))
    block[:n, :n], block[:n, n:], block[n:, n:] = -F * s, noise * s, F.T * s
    total = term = np.array([[mpmath.mpf(int(i == j)) for j in range(2 * n)] for i in range(2 * n)])
    k = 0
    while max(abs(x) for x in term.ravel()) > mpmath.mpf(10) ** (-2 * digits):
        k += 1
        term = term @ block / k
        total = total + term
    A = total[n:, n:].T
    return A, A @ total[:n, n:]
