"""Three estimators of one proximal step, as losses of log-policies over enumerated actions.

    maximise  pi^T P o - beta KL(pi | mu) - lambda KL(pi | anchor)     for a fixed opponent o

Both pulls merge: only pull = beta log mu + lambda log anchor and total = beta + lambda are needed.
Letters: N contexts, A actions, K candidates y ~ pi per context, all judged against the same action of the opponent.
"""

from __future__ import annotations

from torch import Tensor


def exact_loss(log_policy: Tensor, payoffs: Tensor, pull: Tensor, total: float) -> Tensor:  # all [N, A] -> []
    """Less the objective, in expectation over all actions; payoffs are P o. Constants are left out."""
    policy = log_policy.exp()
    return -(policy * (payoffs + pull - total * log_policy)).sum(-1).mean()


def policy_gradient_loss(
    log_policy: Tensor, candidates: Tensor, wins: Tensor, pull: Tensor, total: float
) -> Tensor:  # [N, A], [N, K], [N, K], [N, A] -> []
    """`sampled_gradient_loss` of actions that are numbers of columns."""
    log_pi = log_policy.gather(1, candidates)  # [N, K]
    reward = (wins + pull.gather(1, candidates) - total * log_pi).detach()
    return sampled_gradient_loss(log_pi, reward)


def sampled_gradient_loss(log_pi: Tensor, reward: Tensor) -> Tensor:  # [N, K, ...], [N, K, ...] -> []
    """-(R - b) log pi(y), R = p(y > o) + pull(y) - total log pi(y) held fixed, b the mean R of the other candidates.

    The gradient of the pulls' own log pi has mean zero, so that R may be held fixed; leaving a candidate's own R out of
    its baseline leaves the mean as it is. K >= 2. Further dimensions, such as the tokens of a text, are summed.
    """
    count = reward.shape[1]
    others = (reward.sum(1, keepdim=True) - reward) / (count - 1)
    return -((reward - others) * log_pi).sum() / (len(reward) * count)


def regression_loss(
    log_policy: Tensor, candidates: Tensor, wins: Tensor, pull: Tensor, total: float
) -> Tensor:  # [N, A], [N, K], [N, K], [N, A] -> []
    """`sampled_regression_loss` of actions that are numbers of columns."""
    return sampled_regression_loss((total * log_policy - pull).gather(1, candidates), wins)


def sampled_regression_loss(score: Tensor, wins: Tensor) -> Tensor:  # [N, K], [N, K] -> []
    """Half the mean square of (total log pi - pull - p(. > o)) of y, less that of y', over pairs; score: the first two.

    Over all pairs of K >= 2 candidates this is a variance. Its minimiser is the proximal point for any sampler of full
    support, and a judge that says 0 or 1 with the right probabilities leaves it where it is: old samples may be used
    again. On candidates of the policy itself its gradient is that of `policy_gradient_loss` times 2 total.
    """
    return (score - wins).var(1).mean()
