"""Deterministic linear-quadratic regulators in batches: Lyapunov and Riccati equations, Newton's sequence, error laws.

    dx = (A x + B u) dt,   cost rate x'Q x + u'R u,   u = -K x,   V(x) = x'P x

    Lyapunov    A'X + X A + Q = 0
    Riccati     G(P) = A'P + P A + Q - P B R^-1 B'P = 0,   K = R^-1 B'P
    Kleinman    P_i of K_i, then K_{i+1} = R^-1 B'P_i: Newton's method on G

Matrices are [..., n, n] and broadcast over their leading dimensions; everything stays on the device and in the dtype it
is given, and float64 is meant. There is no factor 1/2 here. `linear_quadratic` is the module for noise, entropy,
discount and cross terms, one problem at a time.

Source: Kleinman, IEEE Transactions on Automatic Control 13, 1968; Bartels and Stewart, Communications of the ACM 15,
1972; Cao and Pan, ICLR 2024, for integral reinforcement learning as Newton's method with a quadrature error.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, solve_continuous_are, solve_continuous_lyapunov
from torch import Tensor

from rlcore.errors import ConfigError, NumericsError, ShapeError

SMALL = 10  # states up to which one linear system of n (n + 1) / 2 unknowns is solved for the whole batch at once
SINGULAR = "the Lyapunov equation has no unique solution: A must share no eigenvalue with -A; stabilise A"


def lyapunov(a: Tensor, q: Tensor) -> Tensor:  # [..., n, n], [..., n, n] -> [..., n, n]
    """X with A'X + X A + Q = 0, for symmetric Q; with A stable, the integral of exp(A't) Q exp(A t) over t >= 0.

    Small problems are solved together and with gradients; from 11 states on one by one, by Bartels and Stewart's method
    on the CPU, without gradients. Raises `NumericsError` where A and -A share an eigenvalue.
    """
    a, q = broadcast(a, q)
    n = a.shape[-1]
    if n > SMALL:
        return each(bartels_stewart, a, q)
    basis, rows, columns = symmetric_basis(n)
    basis = basis.to(a)  # [p, n, n]
    half = a.unsqueeze(-3).mT @ basis  # [..., p, n, n]
    operator = (half + half.mT)[..., rows, columns].mT  # [..., p, p]
    right = -0.5 * (q + q.mT)[..., rows, columns].unsqueeze(-1)
    try:
        found: Tensor = torch.linalg.solve(operator, right)
    except RuntimeError as error:  # torch.linalg.LinAlgError is one
        raise NumericsError(SINGULAR) from error
    return torch.einsum("...p,pij->...ij", found.squeeze(-1), basis)


def lyapunov_map(a: Tensor, x: Tensor) -> Tensor:
    """L(X) = A'X + X A."""
    return a.mT @ x + x @ a


def riccati_map(a: Tensor, b: Tensor, q: Tensor, r: Tensor, p: Tensor) -> Tensor:
    """G(P) = A'P + P A + Q - P B R^-1 B'P, which vanishes at the optimum."""
    return lyapunov_map(a, p) + q - p @ b @ feedback_gain(b, r, p)


def feedback_gain(b: Tensor, r: Tensor, p: Tensor) -> Tensor:  # -> [..., m, n]
    """K = R^-1 B'P: the best u = -K x against the value x'P x."""
    gain: Tensor = torch.linalg.solve(r, b.mT @ p)
    return gain


def value_of_gain(a: Tensor, b: Tensor, q: Tensor, r: Tensor, k: Tensor) -> Tensor:  # k [..., m, n] -> [..., n, n]
    """P of u = -K x, for a stabilising K: (A - B K)'P + P (A - B K) + Q + K'R K = 0."""
    return lyapunov(a - b @ k, q + k.mT @ r @ k)


def newton_step(a: Tensor, b: Tensor, q: Tensor, r: Tensor, p: Tensor) -> Tensor:
    """P - G'(P)^-1 G(P), which equals the value of the gain that is best against P."""
    return p + lyapunov(a - b @ feedback_gain(b, r, p), riccati_map(a, b, q, r, p))


def kleinman(a: Tensor, b: Tensor, q: Tensor, r: Tensor, gain: Tensor, steps: int) -> Tensor:
    """Exact policy iteration from a stabilising gain [..., m, n]: the values P_1, ..., P_steps, [steps, ..., n, n].

    P_1 belongs to the gain given. The values fall, and every later gain is stabilising too. Raises `NumericsError`
    where the gain given is not.
    """
    check_sizes(a, b, q, r)
    check_stable(a - b @ gain, "A - B K of the first gain")
    found = []
    for _ in range(steps):
        p = value_of_gain(a, b, q, r, gain)
        found.append(p)
        gain = feedback_gain(b, r, p)
    return torch.stack(found)


