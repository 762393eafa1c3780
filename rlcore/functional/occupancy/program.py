"""The regularised optimum of a finite problem by convex programming: what any learner can be measured against.

    max over mu of <mu, P> - lambda D(mu, mu0),   mu >= 0,   the Bellman flow holds

sqrt(chi^2) and the max-min bound make it a second-order cone program, the KL divergences an exponential one. Needs
CVXPY and Clarabel, the extra `oracle`.
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from rlcore.checks import check_not_negative
from rlcore.errors import ConfigError, MissingExtraError, NumericsError
from rlcore.functional.occupancy.bounds import check_correlation, spread
from rlcore.functional.occupancy.tabular import FiniteProblem

Regulariser = Literal["none", "sqrt_chi2", "chi2", "kl", "ad_kl", "maxmin"]


def cvxpy() -> Any:
    """The package, or an error that says how to get it."""
    try:
        import clarabel  # noqa: F401
        import cvxpy as module
    except ImportError as error:
        raise MissingExtraError(
            f"the exact optimum needs CVXPY and Clarabel ({error.name} is missing); pip install 'rlcore-lab[oracle]'"
        ) from error
    return module


def regularised_occupancy(
    problem: FiniteProblem,
    proxy: Tensor,
    base: Tensor,
    kind: Regulariser,
    strength: float,
    *,
    state_only: bool = False,
) -> Tensor:  # [S, A], [S, A] -> [S, A]
    """The optimal mu; `base` is mu0. `strength` is lambda, in units of the proxy, or the correlation r for `maxmin`.

    States and actions that the base never takes are left out, as mu << mu0 demands, except for `none` and `ad_kl`, the
    latter keeping to the base's actions only. `state_only` compares the occupancies of states, for rewards of states.
    """
    cp = cvxpy()
    if kind not in get_args(Regulariser):
        raise ConfigError(f"kind must be one of {', '.join(get_args(Regulariser))}, got {kind!r}")
    check_not_negative("strength", strength)
    states, actions = proxy.shape
    mu0, reward = base.numpy(), proxy.numpy()
    mu = cp.Variable((states, actions), nonneg=True)
    inflow = problem.transition.numpy().reshape(states * actions, states)
    arrives = cp.reshape(mu, (states * actions,), order="C") @ sparse(inflow)
    flow = cp.sum(mu, axis=1) == (1.0 - problem.discount) * problem.start.numpy() + problem.discount * arrives
    constraints, gain = [flow], cp.sum(cp.multiply(mu, reward))
    if kind == "none" or (strength == 0.0 and kind != "maxmin"):
        return solve(cp, gain, constraints, mu)
    if kind == "ad_kl":
        visits0 = mu0.sum(1, keepdims=True)
        law0 = np.where(visits0 > 0.0, mu0 / np.maximum(visits0, 1e-300), 1.0 / actions)
        visits = cp.sum(mu, axis=1, keepdims=True)
        price = cp.sum(cp.rel_entr(mu, cp.multiply(law0, visits @ np.ones((1, actions)))))
        return solve(cp, gain - strength * price, constraints, mu)
    if state_only:
        weight, there = mu0.sum(1), cp.sum(mu, axis=1)
        seen = weight > 0.0
        constraints.append(there[~seen] == 0.0) if (~seen).any() else None
    else:
        weight, there = mu0.ravel(), cp.reshape(mu, (states * actions,), order="C")
        seen = weight > 0.0
        constraints.append(there[~seen] == 0.0) if (~seen).any() else None
    root = np.sqrt(weight[seen])
    change = cp.multiply(1.0 / root, there[seen]) - root  # sqrt(mu0) (L - 1)
    if kind == "sqrt_chi2":
        price = cp.norm(change, 2)
    elif kind == "chi2":
        price = cp.sum_squares(change)
    elif kind == "kl":
        price = cp.sum(cp.rel_entr(there[seen], weight[seen]))
    else:
        bound, moved = maxmin(cp, proxy, base, mu, strength)
        return solve(cp, bound, [*constraints, moved], mu)
    return solve(cp, gain - strength * price, constraints, mu)


def maxmin(cp: Any, proxy: Tensor, base: Tensor, mu: Any, r: float) -> tuple[Any, Any]:
    """r p - s |L - 1 - p X| under mu0, concave in mu: bound T, and what p is, as a constraint that keeps it sparse."""
    check_correlation(r)
    mean, sd = spread(proxy, base)
    x = ((proxy - mean) / sd).numpy().ravel()
    weight = base.numpy().ravel()
    seen = weight > 0.0
    root = np.sqrt(weight[seen])
    there = cp.reshape(mu, (mu.size,), order="C")
    p = cp.Variable()
    rest = cp.multiply(1.0 / root, there[seen]) - root - p * (root * x[seen])
    return r * p - math.sqrt(1.0 - r * r) * cp.norm(rest, 2), p == cp.sum(cp.multiply(there, x))


def solve(cp: Any, objective: Any, constraints: list[Any], mu: Any) -> Tensor:
    """Clarabel's answer as a tensor, normalised."""
    program = cp.Problem(cp.Maximize(objective), constraints)
    program.solve(solver=cp.CLARABEL)
    if program.status not in ("optimal", "optimal_inaccurate"):
        raise NumericsError(f"the convex program ended as {program.status}; check that the base visits the start")
    found = torch.from_numpy(np.maximum(mu.value, 0.0))
    return found / found.sum()


def sparse(matrix: Any) -> Any:
    """Most states lead to few others."""
    from scipy.sparse import csr_matrix

    return csr_matrix(matrix)
