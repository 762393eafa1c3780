"""Losses on preferences and on samples, as pure functions of log-ratios d = log pi - log mu of whole sequences.

All work in float32 at least, whatever comes in: d reaches hundreds of nats, and differences of slopes are formed
without overflow (`Divergence.slope_difference`). Divergences are D_f(pi | mu), u = e^d.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from rlcore.checks import check_positive
from rlcore.functional.divergence import LARGEST_EXPONENT, ChiSquaredKl, Divergence, clipped_exponential

EDGE = 1e-6
"""How far inside its domain the argument of a conjugate is kept."""


def wide(x: Tensor) -> Tensor:
    """At least float32."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def f_dpo_logits(divergence: Divergence, chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:  # [N], [N] -> [N]
    """beta (f'(u_w) - f'(u_l)): the implied difference of rewards, in which the normaliser cancels.

    Source: Wang et al., "Beyond reverse KL", ICLR 2024, equation 9; Rafailov et al., NeurIPS 2023, for f = u log u.
    """
    check_positive("beta", beta)
    return beta * divergence.slope_difference(wide(chosen), wide(rejected))


def preference_loss(logits: Tensor, preferred: float | Tensor = 1.0) -> Tensor:  # [N] -> [N]
    """-p log sigma(logit) - (1 - p) log sigma(-logit), p the probability that the first was preferred."""
    return -preferred * logsigmoid(logits) - (1.0 - preferred) * logsigmoid(-logits)


def f_dpo_loss(divergence: Divergence, chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:  # [N], [N] -> [N]
    """-log sigma(beta (f'(u_w) - f'(u_l))) for each pair."""
    return preference_loss(f_dpo_logits(divergence, chosen, rejected, beta))


def chi_po_loss(chosen: Tensor, rejected: Tensor, beta: float, largest: float) -> Tensor:  # [N], [N] -> [N]
    """f-DPO with the slope u + log u, whose logits are clipped to twice the largest reward, +-2 R.

    Source: Huang et al., "Correcting the mythos of KL-regularization", arXiv 2407.13399, algorithm 1.
    """
    check_positive("largest", largest)
    logits = f_dpo_logits(ChiSquaredKl(), chosen, rejected, beta)
    return preference_loss(logits.clamp(-2.0 * largest, 2.0 * largest))


def saturated_share(logits: Tensor, beyond: float = 20.0) -> Tensor:  # [N] -> []
    """How many of the pairs are so far apart that they no longer teach anything, or teach only themselves."""
    return (logits.abs() > beyond).to(wide(logits)).mean()


def pseudo_reward(
    divergence: Divergence, log_policy: Tensor, log_target: Tensor, log_partition: float | Tensor
) -> Tensor:
    """-f'(pi / p) of samples [N], p = e^log_target / Z: what to reward in order to descend D_f(pi | p).

    grad D_f(pi | p) = E_pi[f'(pi / p) grad log pi]; it is a number to reinforce, so it carries no gradient.
    Source: Go et al., "Aligning language models with preferences through f-divergence minimization", ICML 2023.
    """
    return -divergence.slope_at_log(wide(log_policy - log_target).detach() + log_partition)


def f_dpg_loss(
    log_policy: Tensor, reward: Tensor, baseline: float | Tensor = 0.0, log_sampler: Tensor | None = None
) -> Tensor:  # [N], [N] -> []
    """-mean of w (r - b) log pi, w = pi / q of the sampler q, 1 on policy; no constant b changes its mean gradient."""
    weight = 1.0 if log_sampler is None else (log_policy.detach() - log_sampler).exp()
    return -(weight * (reward - baseline) * log_policy).mean()


def f_sft_loss(divergence: Divergence | None, log_ratio: Tensor, beta: float, value: float | Tensor = 0.0) -> Tensor:
    """-(phi(beta d + V) - V) of demonstrations [N], phi(x) = -f*(-x), V the soft value of the prompt.

    With phi(x) = x, that of total variation, V cancels and plain supervised fine-tuning is left, without any pull to
    the reference: None. All others weigh a sample by phi'(x), which falls as the policy passes the reference. x is kept
    inside the domain of f*, and goes on along the tangent where only the numbers end.
    Source: Wang et al., "Implicit reward as the bridge", 2025; the conjugates are derived here.
    """
    check_positive("beta", beta)
    x = beta * wide(log_ratio) + value
    if divergence is None:
        return value - x
    top = min(divergence.highest_slope - EDGE, LARGEST_EXPONENT)
    inside = (-x).clamp(divergence.lowest_slope, top)
    beyond = (-x - top).clamp(min=0.0) if divergence.highest_slope == math.inf else 0.0
    return divergence.conjugate(inside) + divergence.inverse(inside).detach() * beyond + value


def sequence_kl(log_ratio: Tensor) -> Tensor:  # [N] of samples of pi -> []
    """KL(pi | mu) as the mean of d + e^-d - 1, never negative, with the exponential clipped."""
    d = wide(log_ratio)
    return (d + clipped_exponential(-d) - 1.0).mean()


def sequence_chi_squared(log_ratio: Tensor) -> Tensor:  # [N] of samples of pi -> []
    """chi^2(pi | mu) as the mean of (e^d - 1) + (e^-d - 1), d = log pi - log mu of whole sequences.

    The second term has mean zero where mu's support is pi's; it takes most of the variance of the first away.
    Source: Laidlaw et al., "Correlated proxies", ICLR 2025, code for language models.
    """
    d = wide(log_ratio)
    return (clipped_exponential(d) + clipped_exponential(-d) - 2.0).mean()


def root_chi_squared(log_ratio: Tensor, least: float = 1e-4) -> Tensor:  # [N] -> []
    """sqrt(max(chi^2, least)), the penalty that bounds what a proxy can take from the true reward."""
    return sequence_chi_squared(log_ratio).clamp(min=least).sqrt()


def calibration_error(confidence: Tensor, correct: Tensor, bins: int = 10) -> float:  # [N] in [0, 1], [N] 0 or 1
    """sum over bins of share |accuracy - mean confidence|, the expected one (Naeini et al., AAAI 2015)."""
    place = (confidence * bins).long().clamp(0, bins - 1)
    off = correct.double() - confidence.double()
    gaps = off.new_zeros(bins).index_add_(0, place, off)
    return float(gaps.abs().sum() / len(confidence))