def care(a: Tensor, b: Tensor, q: Tensor, r: Tensor, *, polish: int = 2) -> Tensor:  # -> [..., n, n]
    """The stabilising solution P of the Riccati equation: SciPy's, one by one, then Newton steps on the whole batch.

    Gradients pass through the Newton steps, up to 10 states; with `polish` >= 1 they are those of P. Raises
    `ConfigError` for an R that is not positive definite, and `NumericsError` where there is no such solution, with the
    mode that is to blame.
    """
    check_sizes(a, b, q, r)
    a64, b64, q64, r64 = wide = [part.double() for part in lead(a, b, q, r)]
    for name, part in zip("ABQR", wide, strict=True):
        check_rows(torch.isfinite(part).all(-1).all(-1), f"{name} must be finite numbers", "check its entries")
    for name, part in (("Q", q64), ("R", r64)):
        skew = (part - part.mT).abs().amax((-2, -1)) <= 1e-6 * part.abs().amax((-2, -1))
        check_rows(skew, f"{name} must be symmetric", f"use ({name} + {name}') / 2")
    check_rows(
        torch.linalg.eigvalsh(r64)[..., 0] > 0.0, "R must be positive definite", "every action must cost something"
    )
    p = each(solve_one, *wide)
    growth = largest_real_part(a64 - b64 @ feedback_gain(b64, r64, p)).reshape(-1)
    if not bool((growth < 0.0).all()):
        worst = int(growth.argmax())
        parts = (part.detach().reshape(-1, *part.shape[-2:])[worst].cpu().numpy() for part in wide)
        raise NumericsError(no_solution(*parts))
    for _ in range(polish):
        p = value_of_gain(a64, b64, q64, r64, feedback_gain(b64, r64, p))
    return p.to(a.dtype)


def trapezoid_error(closed: Tensor, rate: Tensor, h: float | Tensor) -> Tensor:
    """Error of P learned with the trapezoidal rule at node spacing h [s]: -h^2 / 12 L(M) + O(h^4).

    `closed` is A - B K*, `rate` is M = Q + K*'R K*; by Euler and Maclaurin the windows and the trajectories drop out.
    """
    return -(h**2) / 12.0 * lyapunov_map(closed, rate)


def simpson_error(closed: Tensor, rate: Tensor, h: float | Tensor) -> Tensor:
    """The same with the composite Simpson rule: -h^4 / 180 L(L(L(M))) + O(h^6)."""
    third = lyapunov_map(closed, lyapunov_map(closed, lyapunov_map(closed, rate)))
    return -(h**4) / 180.0 * third


def cost_excess(
    a: Tensor, b: Tensor, q: Tensor, r: Tensor, k: Tensor, best: Tensor | None = None
) -> Tensor:  # -> [...]
    """tr(P_K - P*): what u = -K x costs more than the optimum, averaged over x_0 with unit covariance; [...].

    The trace of X with (A - B K)'X + X (A - B K) + (K - K*)'R (K - K*) = 0, so its relative accuracy does not fade as K
    nears K*, where the difference of the two costs would cancel. `best` is P*, by default from `care`.
    """
    check_stable(a - b @ k, "A - B K")
    off = k - feedback_gain(b, r, care(a, b, q, r) if best is None else best)
    excess = lyapunov(a - b @ k, off.mT @ r @ off)
    return excess.diagonal(dim1=-2, dim2=-1).sum(-1)


def largest_real_part(a: Tensor) -> Tensor:  # [..., n, n] 1/s -> [...] 1/s
    """The largest real part of the eigenvalues; below 0 where dx = A x dt is stable."""
    values: Tensor = torch.linalg.eigvals(a)
    return values.real.amax(-1)


def check_stable(a: Tensor, name: str) -> None:
    """Raise unless every matrix of the batch is stable."""
    growth = largest_real_part(a).reshape(-1)
    if not bool((growth < 0.0).all()):
        row = int((~(growth < 0.0)).nonzero()[0])
        where = f" in row {row}" if growth.numel() > 1 else ""
        raise NumericsError(
            f"{name} must be stable, got an eigenvalue with real part {float(growth[row]):.6g} 1/s{where}; "
            "choose a stabilising gain"
        )


def check_rows(fine: Tensor, expected: str, remedy: str) -> None:  # bool [...]
    """Raise unless a condition holds in every row of the batch."""
    rows = (~fine.reshape(-1)).nonzero().reshape(-1).tolist()
    if rows:
        where = f" in {len(rows)} rows of the batch, first {rows[0]}" if fine.numel() > 1 else ""
        raise ConfigError(f"{expected}, got something else{where}; {remedy}")


