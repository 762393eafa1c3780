"""Linear rules of trade in `Market`: the best, the Gaussian occupancy of each, what it earns, how far two are apart.

A rule trades from the weight x to w = level + keep x + slope s + spread z. The signal forgets exp(-phi dt) =: rho per
interval, and (s, x, w) is stationary and Gaussian, with

    var w = slope^2 (1 + keep rho) / ((1 - keep rho)(1 - keep^2)) + spread^2 / (1 - keep^2)
    cov(s, w) = slope / (1 - keep rho),   cov(s, x) = rho cov(s, w),   cov(x, w) = keep var w + slope cov(s, x)

The best rule for a slope kappa of the return and an impact Lambda, with delta = exp(-beta dt), A = gamma sigma^2 dt and
L = Lambda / dt, has the value -P x^2 / 2 + (q0 + q1 s) x + ..., where

    delta P^2 + (A + L - delta L) P = A L,   q0 = L mu dt / (A + L + delta P - delta L),
    q1 = L kappa dt / (A + L + delta P - delta rho L),
    w = (L x + mu dt + delta q0 + (kappa dt + delta rho q1) s) / (A + L + delta P);   Merton's and Markowitz's if L = 0

Source: Gârleanu and Pedersen, "Dynamic trading with predictable returns and transaction costs", J. Finance 68, 2013.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

if TYPE_CHECKING:
    from rlcore.envs.hacking.market import MarketConfig

MONTHS = 12.0  # in a year
PERCENT = 100.0
Array = NDArray[np.float64]


@dataclass(frozen=True)
class LinearRule:
    """Trade to w = level + keep x + slope s + spread z: a policy of `Market`."""

    level: float
    keep: float
    slope: float
    spread: float
    """Standard deviation of the weight, from interval to interval."""
    dt: float
    """Interval [year]."""
    noise_dim: int = 1

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:  # [B, 2] -> [B, 1] 1/month
        signal, held = obs[:, :1], obs[:, 1:2]
        trade = self.level + (self.keep - 1.0) * held + self.slope * signal
        if noise is not None:
            trade = trade + self.spread * noise
        return trade / (MONTHS * self.dt)


class Gaussian(NamedTuple):
    """A law of (s, x, w)."""

    mean: Array  # [3]
    cov: Array  # [3, 3]


class Earned(NamedTuple):
    """What a law earns [% / year], how the two rewards of an interval vary [%], and their correlation."""

    proxy: float
    true: float
    proxy_sd: float
    true_sd: float
    r: float


def best_rule(c: MarketConfig, slope: float, impact: float) -> LinearRule:
    """The rule that is best for returns mu + slope s [1/year] and an impact [year]."""
    a, cost, rho, delta = c.risk_aversion * c.volatility**2 * c.dt, impact / c.dt, forgetting(c), discount(c)
    b = a + cost - delta * cost
    p = (-b + math.sqrt(b * b + 4.0 * delta * a * cost)) / (2.0 * delta)
    d = a + cost + delta * p
    q0, q1 = cost * c.premium * c.dt / (d - delta * cost), cost * slope * c.dt / (d - delta * rho * cost)
    return LinearRule((c.premium * c.dt + delta * q0) / d, cost / d, (slope * c.dt + delta * rho * q1) / d, 0.0, c.dt)


def forgetting(c: MarketConfig) -> float:
    """rho, what is left of the signal after an interval."""
    return math.exp(-c.fading * c.dt)


def discount(c: MarketConfig) -> float:
    """delta."""
    return math.exp(-c.discount_rate * c.dt)


def occupancy(c: MarketConfig, rule: LinearRule) -> Gaussian:
    """The stationary law of signal, weight held and weight chosen."""
    k, b, rho = rule.keep, rule.slope, forgetting(c)
    sw = b / (1.0 - k * rho)
    w = (b * b * (1.0 + k * rho) / (1.0 - k * rho) + rule.spread**2) / (1.0 - k * k)
    sx = rho * sw
    xw, m = k * w + b * sx, rule.level / (1.0 - k)
    return Gaussian(np.array([0.0, m, m]), np.array([[1.0, sx, sw], [sx, w, xw], [sw, xw, w]]))


def quadratic(c: MarketConfig, slope: float, impact: float) -> tuple[Array, Array]:
    """H, g of a reward g y + y H y / 2 of y = (s, x, w) in one interval [%]."""
    one, cost = PERCENT * c.dt, PERCENT * impact / c.dt
    risk = one * c.risk_aversion * c.volatility**2
    h = np.array([[0.0, 0.0, one * slope], [0.0, -cost, cost], [one * slope, cost, -cost - risk]])
    return h, np.array([0.0, 0.0, one * c.premium])


def earned(c: MarketConfig, law: Gaussian) -> Earned:
    """Means and covariances of quadratics of Gaussians: g S g' + tr(H S H' S) / 2 with gradients g at the mean."""
    both = [quadratic(c, c.promise, 0.0), quadratic(c, c.delivered, c.impact)]
    m, s = law
    means = [float(g @ m + 0.5 * (m @ h @ m + np.trace(h @ s))) / c.dt for h, g in both]
    at = [g + h @ m for h, g in both]

    def covariance(i: int, j: int) -> float:
        return float(at[i] @ s @ at[j] + 0.5 * np.trace(both[i][0] @ s @ both[j][0] @ s))

    sds = [math.sqrt(max(covariance(i, i), 0.0)) for i in (0, 1)]
    r = covariance(0, 1) / (sds[0] * sds[1]) if min(sds) > 0.0 else math.nan
    return Earned(means[0], means[1], sds[0], sds[1], r)


def root_chi2(law: Gaussian, base: Gaussian) -> float:
    """sqrt(chi^2) of two Gaussians; infinite unless 2 / cov - 1 / cov0 is positive."""
    if np.linalg.matrix_rank(law.cov) < len(law.cov):
        return math.inf
    own, other = np.linalg.inv(law.cov), np.linalg.inv(base.cov)
    both = 2.0 * own - other
    if np.linalg.eigvalsh(both)[0] <= 0.0:
        return math.inf
    h = 2.0 * own @ law.mean - other @ base.mean
    exponent = 0.5 * h @ np.linalg.solve(both, h) - law.mean @ own @ law.mean + 0.5 * base.mean @ other @ base.mean
    size = math.sqrt(np.linalg.det(base.cov) / np.linalg.det(both)) / np.linalg.det(law.cov)
    return math.sqrt(max(math.exp(exponent) * size - 1.0, 0.0))


def kullback_leibler(law: Gaussian, base: Gaussian) -> float:
    """KL(law | base) of two Gaussians."""
    other, off = np.linalg.inv(base.cov), law.mean - base.mean
    logs = np.linalg.slogdet(base.cov)[1] - np.linalg.slogdet(law.cov)[1]
    return float(0.5 * (np.trace(other @ law.cov) + off @ other @ off - len(off) + logs))


def certified_strength(c: MarketConfig, base: LinearRule) -> float:
    """lambda* of a base [% / year]."""
    known = earned(c, occupancy(c, base))
    return known.proxy_sd * math.sqrt(1.0 - known.r**2) / c.dt


def held_rule(
    c: MarketConfig,
    base: LinearRule,
    share: float = 1.0,
    distance: Callable[[Gaussian, Gaussian], float] = root_chi2,
    start: LinearRule | None = None,
) -> LinearRule:
    """The linear rule that maximises J(P) - share lambda* distance(mu, mu0), from `start`: by Nelder and Mead."""
    reference, strength = occupancy(c, base), share * certified_strength(c, base)

    def rule(z: Array) -> LinearRule:
        return LinearRule(float(z[0]), math.tanh(z[1]), float(z[2]), math.exp(z[3]), c.dt)

    def loss(z: Array) -> float:
        law = occupancy(c, rule(z))
        far = distance(law, reference)
        return strength * far - earned(c, law).proxy if math.isfinite(far) else 1e6

    near = replace(base, slope=1.05 * base.slope, spread=0.9 * base.spread) if start is None else start
    z = np.array([near.level, math.atanh(near.keep), near.slope, math.log(near.spread)])
    options = {"maxiter": 4000, "maxfev": 4000, "xatol": 1e-8, "fatol": 1e-10}
    for _ in range(3):  # a simplex that has collapsed begins anew
        z = minimize(loss, z, method="Nelder-Mead", options=options).x
    return rule(z)
