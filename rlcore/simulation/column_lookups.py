"""What picks one of several columns, or an element of a table, as elementwise operations of columns."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Columns = NDArray[Any]  # of [B] tensors, in the shape of a value without its first dimension


def boxed(value: Any) -> Columns:
    """numpy gives the element itself where an array of no dimension is meant."""
    if isinstance(value, np.ndarray):
        return value
    found = np.empty((), dtype=object)
    found[()] = value
    return found


def filled(values: Sequence[Any]) -> Columns:
    """Tensors as an array of them; numpy would take them apart."""
    found = np.empty(len(values), dtype=object)
    for k, value in enumerate(values):
        found[k] = value
    return found


def along(x: Columns, axis: int, function: Any) -> Columns:
    """A function of the columns along an axis, that gives as many as it wants, in the place of that axis."""
    moved = np.moveaxis(x, axis, -1)
    rows = {place: filled(function(list(moved[place]))) for place in np.ndindex(moved.shape[:-1])}
    found = np.empty((*moved.shape[:-1], len(next(iter(rows.values())))), dtype=object)
    for place, row in rows.items():
        found[place] = row
    return np.moveaxis(found, -1, axis)


def largest(x: Columns, axis: int, keep: bool = False) -> Columns:
    """Where the largest stands, the first of equals; what is not a number is larger than all."""

    def which(values: list[Tensor]) -> list[Tensor]:
        best, place = values[0], torch.zeros_like(values[0], dtype=torch.int64)
        for k, value in enumerate(values[1:], 1):
            better = (value > best) | ((value != value) & (best == best))
            best, place = torch.where(better, value, best), torch.where(better, torch.full_like(place, k), place)
        return [place]

    found = along(x, axis, which)
    return found if keep else boxed(np.take(found, 0, axis=axis))


def running_total(x: Columns, axis: int) -> Columns:
    """Sums of all columns up to each."""
    if not x.flat[0].dtype.is_floating_point:
        x = along(x, axis, lambda values: [value.to(torch.int64) for value in values])
    return along(x, axis, lambda values: list(accumulate(values, operator.add)))


def gathered(x: Columns, index: Columns) -> Columns:
    """The columns that each path names."""
    found = np.empty(index.shape, dtype=object)
    for place in np.ndindex(index.shape):
        value: Tensor = x[0]
        for k, other in enumerate(x[1:], 1):
            value = torch.where(index[place] == k, other, value)
        found[place] = value
    return found


def scattered(x: Columns, index: Columns, source: Any) -> Columns:
    """Values, or one number, in the columns that each path names; the last of several in one place stays."""
    found = list(x)
    for place in np.ndindex(index.shape):
        for k, value in enumerate(found):
            new: Any = source[place] if isinstance(source, np.ndarray) else torch.full_like(value, source)
            found[k] = torch.where(index[place] == k, new, value)
    return filled(found)


def looked_up(table: Tensor, index: Sequence[Columns], most: int) -> Columns | None:
    """`table[index]` with a number of each path in each of the first dimensions; None if it has too many columns."""
    shape, rest = np.broadcast_shapes(*(part.shape for part in index)), table.shape[len(index) :]
    if any(part.flat[0].dtype == torch.bool for part in index) or int(np.prod(shape + rest)) > most:
        return None
    spread = [np.broadcast_to(part, shape) for part in index]
    found = np.empty((*shape, *rest), dtype=object)
    for last in np.ndindex(*rest):
        some = table
        for place in reversed(last):
            some = some.select(-1, place)
        for first in np.ndindex(shape):
            found[first + last] = torch.ops.aten.index.Tensor(some, [part[first] for part in spread])
    return found
