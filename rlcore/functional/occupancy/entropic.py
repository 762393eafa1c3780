"""Optima under KL divergences from their duals, which are smooth: to rounding, where exponential cones lose digits.

On occupancies, with the prices v and the reward e of `certificate`,

    min over v of (1 - g) <start, v> + lambda log E_mu0[exp(e / lambda)],    mu = mu0 exp(e / lambda) / E_mu0[...]

by Newton's method, whose step is cut to log(1 + b) / b where it would move e / lambda by b: the safe one for a sum of
exponentials, so no line search is needed. lambda comes down by thirds from the size of the proxy. On actions,

    v(s) = lambda log sum_a pi0(a|s) exp((P + g sum P(s'|s, a) v(s')) / lambda)

by policy iteration, which is Newton's method too.
Source for the step: Sun and Tran-Dinh, Mathematical Programming 178 (2019), generalised self-concordance of order 2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rlcore.functional.occupancy.certificate import law_of
from rlcore.functional.occupancy.tabular import FiniteProblem

STEPS = 500


def kl_optimum(
    problem: FiniteProblem, proxy: Tensor, base: Tensor, strength: float
) -> tuple[Tensor, Tensor]:  # -> [S, A], [S]
    """mu and the prices under lambda KL(mu, mu0)."""
    seen, known = base > 0.0, base.sum(1) > 0.0
    states = len(problem.start)
    leaves = torch.eye(states, dtype=base.dtype).unsqueeze(1) - problem.discount * problem.transition
    flow, source = leaves[seen][:, known], (1.0 - problem.discount) * problem.start[known]  # [K, N], [N]
    reward, weight = proxy[seen], base[seen].log()  # [K], [K]
    v = torch.zeros_like(source)
    level = max(strength, float(reward.max() - reward.min()))
    for _ in range(STEPS):
        q = torch.softmax((reward - flow @ v) / level + weight, 0)
        step, decrement = newton(flow, q, source - flow.mT @ q, level)
        change = flow @ step / level
        size = float(change.max() - change.min())
        v = v + step * (1.0 if size < 0.5 else math.log1p(size) / size)
        if level > strength and size < 1.0:
            level = max(strength, level / 3.0)
        elif level == strength and not decrement > 1e-14:
            break
    mu, prices = torch.zeros_like(base), torch.zeros_like(problem.start)
    mu[seen] = torch.softmax((reward - flow @ v) / level + weight, 0)
    prices[known] = v
    return mu, prices


def newton(flow: Tensor, q: Tensor, slope: Tensor, level: float) -> tuple[Tensor, float]:  # [K, N], [K], [N] -> [N]
    """-H^-1 slope for H = B' diag(q) B / lambda, and the decrease it promises, in units of lambda.

    The curvature is H - m m' / lambda with m = B' q. Constant prices change nothing and slope sums to 0, so that
    m' step = 0: without m m' the step is the same, from a regular matrix. States next to never visited need a ridge.
    """
    curvature = (flow.mT * q) @ flow / level
    top, eye = curvature.diagonal().max(), torch.eye(len(slope), dtype=q.dtype)
    for ridge in (1e-15, 1e-13, 1e-11, 1e-9, 1e-7):
        factor, failed = torch.linalg.cholesky_ex(curvature + ridge * top * eye)
        if not int(failed):
            break
    step = -torch.cholesky_solve(slope.unsqueeze(1), factor).squeeze(1)
    return step, float(-slope @ step) / level


def ad_kl_optimum(
    problem: FiniteProblem, proxy: Tensor, base: Tensor, strength: float
) -> tuple[Tensor, Tensor]:  # -> [S, A], [S]
    """mu and the prices under lambda KL(pi, pi0), weighted by the visits."""
    law0 = law_of(base)
    policy, prices = law0, torch.zeros_like(problem.start)
    for _ in range(STEPS):
        price = strength * torch.special.xlogy(policy, policy / law0.clamp(min=1e-300)) / policy.clamp(min=1e-300)
        q = problem.action_values(policy, proxy - price)  # [S, A]
        before, prices = prices, (policy * q).sum(1)
        policy = torch.softmax((q + price) / strength + law0.log(), 1)
        if float((prices - before).abs().max()) <= 1e-13 * (1.0 + float(prices.abs().max())):
            break
    return problem.occupancy(policy), prices
