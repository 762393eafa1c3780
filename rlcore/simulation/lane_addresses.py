"""Where values of a graph over B paths stand: in memory, in a block of paths, or as variables of a loop over lanes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rlcore.simulation.lane_operations import C_TYPES, NotByLanesError


class Slot(NamedTuple):
    """Something [B] or [B, n] that stands in the block of paths that is worked on, each column by itself."""

    name: str
    width: int  # n


class Value(NamedTuple):
    """A value in C++."""

    text: str
    dtype: torch.dtype
    stage: int | None  # the loop in which it is a variable; None for one that is the same for all


class Address(NamedTuple):
    """An argument, an array of the block, or values one after the other, or a view: where each element stands.

    In an argument, and in an array that is the same for all, that is where it stands in memory; otherwise in the order
    of [B, n], or of values of B paths each.
    """

    place: int | str | Slot | tuple[Value, ...]
    at: Tensor


class Line(NamedTuple):
    """Where elements [B, n] stand, evenly."""

    first: int
    by_row: int
    by_column: int


def memory(place: int | str, line: Line, dtype: torch.dtype) -> str:
    """An element of what is given, or the same for all, of path at(i) and column c."""
    index = [str(line.first)]
    index += [f"{line.by_row} * at(i)"] if line.by_row else []
    index += [f"{line.by_column} * c"] if line.by_column else []
    array = place if isinstance(place, str) else f"static_cast<const {C_TYPES[dtype]} *>(given[{place}])"
    return f"{array}[{' + '.join(index)}]"


def evenly(at: Tensor, name: str) -> Line:
    """Where the elements [B, n] of a view stand."""
    first = int(at[0, 0])
    by_row, by_column = (
        int(part.reshape(-1)[-1]) - first if part.numel() > 1 else 0 for part in (at[:2, 0], at[0, :2])
    )
    each = first + by_row * torch.arange(at.shape[0]).unsqueeze(1) + by_column * torch.arange(at.shape[1])
    if not torch.equal(at, each):
        raise NotByLanesError(f"{name} is not evenly spaced")
    return Line(first, by_row, by_column)


def grid(at: Tensor, name: str) -> tuple[int, list[int]]:
    """Where a table begins, and how far apart its elements are along each of its dimensions."""
    first = int(at.flatten()[0])
    steps = [int(at.select(dim, 1).flatten()[0]) - first if size > 1 else 0 for dim, size in enumerate(at.shape)]
    each = torch.full_like(at, first)
    for dim, step in enumerate(steps):
        each = each + step * torch.arange(at.shape[dim]).view(-1, *[1] * (at.ndim - dim - 1))
    if not torch.equal(at, each):
        raise NotByLanesError(f"{name} is not evenly spaced")
    return first, steps


def in_order(slot: Slot, shape: Sequence[int]) -> Address:
    """The whole of an array."""
    return Address(slot, torch.arange(math.prod(shape)).view(*shape))


def elements(value: Tensor, *, in_order: bool) -> Tensor:
    """Where each element of a tensor stands: in its memory, or in order."""
    if in_order:
        return torch.arange(value.numel()).view(value.shape)
    if value.numel() == 0:
        return torch.empty(value.shape, dtype=torch.int64)
    reach = sum((size - 1) * stride for size, stride in zip(value.shape, value.stride(), strict=True)) + 1
    return torch.arange(reach).as_strided(value.shape, value.stride())
