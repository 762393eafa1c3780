"""The increment and the schedule of the online martingale methods, and the reward to come.

Source: Jia and Zhou, "Policy evaluation and temporal-difference learning in continuous time and space: a martingale
approach", JMLR 23 (2022), and "q-Learning in continuous time", JMLR 24 (2023).
"""

from __future__ import annotations

import torch
from torch import Tensor


def increment(
    value: Tensor, value_after: Tensor, reward: Tensor, dt: Tensor, *, running: Tensor | float
) -> Tensor:  # all [*] -> [*]
    """delta = J(X') - J(X) + r dt - running dt, with everything taken at the left end.

    `reward` is the reward of the step, r dt; `value_after` is 0 where the path has ended (its reward then includes the
    terminal payoff). `running` is what the martingale subtracts per second: beta J(X) if discounted, the average reward
    if ergodic, plus q(X, a) when the condition is that of q-learning.
    """
    return value_after - value + reward - running * dt


def log_decay(elapsed: Tensor) -> Tensor:
    """The learning-rate schedule l(t) = 1 / max(1, log t), t in seconds (Jia and Zhou 2022b, section 5)."""
    return 1.0 / torch.log(elapsed.clamp(min=1.0)).clamp(min=1.0)


def reward_to_go(
    reward: Tensor, dt: Tensor, terminated: Tensor, discount_rate: float, tail: Tensor | None = None
) -> Tensor:  # [K, B], [K], bool [K, B], 1/s, [B] -> [K, B]
    """G_k = r_k + exp(-beta dt_k) G_{k+1}, with G_K = `tail` on the paths that have not ended.

    The reward of a step that ends its path is mostly the terminal one, so it counts at the right end of the step.
    """
    decay = torch.exp(-discount_rate * dt).to(reward.dtype)
    reward = torch.where(terminated, decay.unsqueeze(1) * reward, reward)
    following = torch.zeros_like(reward[-1]) if tail is None else tail.to(reward.dtype) * ~terminated[-1]
    found = []
    for k in range(len(reward) - 1, -1, -1):
        following = reward[k] + decay[k] * following
        found.append(following)
    return torch.stack(found[::-1])
