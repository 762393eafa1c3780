"""Increments of the processes that are martingales exactly when a value function is right.

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
