"""What is done to a data set before an agent learns from it."""

from __future__ import annotations

from rlcore.data import Transitions
from rlcore.data.episodes import lengths
from rlcore.functional.returns import returns_to_go


def with_returns(
    rows: Transitions, *, scale: float = 1.0, bias: float = 0.0, failure_reward: float | None = None
) -> Transitions:
    """Rows in order with rewards scale r + bias, and their returns to go as the extra `mc_return`.

    `failure_reward` is the reward, before scaling, of a step that fails at a sparse task: an episode of nothing else
    has the return of failing for ever. Do this once, before rows are shuffled: returns need whole episodes, and a
    second time would scale twice.
    """
    lengths(rows)  # raises unless they are whole episodes
    reward = scale * rows.reward + bias
    failed = None if failure_reward is None else float(scale * rows.reward.new_tensor(failure_reward) + bias)
    returns = returns_to_go(reward, rows.discount, rows.extras["last"], failure_reward=failed)
    return rows.replace(reward=reward, extras={**rows.extras, "mc_return": returns})
