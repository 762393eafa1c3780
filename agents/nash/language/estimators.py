"""Losses of texts: what a proximal step or a preference asks of the log-probabilities of whole sequences.

    log pi(y) = sum over t of log pi(y_t | y_<t),   pull = beta log mu + lambda log anchor,   total = beta + lambda

Letters: N prompts, K candidates for each, T tokens. Everything per token is zero on padding.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from rlcore.agents.nash.estimators import sampled_gradient_loss
from rlcore.functional.alignment import chi_po_loss, f_dpo_logits, preference_loss
from rlcore.functional.divergence import Divergence

Credit = Literal["text", "to_go", "token"]


def text_gradient_loss(
    log_pi: Tensor, wins: Tensor, pull: Tensor, total: float, credit: Credit
) -> Tensor:  # [N, K, T], [N, K], [N, K, T] -> []
    """`sampled_gradient_loss` of the tokens of a text, each with the part of the reward that it can still change.

        text    R_t = p(y > o) + sum over all s  of pull_s - total log pi_s
        to_go   R_t = p(y > o) + sum over s >= t of pull_s - total log pi_s
        token   R_t = p(y > o) - 1/2 + pull_t - total log pi_t, and no baseline

    The first two have the gradient of the objective as their mean, the second with less variance. The third has not: a
    token also changes the log-ratios of those that come after it. It is what some trainers do, and kept as a control.
    """
    penalty = (pull - total * log_pi).detach()
    if credit == "token":
        return -((wins.unsqueeze(-1) - 0.5 + penalty) * log_pi).sum() / wins.numel()
    whole = penalty.sum(-1, keepdim=True)
    rest = whole.expand_as(penalty) if credit == "text" else whole - penalty.cumsum(-1) + penalty
    return sampled_gradient_loss(log_pi, wins.unsqueeze(-1) + rest)


def pair_loss(score: Tensor, wins: Tensor) -> Tensor:  # [N, 2], [N] -> []
    """Half the mean square of s(y) - s(y') - (p(y > y') - 1/2), s = total log pi - pull: IPO.

    With both texts from the opponent o its minimiser is s = P o + const, the proximal point; with both from the current
    policy its gradient is that of self-play.
    Source: Calandriello et al., ICML 2024; Zhang et al., "Iterative Nash policy optimization", ICLR 2025.
    """
    return 0.5 * (score[:, 0] - score[:, 1] - wins + 0.5).square().mean()


def dpo_loss(
    divergence: Divergence, log_ratio: Tensor, wins: Tensor, total: float
) -> Tensor:  # [N, 2] log pi - pull / total, [N] -> []
    """f-DPO on pairs that are preferred with probability p."""
    logits = f_dpo_logits(divergence, log_ratio[:, 0], log_ratio[:, 1], total)
    return preference_loss(logits, wins.to(logits)).mean()


def chi_po_pairs(log_ratio: Tensor, wins: Tensor, total: float, largest: float) -> Tensor:  # [N, 2], [N] -> []
    """chi-PO on the same: the pair both ways round, each as often as it is preferred."""
    first = chi_po_loss(log_ratio[:, 0], log_ratio[:, 1], total, largest)
    second = chi_po_loss(log_ratio[:, 1], log_ratio[:, 0], total, largest)
    return torch.lerp(second, first, wins.to(first)).mean()
