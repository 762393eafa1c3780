"""Data sets as rows in order: the steps of an episode one after another, episode after episode.

`extras["last"]` marks the last row of each; a last row with discount 0 has terminated, any other was truncated.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlcore.data.batches import Transitions
from rlcore.errors import DataError


def in_order(batch: Transitions) -> Transitions:
    """Paths [K, B, ...] as rows in order [K B, ...]. Where the record of a path stops, its episode is truncated."""
    if batch.reward.dim() != 2 or "last" not in batch.extras:
        raise DataError(
            f"rows in order are made of paths [K, B] with extras 'last', as `rollout_with_reset` returns them, "
            f"got {list(batch.reward.shape)} with extras {sorted(batch.extras)}"
        )
    last = batch.extras["last"].clone()
    last[-1] = True
    paths = batch.replace(extras={**batch.extras, "last": last})
    return paths.map(lambda x: x.transpose(0, 1).flatten(0, 1))


def lengths(batch: Transitions) -> list[int]:
    """Steps of each episode of rows in order; raises unless every row leads to the next of its episode."""
    if batch.reward.dim() != 1 or "last" not in batch.extras or len(batch) == 0:
        raise DataError("a data set is one or more rows [N] in order with extras 'last'; see `in_order`")
    last = batch.extras["last"]
    if not bool(last[-1]):
        raise DataError("the last episode is cut without a flag; set extras['last'] in its last row")
    joined = (batch.next_obs[:-1] == batch.obs[1:]).all(1) | last[:-1]
    if not bool(joined.all()):
        row = int((~joined).nonzero()[0])
        raise DataError(f"rows are not in order: row {row} does not lead to row {row + 1}; see `in_order`")
    if bool(((batch.discount == 0.0) & ~last).any()):
        row = int(((batch.discount == 0.0) & ~last).nonzero()[0])
        raise DataError(f"row {row} terminates, but its episode goes on; mark it in extras['last']")
    ends = last.nonzero().flatten()
    return torch.diff(ends, prepend=ends.new_tensor([-1])).tolist()


def summary(batch: Transitions) -> dict[str, float]:
    """What is in a data set: episodes, steps, lengths, undiscounted returns, and how many episodes terminate."""
    length = lengths(batch)
    returns = episode_sums(batch.reward.double(), length)
    ended = batch.extras["last"] & (batch.discount == 0.0)
    return {
        "episodes": len(length),
        "steps": len(batch),
        "length/mean": len(batch) / len(length),
        "return/mean": float(returns.mean()),
        "return/min": float(returns.min()),
        "return/max": float(returns.max()),
        "terminated": int(ended.sum()) / len(length),
    }


def episode_sums(value: Tensor, length: list[int]) -> Tensor:  # [N] -> [E]
    """The sum over each episode."""
    return torch.stack([part.sum() for part in torch.split(value, length)])
