"""Preference losses and closed forms: the tables of f-DPO and f-DPG, tilts, the best of N."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rlcore.functional.alignment import (
    LogPartition,
    best_of_n,
    f_dpo_logits,
    f_dpo_loss,
    pseudo_reward,
    regularised_optimum,
    tilt,
    tilt_at_divergence,
)
from rlcore.functional.divergence import ALL, INTERIOR, Alpha, ForwardKl, ReverseKl, kl
from rlcore.reporting.acceptance import Measurement, at_most, row

SYSTEM, DOUBLE = "nash", torch.float64
SMOOTH = {name: d for name, d in ALL.items() if name != "total variation"}


def problem(seed: int, n: int = 6) -> tuple[Tensor, Tensor]:
    """log-probabilities and rewards of n outcomes."""
    generator = torch.Generator().manual_seed(seed)
    mu = torch.log_softmax(torch.randn(n, dtype=DOUBLE, generator=generator), -1)
    return mu, torch.randn(n, dtype=DOUBLE, generator=generator)


@row(SYSTEM, "f-dpo-slopes", "f' of nine divergences against automatic differentiation, inverses; relative", "1e-12")
def f_dpo_slopes() -> Measurement:
    u, worst = torch.linspace(0.06, 5.0, 100, dtype=DOUBLE).requires_grad_(), 0.0
    for name, divergence in ALL.items():
        (expected,) = torch.autograd.grad(divergence.f(u).sum(), u)
        slope = divergence.slope(u.detach())
        worst = max(worst, float(((slope - expected).abs() / (1.0 + expected.abs())).max()))
        if name in SMOOTH:
            worst = max(worst, float((divergence.inverse(slope) / u.detach() - 1.0).abs().max()))
    return at_most(worst, 1e-12)


@row(SYSTEM, "f-dpo-optimum", "closed-form optima imply the true differences of rewards, 7 divergences", "1e-8")
def f_dpo_optimum() -> Measurement:
    worst = 0.0
    for seed in range(20):
        mu, reward = problem(seed)
        for divergence in INTERIOR.values():
            d = regularised_optimum(divergence, mu, reward, 0.5) - mu
            implied = f_dpo_logits(divergence, d, d.roll(1), 0.5)
            worst = max(worst, float((implied - (reward - reward.roll(1))).abs().max()))
    return at_most(worst, 1e-8)


@row(SYSTEM, "f-dpo-finite", "losses and gradients that are not finite, log-ratios to 1e4, float32 and bfloat16", "0")
def f_dpo_finite() -> Measurement:
    bad = 0
    for dtype in (torch.float32, torch.bfloat16):
        values = torch.cat([-torch.logspace(4, -2, 30), torch.zeros(1), torch.logspace(-2, 4, 30)]).to(dtype)
        for divergence in SMOOTH.values():
            pair = [v.clone().requires_grad_() for v in (values.repeat_interleave(61), values.repeat(61))]
            loss = f_dpo_loss(divergence, pair[0], pair[1], 0.1)
            gradients = torch.autograd.grad(loss.sum(), pair)
            bad += sum(int((~torch.isfinite(x)).sum()) for x in (loss, *gradients))
    return at_most(float(bad), 0.0)


@row(SYSTEM, "f-dpo-alpha", "logits of alpha 1e-4 and 1 - 1e-4 beside both KL divergences, |d| <= 1", "1e-3")
def f_dpo_alpha() -> Measurement:
    d = torch.linspace(-1.0, 1.0, 21, dtype=DOUBLE)
    pairs = (d.repeat_interleave(21), d.repeat(21))
    off = [
        (f_dpo_logits(Alpha(alpha), *pairs, 1.0) - f_dpo_logits(limit, *pairs, 1.0)).abs().max()
        for alpha, limit in ((1e-4, ReverseKl()), (1.0 - 1e-4, ForwardKl()))
    ]
    return at_most(float(max(off)), 1e-3)


@row(SYSTEM, "f-dpg-gradient", "E[f'(pi / p) grad log pi] is the gradient of D_f(pi | p), nine divergences", "1e-10")
def f_dpg_gradient() -> Measurement:
    worst = 0.0
    for seed in range(10):
        target = problem(2 * seed)[0]
        for divergence in ALL.values():
            logits = problem(2 * seed + 1)[0].requires_grad_()
            (expected,) = torch.autograd.grad(divergence.between(torch.log_softmax(logits, -1), target), logits)
            log_pi = torch.log_softmax(logits, -1)
            reward = pseudo_reward(divergence, log_pi, target + 2.0, 2.0)
            (found,) = torch.autograd.grad(-(log_pi.detach().exp() * reward * log_pi).sum(), logits)
            worst = max(worst, float((found - expected).abs().max() / (1.0 + expected.abs().max())))
    return at_most(worst, 1e-10)


@row(SYSTEM, "f-dpg-partition", "Z from 1e5 samples of the reference, relative, worst of 10 targets", "1 %")
def f_dpg_partition() -> Measurement:
    worst = 0.0
    for seed in range(10):
        mu, reward = problem(seed, n=50)
        target = mu + 0.5 * reward
        y = torch.multinomial(mu.exp(), 100_000, replacement=True, generator=torch.Generator().manual_seed(seed))
        found = LogPartition.empty().update(target[y], mu[y]).value
        worst = max(worst, abs(math.expm1(float(found - target.logsumexp(-1)))))
    return at_most(worst, 0.01)


@row(SYSTEM, "tilt-pythagoras", "KL(psi | p) = KL(psi | tilt) + KL(tilt | p) at equal mean reward, 50 cases", "1e-10")
def tilt_pythagoras() -> Measurement:
    worst = 0.0
    for seed in range(50):
        mu, reward = problem(seed)
        psi = problem(seed + 1000)[0]
        mean = (psi.exp() * reward).sum()
        low, high = -100.0, 100.0
        for _ in range(200):  # the tilt of mu with psi's mean reward
            middle = 0.5 * (low + high)
            below = bool((tilt(mu, reward, middle).exp() * reward).sum() < mean)
            low, high = (middle, high) if below else (low, middle)
        tilted = tilt(mu, reward, high)
        worst = max(worst, abs(float(kl(psi, mu) - kl(psi, tilted) - kl(tilted, mu))))
    return at_most(worst, 1e-10)


BEST = {(4, 4): 0.590310, (4, 16): 0.633370, (4, 256): 0.636283, (4, 4096): 0.636294, (64, 4): 1.386294}


@row(SYSTEM, "best-of-n", "KL(best of N | uniform over M outcomes), five pairs", "6 digits")
def best_of_n_divergence() -> Measurement:
    worst = 0.0
    for (n, outcomes), expected in BEST.items():
        mu = torch.full((outcomes,), -math.log(outcomes), dtype=DOUBLE)
        found = kl(best_of_n(mu, torch.arange(outcomes, dtype=DOUBLE), math.log(n)), mu)
        worst = max(worst, abs(float(found) - expected))
    return at_most(worst, 6e-7)


TOKENS = {  # m: mean reward per token, KL(BoN | p) / m, KL(BoN | tilt) / m
    10: (0.4126, 0.0350, 0.02743),
    50: (0.4776, 0.0793, 0.01280),
    200: (0.5020, 0.0947, 0.00613),
    1000: (0.5113, 0.0989, 0.00199),
    5000: (0.5138, 0.0998, 0.00056),
}


@row(SYSTEM, "best-of-many", "best of e^(0.1 m) of m Bernoulli(0.3) tokens beside the tilt, 15 figures", "all digits")
def best_of_many() -> Measurement:
    worst = 0.0
    for length, expected in TOKENS.items():
        k = torch.arange(length + 1, dtype=DOUBLE)
        ways = math.lgamma(length + 1) - torch.lgamma(k + 1.0) - torch.lgamma(length - k + 1.0)
        mu = ways + k * math.log(0.3) + (length - k) * math.log(0.7)
        best, target = best_of_n(mu, k, 0.1 * length), tilt_at_divergence(mu, k, 0.1 * length)
        found = ((best.exp() * k).sum(), kl(best, mu), kl(best, target))
        units = (1e-4, 1e-4, 1e-5)
        off = [abs(float(f) / length - e) / u for f, e, u in zip(found, expected, units, strict=True)]
        worst = max(worst, *off)
    return Measurement("<= 0.51 of the last digit", worst, worst <= 0.51)
