"""Counter-based noise: every standard normal is a pure function of integers.

A row (one path) owns, in each stream, one endless sequence of standard normals z_0, z_1, ...; step k of a process with
w noise components reads z_{kw}, ..., z_{kw+w-1}. Four neighbours come from one call of Philox4x32-10 and two Box-Muller
pairs. So a path is the same whatever the batch it runs in, the number of steps per call and the number of processes,
and a resume needs two integers instead of a saved generator.

Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import IntEnum

import torch
from torch import Tensor

MASK = 0xFFFFFFFF
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)

Word = int | Tensor


class Stream(IntEnum):
    """What a sequence of normals is for; streams of one row are independent of each other."""

    PROCESS = 0
    ACTION = 1
    INITIAL = 2


def philox(
    counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Word, Word]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Philox4x32-10: four counter words and two key words, each in [0, 2^32) -> four words in [0, 2^32), all int64."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        low, high = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]  # 64-bit products; signed wrap-around keeps all the bits
        c0 = (high >> 32).bitwise_xor_(c1).bitwise_xor_(k0).bitwise_and_(MASK)
        c2 = (low >> 32).bitwise_xor_(c3).bitwise_xor_(k1).bitwise_and_(MASK)
        c1, c3 = high, low  # only their lower halves are ever used: the masks above drop the rest
        k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return c0, c1 & MASK, c2, c3 & MASK


Draw = Callable[[tuple[Word, Word], Tensor, Word, Word, int, torch.dtype], Tensor]


def blocks(
    key: tuple[Word, Word], row: Tensor, stream: Word, first: Word, count: int, dtype: torch.dtype
) -> Tensor:  # row [B] int64 -> [4 count, B]
    """Standard normals of `count` calls of Philox for each row, from block `first` on; the words may be tensors []."""
    block = (first + torch.arange(count, device=row.device)).unsqueeze(1)  # [M, 1]
    counter = (row & MASK, block & MASK, block >> 32, (row >> 32) * 256 + stream)
    lanes = torch.broadcast_tensors(*counter)  # type: ignore[no-untyped-call]
    u0, u1, u2, u3 = ((word.to(dtype) + 0.5) * 2.0**-32 for word in philox(lanes, key))  # in (0, 1]: finite logarithm
    pairs = []
    for radius_from, angle_from in ((u0, u1), (u2, u3)):  # Box-Muller
        radius, angle = torch.log(radius_from).mul_(-2.0).sqrt_(), (2.0 * math.pi) * angle_from
        pairs += [torch.cos(angle).mul_(radius), torch.sin(angle).mul_(radius)]
    return torch.stack(pairs, dim=1).flatten(0, 1)


def words(seed: int) -> tuple[int, int]:
    """A seed as Philox's two key words."""
    return seed & MASK, (seed >> 32) & MASK


def normals(
    seed: int, row: Tensor, stream: Stream, start: int, count: int, dtype: torch.dtype, draw: Draw = blocks
) -> Tensor:
    """Elements start, ..., start + count - 1 of each row's sequence: row [B] int64 -> [count, B] standard normals."""
    first = start // 4
    sequence = draw(words(seed), row, int(stream), first, (start + count + 3) // 4 - first, dtype)
    return sequence[start - 4 * first : start - 4 * first + count]


def step_noise(
    seed: int,
    row: Tensor,
    stream: Stream,
    step: int,
    steps: int,
    width: int,
    dtype: torch.dtype,
    draw: Draw = blocks,
) -> Tensor:
    """Noise of `steps` steps from `step` on, `width` components each -> [K, B, width]."""
    sequence = normals(seed, row, stream, step * width, steps * width, dtype, draw)  # [K w, B]
    return sequence.view(steps, width, -1).transpose(1, 2)
