"""What can be had exactly: the optimum of reward less a divergence, the exponential tilt, the best of N samples.

One prompt: log-probabilities of the reference and rewards over n outcomes, [..., n]. Divergences are D_f(pi | mu).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rlcore.checks import check_positive, check_shape
from rlcore.errors import ConfigError
from rlcore.functional.divergence import Divergence, TotalVariation, kl

BISECTIONS = 100


def regularised_optimum(divergence: Divergence, log_reference: Tensor, reward: Tensor, beta: float) -> Tensor:
    """log of argmax over pi of E_pi r - beta D_f(pi | mu): pi = mu (f')^-1((r - nu) / beta), nu so that it sums to 1.

    Where f'(0) is finite outcomes may get nothing, log-probability -inf.
    Source: Wang et al., "Beyond reverse KL", ICLR 2024, theorem 1.
    """
    check_positive("beta", beta)
    if isinstance(divergence, TotalVariation):
        raise ConfigError("total variation has no slope to invert; use one of the other divergences")
    at_one = float(divergence.slope_at_log(torch.zeros((), dtype=torch.float64)))
    best, worst = reward.amax(-1, keepdim=True), reward.amin(-1, keepdim=True)
    low = torch.maximum(worst - beta * at_one, best - beta * divergence.highest_slope)  # all ratios >= 1, or the pole
    high = best - beta * at_one  # all ratios <= 1
    mu = log_reference.exp()
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        mass = (mu * divergence.inverse((reward - middle) / beta)).sum(-1, keepdim=True)
        too_much = mass > 1.0
        low, high = torch.where(too_much, middle, low), torch.where(too_much, high, middle)
    ratio = divergence.inverse((reward - high) / beta)
    return log_reference + ratio.log() - (mu * ratio).sum(-1, keepdim=True).log()


def tilt(log_reference: Tensor, reward: Tensor, strength: float | Tensor) -> Tensor:  # [..., n] -> [..., n]
    """log of mu e^(s r) / Z: of all policies with its mean reward the nearest to mu in KL(. | mu).

    With Lambda(s) = log E_mu e^(s r): E r = Lambda'(s), KL(. | mu) = s Lambda'(s) - Lambda(s), and any psi with
    the same mean reward has KL(psi | mu) = KL(psi | tilt) + KL(tilt | mu).
    Source: Yang et al., "Asymptotics of language model alignment", 2024.
    """
    return torch.log_softmax(log_reference + strength * reward, -1)


def tilt_at_divergence(log_reference: Tensor, reward: Tensor, divergence: float) -> Tensor:  # [n] -> [n]
    """The tilt with KL(tilt | mu) of that many nats, by bisection on its strength."""
    check_positive("divergence", divergence, "nats")
    best = reward == reward.max()
    most = -float(log_reference[best].logsumexp(-1))
    if divergence >= most:
        raise ConfigError(f"the best outcomes are only {most:.6g} nats away, got {divergence}; ask for less")
    low, high = 0.0, 1.0 / float(reward.max() - reward.min())
    while float(kl(tilt(log_reference, reward, high), log_reference)) < divergence:
        low, high = high, 2.0 * high
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        below = float(kl(tilt(log_reference, reward, middle), log_reference)) < divergence
        low, high = (middle, high) if below else (low, middle)
    return tilt(log_reference, reward, high)


def best_of_n(log_reference: Tensor, reward: Tensor, log_n: float) -> Tensor:  # [n] -> [n]
    """log-probabilities of the best by reward of N = e^log_n samples of mu; equals are drawn in proportion to mu.

    pi_N(y) = F(r_y)^N - F(r_y^-)^N with F the distribution of the reward under mu. In logarithms throughout, so that N
    may be e^500. KL(pi_N | mu) <= log N - (N - 1) / N, and its win rate against mu is at most N / (N + 1).
    Source: Beirami et al., "Theoretical guarantees on the best-of-n alignment policy", 2024.
    """
    if log_reference.dim() != 1 or not 0.0 <= log_n < math.inf:
        raise ConfigError(f"need outcomes [n] and log N >= 0, got {list(log_reference.shape)} and {log_n}")
    check_shape("reward", reward, tuple(log_reference.shape))
    levels, group = torch.unique(reward, return_inverse=True)  # ascending
    scale = log_reference.new_full((len(levels),), -math.inf).scatter_reduce(0, group, log_reference, "amax")
    shares = torch.zeros_like(scale).index_add_(0, group, (log_reference - scale[group]).exp())
    mass = scale + shares.log()  # log mu of each level
    above = mass.flip(0).logcumsumexp(0).flip(0)[1:]  # log of what lies above each level but the last
    below = mass.logcumsumexp(0)[:-1]
    log_f = torch.where(above < math.log(0.5), torch.log1p(-above.exp()), below)
    tail = torch.where(log_f < 0.0, (-log_f).log(), above)  # log(-log F); F rounds to 1 where so little is above
    power = torch.cat([-(log_n + tail).exp(), log_f.new_zeros(1)])  # N log F
    before = torch.cat([log_f.new_full((1,), -math.inf), power[:-1]])
    rise = torch.log(-torch.expm1(before - power))  # log(1 - F(r^-)^N / F(r)^N)
    return (power + rise)[group] + log_reference - mass[group]


def best_of_n_bound(log_n: float) -> float:
    """log N - (N - 1) / N, the most that KL(best of N | mu) can be; reached by continuous rewards."""
    return log_n + math.expm1(-log_n)