def check_sizes(a: Tensor, b: Tensor, q: Tensor, r: Tensor) -> None:
    """Raise unless the trailing dimensions are [n, n], [n, m], [n, n] and [m, m]."""
    if min(a.ndim, b.ndim, q.ndim, r.ndim) < 2:
        raise ShapeError("A, B, Q and R must be matrices or batches of them; give a scalar as a 1 by 1 matrix")
    n, m = b.shape[-2:]
    for name, value, shape in (("A", a, (n, n)), ("Q", q, (n, n)), ("R", r, (m, m))):
        if tuple(value.shape[-2:]) != shape:
            raise ShapeError(f"{name} must have shape [..., {shape[0]}, {shape[1]}] beside B [..., {n}, {m}], "
                             f"got {list(value.shape)}")  # fmt: skip


def lead(*parts: Tensor) -> list[Tensor]:
    """The same matrices, with equal leading dimensions."""
    shape = np.broadcast_shapes(*(part.shape[:-2] for part in parts))
    return [part.expand(*shape, *part.shape[-2:]) for part in parts]


def broadcast(a: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """Two square matrices with equal leading dimensions."""
    if a.ndim < 2 or q.ndim < 2 or len({*a.shape[-2:], *q.shape[-2:]}) != 1:
        raise ShapeError(f"A and Q must both be [..., n, n], got {list(a.shape)} and {list(q.shape)}")
    first, second = lead(a, q)
    return first, second


@lru_cache(maxsize=16)
def symmetric_basis(n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Basis [p, n, n] of the symmetric matrices, with the row and the column [p] that each entry of a vector fills."""
    rows, columns = torch.triu_indices(n, n)
    p = torch.arange(len(rows))
    basis = torch.zeros(len(rows), n, n, dtype=torch.float64)
    basis[p, rows, columns] = basis[p, columns, rows] = 1.0
    return basis, rows, columns


def each(solve: Callable[..., NDArray[np.float64]], *parts: Tensor) -> Tensor:
    """A NumPy function of matrices applied to every member of a batch, in float64."""
    first = parts[0]
    flat = [part.detach().double().cpu().numpy().reshape(-1, *part.shape[-2:]) for part in parts]
    found: list[NDArray[np.float64]] = []
    for row in zip(*flat, strict=True):
        try:
            found.append(solve(*row))
        except NumericsError as error:
            raise NumericsError(f"{error} (row {len(found)})" if len(flat[0]) > 1 else str(error)) from error
    stacked = torch.as_tensor(np.stack(found), dtype=first.dtype, device=first.device)
    return stacked.reshape(*first.shape[:-2], *stacked.shape[1:])


def bartels_stewart(a: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
    """SciPy's solution of one Lyapunov equation."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # SciPy perturbs a singular equation and warns
        try:
            return np.asarray(solve_continuous_lyapunov(a.T, -q))
        except (RuntimeWarning, LinAlgError) as error:
            raise NumericsError(SINGULAR) from error


def solve_one(*parts: NDArray[np.float64]) -> NDArray[np.float64]:
    """SciPy's solution of one Riccati equation, or the reason why there is none."""
    try:
        return np.asarray(solve_continuous_are(*parts))
    except (LinAlgError, ValueError) as error:
        raise NumericsError(no_solution(*parts)) from error


def no_solution(a: NDArray[np.float64], b: NDArray[np.float64], q: NDArray[np.float64], r: NDArray[np.float64]) -> str:
    """Why a Riccati equation has no stabilising solution: the Popov-Belevitch-Hautus test of each mode."""
    n, small = len(a), 1e-8 * (1.0 + float(np.abs(a).max()))
    for mode in np.linalg.eigvals(a):
        shifted = a - mode * np.eye(n)
        if mode.real >= -small and np.linalg.svd(np.hstack([shifted, b]), compute_uv=False)[-1] <= small:
            return (
                f"there is no stabilising solution: B must act on every mode that does not decay, but not on that with "
                f"eigenvalue {mode:.4g} 1/s; change A or B"
            )
        if abs(mode.real) <= small and np.linalg.svd(np.vstack([shifted, q]), compute_uv=False)[-1] <= small:
            return (
                f"there is no stabilising solution: Q must weigh every mode that neither grows nor decays, but not "
                f"that with eigenvalue {mode:.4g} 1/s; raise Q"
            )
    return "there is no stabilising solution: Q must be positive semidefinite and the entries finite; check Q and R"
