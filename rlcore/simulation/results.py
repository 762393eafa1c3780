"""Memory for the results of rollouts, taken again once nobody holds it.

The kernel hands out memory in pages, and to be given a page costs more than to fill it with what a fused step computes.
Large results therefore live in huge pages where the system has them, and a block whose tensors are gone serves the next
result of its size. A result of another size gives all idle blocks back first, so that they never add to a peak.
"""

from __future__ import annotations

import math
import mmap
import sys
from collections.abc import Sequence
from threading import Lock

import torch
from torch import Tensor

PAGE = 1 << 21
"""Bytes of a huge page; smaller results are left to torch."""
KEPT = 1 << 30
"""Bytes of all blocks that may be used again; what is beyond goes with its tensors."""
UNUSED = 2
"""References to a block that no tensor holds: the list and the count itself."""

BLOCKS: list[mmap.mmap] = []
LOCK = Lock()


def empty(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """As `torch.empty`; on a CPU, large ones in huge pages, in memory that was used before if some is idle."""
    size = math.prod(shape) * dtype.itemsize
    if device.type != "cpu" or size < PAGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty(*shape, dtype=dtype, device=device)
    return torch.frombuffer(block(-(-size // PAGE) * PAGE), dtype=dtype, count=math.prod(shape)).view(*shape)


def block(size: int) -> mmap.mmap:
    """Bytes that nobody holds: an idle block of this size, else a new one in the place of all that are idle."""
    with LOCK:
        unused = idle_places()
        for k in unused:
            if len(BLOCKS[k]) == size:
                return BLOCKS[k]
        for k in reversed(unused):
            del BLOCKS[k]
        fresh = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        fresh.madvise(mmap.MADV_HUGEPAGE)
        if sum(map(len, BLOCKS)) + size <= KEPT:
            BLOCKS.append(fresh)
        return fresh


def idle_places() -> list[int]:
    """Which blocks no tensor holds."""
    return [k for k in range(len(BLOCKS)) if sys.getrefcount(BLOCKS[k]) <= UNUSED]


def idle() -> int:
    """Bytes that are in memory but held by nobody: the next results take them or give them back."""
    with LOCK:
        return sum(len(BLOCKS[k]) for k in idle_places())
