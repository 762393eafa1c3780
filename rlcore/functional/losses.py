"""The losses of off-policy actor-critic methods, as pure functions.

Everything leads with the seeds S, whose losses are means over their own rows, summed: the gradient of one seed's
parameters is what it would be alone. Q is [S, E, N] over E critics; m discount and terminations are in `discount`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rlcore.errors import ConfigError


def over_seeds(loss: Tensor) -> Tensor:  # [S, ...] -> []
    """The mean of each seed, summed."""
    return loss.flatten(1).mean(1).sum()


def td_target(reward: Tensor, discount: Tensor, next_value: Tensor) -> Tensor:  # [S, N] -> [S, N]
    """y = r + exp(-beta dt) (1 - terminated) V(x'), (Haarnoja et al. 2018, equation 3), with V from below."""
    return reward + discount * next_value


def least_of(q: Tensor) -> Tensor:  # [S, k, N] -> [S, N]
    """min over the critics drawn (Chen et al., "Randomized ensembled double Q-learning", ICLR 2021, equation 1)."""
    return q.amin(1)


def best_of_least(q: Tensor) -> Tensor:  # [S, k, n, N] -> [S, N]
    """max over n actions of the min over critics: the target of CQL and of WSRL's AntMaze configuration."""
    return q.amin(1).amax(1)


def td_loss(q: Tensor, target: Tensor) -> Tensor:  # [S, E, N], [S, N] -> []
    """mean over critics and rows of (Q - y)^2, without the factor 1/2."""
    return over_seeds((q - target.unsqueeze(1)) ** 2)


def soft_actor_loss(log_prob: Tensor, q: Tensor, temperature: Tensor) -> Tensor:  # [S, N], [S, N], [S] -> []
    """E[T log pi(u | x) - Q(x, u)] (Haarnoja et al. 2018, equation 7)."""
    return over_seeds(temperature.unsqueeze(1) * log_prob - q)


def temperature_loss(temperature: Tensor, log_prob: Tensor, target_entropy: float) -> Tensor:  # [S], [S, N] -> []
    """T (H - H*), H = -E log pi (Haarnoja et al. 2018, equation 18); only T is to be moved by it."""
    return (temperature * (-log_prob.detach().mean(1) - target_entropy)).sum()


def conservative_gap(
    sampled: Tensor, data: Tensor, log_density: Tensor | None
) -> Tensor:  # [S, k, n, N], [S, k, N], [S, n, N] -> [S, k, N]
    """log-sum-exp of Q over sampled actions, minus Q of the data: the regulariser of CQL(H).

    With `log_density`, of each action under the law that drew it, log sum exp(Q - log p) estimates log int exp Q da
    by importance sampling, up to the constant log n, which is left in. Without it, the action of the data joins the n
    and log(n + 1) is subtracted.
    Source: Kumar et al., "Conservative Q-learning", NeurIPS 2020, equation 4 and appendix F.
    """
    if log_density is not None:
        return torch.logsumexp(sampled - log_density.unsqueeze(1), dim=2) - data
    joined = torch.cat([sampled, data.unsqueeze(2)], dim=2)
    return torch.logsumexp(joined, dim=2) - math.log(joined.shape[2]) - data


def calibrated(q: Tensor, return_to_go: Tensor) -> Tensor:  # [S, k, n, N], [S, N] -> [S, k, n, N]
    """max(Q, G): the policy's actions are not pushed below the return of the behaviour.

    Source: Nakamoto et al., "Cal-QL", NeurIPS 2023, equation 5.1.
    """
    return torch.maximum(q, return_to_go[:, None, None])


def expectile_loss(difference: Tensor, expectile: float) -> Tensor:  # [S, ...] -> []
    """|tau - 1{u < 0}| u^2 (Kostrikov et al., "Implicit Q-learning", ICLR 2022, equation 5)."""
    if not 0.0 < expectile < 1.0:
        raise ConfigError(f"expectile must lie strictly between 0 and 1, got {expectile}; 0.5 is the mean")
    return over_seeds(torch.where(difference < 0.0, 1.0 - expectile, expectile) * difference**2)


def advantage_weight(advantage: Tensor, inverse_temperature: float, largest: float) -> Tensor:
    """min(exp(b A), largest) (the same, equation 7; Nair et al., "AWAC", 2020, equation 13)."""
    return torch.exp((inverse_temperature * advantage).clamp(max=math.log(largest)))


def weighted_likelihood_loss(log_prob: Tensor, weight: Tensor | None = None) -> Tensor:  # [S, N] -> []
    """-E[w log pi(u | x)]: behaviour cloning with w = 1, advantage-weighted regression otherwise."""
    return over_seeds(-log_prob if weight is None else -weight.detach() * log_prob)


def td3_bc_loss(q: Tensor, action: Tensor, data: Tensor, weight: float) -> Tensor:  # [S, N], [S, N, m], [S, N, m] -> []
    """(u - a)^2 - lambda Q, lambda = weight / mean |Q|.

    Source: Fujimoto and Gu, "A minimalist approach to offline reinforcement learning", NeurIPS 2021, equations 3 and 5.
    """
    scale = weight / q.detach().abs().mean(1, keepdim=True).clamp(min=1e-8)
    return over_seeds(((action - data) ** 2).mean(-1)) - over_seeds(scale * q)
