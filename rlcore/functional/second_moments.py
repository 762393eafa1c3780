"""How E[XX'] of dX = F X dt + sum_j C_j X dW_j moves: growth rate, and the two linear equations that evaluate policies.

    d E[XX'] / dt = F S + S F' + sum_j C_j S C_j',   S = E[XX']

The map keeps the cone of positive semidefinite matrices, so its rightmost eigenvalue is real. Small problems use it as
an n^2 x n^2 matrix. Large ones never form it: Krylov methods, with the Lyapunov equation of F alone as preconditioner,
need n^3 operations per step and n^2 numbers, where the matrix of 100 states has 10^8.
Source: Damm, Rational Matrix Equations in Stochastic Control, Springer 2004, for the map and the preconditioner.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import schur
from scipy.linalg.lapack import dtrsyl
from scipy.sparse.linalg import ArpackError, LinearOperator, eigs, gmres

from rlcore.errors import NumericsError

Array = NDArray[np.floating[Any]]  # float64 throughout

DENSE_STATES = 12  # up to here the n^2 x n^2 matrix is quicker
TOLERANCE = 1e-13  # relative residual of the iterative solutions


def moment_map(drift: Array, noise: Array) -> Array:  # [n, n], [j, n, n] -> [n n, n n] 1/s
    """The map as a matrix, for matrices stacked by rows."""
    eye = np.eye(len(drift))
    operator = np.kron(drift, eye) + np.kron(eye, drift)
    for c in noise:
        operator += np.kron(c, c)
    return np.asarray(operator)


def growth_rate(drift: Array, noise: Array) -> float:
    """Growth rate of E|X|^2 [1/s]: the rightmost eigenvalue of the map."""
    n = len(drift)
    if n <= DENSE_STATES:
        return float(np.linalg.eigvals(moment_map(drift, noise)).real.max())
    transposed = noise.transpose(0, 2, 1)

    def apply(stacked: Array) -> Array:
        S = stacked.reshape(n, n)
        return np.asarray(drift @ S + S @ drift.T + (noise @ S @ transposed).sum(0)).reshape(-1)

    operator = LinearOperator((n * n, n * n), matvec=apply, dtype=np.float64)
    try:  # from the identity, inside the cone: the same start every time, and the right eigenvector has a part in it
        found = eigs(operator, k=1, which="LR", v0=np.eye(n).reshape(-1), tol=1e-10, return_eigenvectors=False)
    except ArpackError as error:
        raise NumericsError(f"the growth rate of E|X|^2 did not converge with {n} states: {error}") from error
    return float(found.real.max())


def solve_moments(drift: Array, noise: Array, right: Array) -> Array:
    """The S with F S + S F' + sum_j C_j S C_j' = right; symmetric for a symmetric right side."""
    n = len(drift)
    if n <= DENSE_STATES:
        return np.asarray(np.linalg.solve(moment_map(drift, noise), right.reshape(-1)).reshape(n, n))
    transposed = noise.transpose(0, 2, 1)

    triangle, basis = schur(drift)  # F = Q T Q', once for all solutions

    def lyapunov(stacked: Array) -> Array:
        rotated, scale, _ = dtrsyl(triangle, triangle, basis.T @ stacked.reshape(n, n) @ basis, trana="N", tranb="T")
        return np.asarray(basis @ (rotated / scale) @ basis.T).reshape(-1)

    def preconditioned(stacked: Array) -> Array:  # Lyapunov^-1 (Lyapunov + noise) S
        return stacked + lyapunov((noise @ stacked.reshape(n, n) @ transposed).sum(0))

    return krylov(preconditioned, lyapunov(right.reshape(-1))).reshape(n, n)


def solve_values(drift: Array, noise: Array, right: Array) -> Array:
    """The K with F'K + K F + sum_j C_j'K C_j = right: the adjoint equation."""
    return solve_moments(drift.T, noise.transpose(0, 2, 1), right)


def krylov(operator: Callable[[Array], Array], right: Array) -> Array:
    """Solve by GMRES to the last digits, or raise."""
    size = len(right)
    wrapped = LinearOperator((size, size), matvec=operator, dtype=np.float64)
    found, failed = gmres(wrapped, right, rtol=TOLERANCE, restart=60, maxiter=20)
    error = float(np.linalg.norm(operator(found) - right) / max(np.linalg.norm(right), np.finfo(float).tiny))
    if failed and error > 1e-9:
        raise NumericsError(
            f"the second-moment equation did not converge (relative residual {error:.1e}); "
            "it is nearly singular: look for a growth rate close to the discount rate"
        )
    return np.asarray(found)
