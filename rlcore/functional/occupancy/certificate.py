"""How far an occupancy can be from the regularised optimum: what it is worth, and what nothing can exceed.

Any prices v of states turn the Bellman flow into a reward, e(s, a) = P + g sum P(s'|s, a) v(s') - v(s), and

    max over mu of <mu, P> - lambda D(mu, mu0)  <=  (1 - g) <start, v> + sup over L >= 0 of E_mu0[L e] - lambda D(L)

with equality at the right prices (Fenchel duality), whatever found them. The right-hand side is closed:

| D         | sup over L                                                                              |
|-----------|-----------------------------------------------------------------------------------------|
| none      | max e                                                                                   |
| KL        | lambda log E_mu0[exp(e / lambda)]                                                       |
| KL, laws  | max over s of lambda log sum_a pi0(a|s) exp(e / lambda)                                 |
| chi^2     | E_mu0[e + e^2 / (4 lambda)], and -lambda instead where e < -2 lambda                    |
| sqrt(chi^2) | E_mu0[h], h = max(e, c - t), for any c and t with sd_mu0(h) <= lambda                 |
| max-min   | the same with r X for P, s for lambda and t (1 + p X) for t, plus q E_mu0[X h]          |

q is the worse of the ends of X, and its term vanishes at the optimum. Derived here from the definitions.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from rlcore.functional.occupancy.bounds import spread
from rlcore.functional.occupancy.tabular import FiniteProblem

Regulariser = Literal["none", "sqrt_chi2", "chi2", "kl", "ad_kl", "maxmin"]


def allowed(problem: FiniteProblem, base: Tensor, state_only: bool) -> Tensor:  # [S, A] -> [S, A]
    """Where mu << mu0 can have mass: the base's pairs, or all that stay among its states."""
    if not state_only:
        return base > 0.0
    seen = base.sum(1) > 0.0
    return seen.unsqueeze(1) & (problem.transition[..., ~seen].sum(-1) == 0.0)


def law_of(base: Tensor) -> Tensor:  # [S, A] -> [S, A]
    """pi0(a|s), uniform where the base never comes."""
    visits = base.sum(1, keepdim=True)
    return torch.where(visits > 0.0, base / visits.clamp(min=1e-300), 1.0 / base.shape[1])


def standardised(proxy: Tensor, base: Tensor) -> Tensor:  # [S, A] -> [S, A]
    """X, of mean 0 and standard deviation 1 under the base."""
    mean, sd = spread(proxy, base)
    return (proxy - mean) / sd


def worth(mu: Tensor, proxy: Tensor, base: Tensor, kind: Regulariser, strength: float, *, state_only: bool) -> float:
    """<mu, P> - lambda D(mu, mu0), or r p - s sqrt(C^2 - p^2) for `maxmin`."""
    gain = float((mu * proxy).sum())
    if kind == "none":
        return gain
    if kind == "ad_kl":
        law = mu / mu.sum(1, keepdim=True).clamp(min=1e-300)
        return gain - strength * float(torch.special.xlogy(mu, law / law_of(base).clamp(min=1e-300)).sum())
    there, weight = (mu.sum(1), base.sum(1)) if state_only else (mu, base)
    seen = weight > 0.0
    ratio, weight = there[seen] / weight[seen], weight[seen]  # [K], [K]
    if kind == "kl":
        return gain - strength * float((weight * torch.special.xlogy(ratio, ratio)).sum())
    if kind == "maxmin":
        x = standardised(proxy, base)
        p = (mu * x).sum()
        rest = float((weight * (ratio - 1.0 - p * x[seen]).square()).sum())
        return strength * float(p) - math.sqrt((1.0 - strength**2) * rest)
    chi2 = float((weight * (ratio - 1.0).square()).sum())
    return gain - strength * (chi2 if kind == "chi2" else math.sqrt(chi2))


def ceiling(
    problem: FiniteProblem,
    proxy: Tensor,
    base: Tensor,
    kind: Regulariser,
    strength: float,
    prices: Tensor,
    near: Tensor,
    *,
    state_only: bool,
) -> float:  # prices [S], near [S, A]
    """The right-hand side above: no occupancy is worth more. `near`, what is thought optimal, gives w its p."""
    reward = strength * standardised(proxy, base) if kind == "maxmin" else proxy
    paid = (1.0 - problem.discount) * float(problem.start @ prices)
    e = reward + problem.discount * problem.transition @ prices - prices.unsqueeze(1)  # [S, A]
    if kind == "none":
        return paid + float(e.max())
    if kind == "ad_kl":
        return paid + strength * float((e / strength + law_of(base).log()).logsumexp(1).max())
    inside = allowed(problem, base, state_only)
    if state_only:
        seen, weight = base.sum(1) > 0.0, base.sum(1)
        e, weight = e.masked_fill(~inside, -math.inf).amax(1)[seen], weight[seen]
    else:
        e, weight = e[inside], base[inside]
    if kind == "kl":
        return paid + strength * float((e / strength + weight.log()).logsumexp(0))
    if kind == "chi2":
        bent = torch.where(e > -2.0 * strength, e + e.square() / (4.0 * strength), -strength)
        return paid + float((weight * bent).sum())
    if kind == "sqrt_chi2":
        return paid + float((weight * cut(e, weight, strength, torch.ones_like(e))).sum())
    x = standardised(proxy, base)[inside]
    tilt = 1.0 + (near[inside] * x).sum() * x
    held = cut(e, weight, math.sqrt(1.0 - strength**2), tilt)
    slope = (weight * x * held).sum()
    return paid + float((weight * held).sum() + torch.maximum(slope * x.max(), slope * x.min()))


def cut(e: Tensor, weight: Tensor, size: float, tilt: Tensor) -> Tensor:  # [K], [K], [K] -> [K]
    """max(e, c - t w) for the largest t that brings its standard deviation down to `size`; c + E[...] = 0 without c.

    Any c and t with that deviation give a bound, so the roots need not be exact.
    """

    def at(t: float) -> Tensor:
        low, high = float(e.min()), float((e + t * tilt.abs()).max())
        for _ in range(60):
            c = 0.5 * (low + high)
            low, high = (c, high) if float((weight * torch.maximum(e - c, -t * tilt)).sum()) > 0.0 else (low, c)
        return torch.maximum(e, high - t * tilt)

    if float(spread(e, weight)[1]) <= size:
        return e
    low, high = 0.0, 1.0
    while high < 1e9 and float(spread(at(high), weight)[1]) <= size:
        low, high = high, 2.0 * high
    for _ in range(60):
        t = 0.5 * (low + high)
        low, high = (t, high) if float(spread(at(t), weight)[1]) <= size else (low, t)
    return at(low)
