"""The regularised optimum of a finite problem by convex programming: what any learner can be measured against.

    max over mu of <mu, P> - lambda D(mu, mu0),   mu >= 0,   the Bellman flow holds

sqrt(chi^2) and the max-min bound make it a second-order cone program, which needs CVXPY and Clarabel, the extra
`oracle`; the KL divergences have smooth duals and need neither. Whoever solved it, `certificate` says how much better
than the answer anything can be, and an answer is given only where that is next to nothing.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from rlcore.checks import check_not_negative
from rlcore.errors import ConfigError, DataError, MissingExtraError, NumericsError
from rlcore.functional.occupancy.bounds import check_correlation, spread
from rlcore.functional.occupancy.certificate import Regulariser, allowed, ceiling, law_of, standardised, worth
from rlcore.functional.occupancy.entropic import ad_kl_optimum, kl_optimum
from rlcore.functional.occupancy.tabular import FiniteProblem, policy_of

TOLERANCE = 1e-5
"""What an answer may be worth less than the optimum, in units of the proxy's range and of lambda."""


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
    check(problem, proxy, base, kind, strength, state_only)
    if strength == 0.0:
        kind = "none"
    bare = kind in ("none", "ad_kl")
    inside = torch.ones_like(base, dtype=torch.bool) if bare else allowed(problem, base, state_only)
    reward = standardised(proxy, base) if kind == "maxmin" else proxy
    span = float(reward[inside].max() - reward[inside].min()) or 1.0
    answers: Iterable[tuple[Tensor, Tensor]]
    if kind == "ad_kl":
        answers = [ad_kl_optimum(problem, proxy, base, strength)]
    elif kind == "kl" and not state_only:
        answers = [kl_optimum(problem, proxy, base, strength)]
    else:
        answers = cone_optima(problem, proxy, base, kind, strength, state_only, span)
    allowance, least = TOLERANCE * (span + strength), math.inf
    for found, prices in answers:
        mu = problem.occupancy(policy_of(torch.where(inside, found, 0.0), law_of(base)))  # the flow holds to rounding
        most = ceiling(problem, proxy, base, kind, strength, prices, mu, state_only=state_only)
        gap = most - worth(mu, proxy, base, kind, strength, state_only=state_only)
        if gap <= allowance and float(mu[~inside].sum()) <= 1e-12:
            return mu
        least = min(least, gap)
    raise NumericsError(
        f"expected an optimum under {kind} at strength {strength:g} within {allowance:.3g} of its bound, "
        f"got {least:.3g}; take a larger strength, or a base that is an occupancy here, with no action next to never"
    )


def check(
    problem: FiniteProblem, proxy: Tensor, base: Tensor, kind: Regulariser, strength: float, state_only: bool
) -> None:
    """Settings and data at the door."""
    if kind not in get_args(Regulariser):
        raise ConfigError(f"kind must be one of {', '.join(get_args(Regulariser))}, got {kind!r}")
    check_not_negative("strength", strength)
    if not bool(torch.isfinite(proxy).all() and torch.isfinite(base).all()):
        raise DataError("proxy and base must be finite, got infinities or NaN; look where they were computed")
    if kind not in ("none", "ad_kl") and float(problem.start[base.sum(1) <= 0.0].sum()) > 0.0:
        raise DataError("the base must visit every state that starts an episode, got one it never visits; take another")
    if kind == "maxmin":
        check_correlation(strength)
        if not float(spread(proxy, base)[1]) > 1e-12 * float(proxy.abs().max()):
            raise DataError("the proxy is constant on the reference: no correlation is defined; take another reference")
    if state_only and kind in ("ad_kl", "maxmin"):
        raise ConfigError(f"{kind} compares actions, got state_only=True; take sqrt_chi2, chi2 or kl, or leave it out")


def cone_optima(
    problem: FiniteProblem,
    proxy: Tensor,
    base: Tensor,
    kind: Regulariser,
    strength: float,
    state_only: bool,
    span: float,
) -> Iterator[tuple[Tensor, Tensor]]:  # -> [S, A], [S]
    """mu and prices from Clarabel, in units of the reward's span, then of lambda if that was not enough."""
    cp = cvxpy()
    states, actions = proxy.shape
    mu = cp.Variable((states, actions), nonneg=True)
    flat = cp.reshape(mu, (states * actions,), order="C")
    arrives = flat @ sparse(problem.transition.numpy().reshape(states * actions, states))
    flow = cp.sum(mu, axis=1) == (1.0 - problem.discount) * problem.start.numpy() + problem.discount * arrives
    constraints, objective = [flow], cp.sum(cp.multiply(mu, proxy.numpy()))
    if kind != "none":
        weight, there = (base.sum(1), cp.sum(mu, axis=1)) if state_only else (base.reshape(-1), flat)
        seen = (weight > 0.0).numpy()
        if not seen.all():
            constraints.append(there[~seen] == 0.0)
        weight = weight.numpy()[seen]
        root = np.sqrt(weight)
        change = cp.multiply(1.0 / root, there[seen]) - root  # sqrt(mu0) (L - 1)
        if kind == "maxmin":
            x, p = standardised(proxy, base).numpy().ravel(), cp.Variable()
            constraints.append(p == cp.sum(cp.multiply(flat, x)))  # a variable of its own keeps the program sparse
            rest = cp.norm(change - p * (root * x[seen]), 2)
            objective = strength * p - math.sqrt(1.0 - strength**2) * rest
        elif kind == "kl":
            objective -= strength * cp.sum(cp.rel_entr(there[seen], weight))
        else:
            objective -= strength * (cp.norm(change, 2) if kind == "sqrt_chi2" else cp.sum_squares(change))
    for unit in (span,) if kind in ("none", "maxmin") else (span, strength):
        program = cp.Problem(cp.Maximize(objective / unit), constraints)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # an inaccurate answer is judged by the caller
            try:
                program.solve(solver=cp.CLARABEL)
            except cp.error.SolverError:
                continue
        if mu.value is not None and flow.dual_value is not None:
            yield torch.from_numpy(mu.value).clamp(min=0.0), unit * torch.from_numpy(flow.dual_value)


def sparse(matrix: Any) -> Any:
    """Most states lead to few others."""
    from scipy.sparse import csr_matrix

    return csr_matrix(matrix)
