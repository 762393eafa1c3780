"""Sums along sampled paths: increments with traces that fade in seconds, and the returns that followed each step."""

from __future__ import annotations

import torch
from torch import Tensor

from rlcore.errors import ConfigError, ShapeError


def traced_sum(delta: Tensor, discount: Tensor, dt: Tensor, last: Tensor, trace_time: float) -> Tensor:
    """A_k = delta_k + discount_k exp(-dt_k / trace_time) A_{k+1}; all [K, B], `last` cuts the sum after an episode.

    With delta the increments of a value function, A is the generalised advantage of Schulman et al. (ICLR 2016) with
    lambda = exp(-dt / trace_time), which does not change its meaning with dt; trace_time 0 gives delta itself.
    """
    if trace_time == 0.0:
        return delta
    return backward_recurrence(delta, discount * torch.exp(-dt / trace_time) * ~last)


BLOCK = 16
"""Rows of a block; of 8, the compiled form takes a quarter longer."""


def backward_recurrence(gain: Tensor, keep: Tensor) -> Tensor:
    """A_k = gain_k + keep_k A_{k+1}, and nothing follows the last row; all [K, ...].

    Every block of 16 rows is summed as if nothing came after it, all blocks at once; the first rows of the blocks obey
    a recurrence of the same kind, 16 times as short; what comes after a block enters its rows by the product of `keep`
    up to its end. That is 32 operations per factor of 16 in K, where row by row takes 2 K.
    Source: Blelloch, "Prefix sums and their applications", 1990, for such sums in blocks.
    """
    steps = len(gain)
    blocks = -(-steps // BLOCK)
    if blocks > 1 and steps % BLOCK:
        rest = gain.new_zeros(blocks * BLOCK - steps, *gain.shape[1:])
        return backward_recurrence(torch.cat([gain, rest]), torch.cat([keep, rest]))[:steps]
    size = BLOCK if blocks > 1 else steps
    gains, keeps = (x.reshape(blocks, size, *x.shape[1:]).unbind(1) for x in (gain, keep))
    sums, products = [gains[-1]], [keeps[-1]]
    for g, k in zip(gains[-2::-1], keeps[-2::-1], strict=True):
        sums.append(torch.addcmul(g, k, sums[-1]))
        products.append(k * products[-1])
    found = torch.stack(sums[::-1], 1)
    if blocks > 1:
        first = backward_recurrence(sums[-1], products[-1])
        ahead = torch.cat([first[1:], torch.zeros_like(first[:1])]).unsqueeze(1)
        found = torch.addcmul(found, torch.stack(products[::-1], 1), ahead)
    return found.reshape(gain.shape)


def returns_to_go(
    reward: Tensor, discount: Tensor, last: Tensor, *, failure_reward: float | None = None
) -> Tensor:  # all [N] in time order, or [K, B] -> the same shape
    """G_t = r_t + discount_t G_{t+1}, and nothing follows the last step of an episode, however it ended.

    `last` marks the last step of each episode; rows after the final mark are an episode that was cut. If every reward
    of an episode equals `failure_reward`, a sparse task was failed, and the return is that of failing for ever,
    r / (1 - gamma), gamma the largest discount of the episode, at each of its steps. Summed in float64.
    Source: Nakamoto et al., "Cal-QL", NeurIPS 2023, appendix, for the rule of failed episodes.
    """
    if reward.shape != discount.shape or reward.shape != last.shape:
        shapes = [list(x.shape) for x in (reward, discount, last)]
        raise ShapeError(f"reward, discount and last must have one shape, got {shapes}; give rows of one data set")
    if reward.dim() == 2:
        ends = last.clone()
        ends[-1] = True  # so that no episode goes on in the next path
        columns = (x.T.reshape(-1) for x in (reward, discount, ends))
        found = returns_to_go(*columns, failure_reward=failure_reward)
        return found.view(reward.shape[1], reward.shape[0]).T
    if len(reward) == 0:
        return reward.clone()
    start = torch.cat([torch.ones_like(last[:1]), last[:-1]]).nonzero().squeeze(1)  # [episodes]
    length = torch.diff(start, append=start.new_tensor([len(reward)]))
    episode = torch.repeat_interleave(torch.arange(len(start), device=start.device), length)  # [N]
    place = (torch.arange(len(reward), device=start.device) - start[episode], episode)
    shape = int(length.max()), len(start)
    rewards, discounts = (x.new_zeros(shape, dtype=torch.float64) for x in (reward, discount))
    rewards[place], discounts[place] = reward.double(), discount.double()
    found, ahead = torch.empty_like(rewards), torch.zeros_like(rewards[0])
    for k in range(shape[0] - 1, -1, -1):
        ahead = rewards[k] + discounts[k] * ahead
        found[k] = ahead
    found = found[place]
    if failure_reward is not None:
        inside = torch.zeros(shape, dtype=torch.bool, device=start.device)
        inside[place] = True
        failed = ((rewards == failure_reward) | ~inside).all(0)[episode]
        gamma = discounts.amax(0)[episode]
        if bool((failed & (gamma >= 1.0)).any()):
            raise ConfigError("failing for ever has no finite return without a discount; give discount < 1")
        found = torch.where(failed, failure_reward / (1.0 - gamma), found)
    return found.to(reward.dtype)
