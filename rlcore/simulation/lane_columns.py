"""A graph over B paths by columns, for the loop in C++: every value one [B] tensor for each of its elements.

More than the rewriting for inductor, which leaves to it what is wide or has the paths in its last dimension.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from rlcore.simulation.column_lookups import Columns, boxed, filled, looked_up
from rlcore.simulation.columns import LARGEST, WIDEST, ByColumns, elements

aten = torch.ops.aten
_VIEWS = (aten.view.default, aten.reshape.default, aten._unsafe_view.default)
_ONE_DIM = (
    aten.select.int,
    aten.slice.Tensor,
    aten.unbind.int,
    aten.squeeze.dim,
    aten.argmax.default,
    aten.argmin.default,
    aten.cumsum.default,
)
_DIMS = (aten.sum.dim_IntList, aten.mean.dim, aten.amax.default, aten.amin.default, aten.any.dim, aten.squeeze.dims)
_AS_IT_IS = (aten.clone.default, aten.alias.default, aten.detach.default)


class Turned:
    """A value [..., B]: its columns, in the shape of its other dimensions; `flat` if all lie in one dimension."""

    def __init__(self, x: Columns, *, flat: bool = False) -> None:
        self.x, self.flat = x, flat


class LaneColumns(ByColumns):
    """Results are lists of columns. `constants` are the values of arguments that are always the same, by name."""

    widest = LARGEST

    def __init__(self, module: fx.GraphModule, rows: int, constants: Mapping[str, list[Any]]) -> None:
        super().__init__(module, rows)
        self.constants, self.known = constants, dict[int, list[Any]]()
        self.given: dict[int, Any] = {}  # they themselves, so that no other takes the identity of one that is gone

    def placeholder(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        value = super().placeholder(target, args, kwargs)
        self.given[id(value)] = value
        if target in self.constants:
            self.known[id(value)] = self.constants[target]
        return value

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if target in _VIEWS and isinstance(args[0], (np.ndarray, Turned)):
            args = (args[0], self.size_of(args[0], args[1]))
        found = self.turned(target, args, kwargs) if isinstance(target, torch._ops.OpOverload) else None
        return self.computed(target, args, kwargs) if found is None else found

    def output(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        results = [self.whole(value) if isinstance(value, Turned) else value for value in args[0]]
        split = [self.split(value) for value in results]
        return [[value] if part is None else list(part.flat) for value, part in zip(results, split, strict=True)]

    def most(self, value: Tensor) -> int:
        return LARGEST if id(value) in self.given else WIDEST  # a layer of a network stays whole

    def whole(self, value: Any) -> Any:
        if not isinstance(value, Turned):
            return super().whole(value)
        joined = torch.cat(list(value.x.flat))
        return joined if value.flat else joined.view(*value.x.shape, self.rows)

    def turned(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What makes, takes or gives a value [..., B], a table or a constant; None if that is not known."""
        if target is aten.full.default:
            return self.filled(*args, **kwargs)
        if target is aten.index.Tensor:
            return self.indexed(*args)
        if target in (aten.cat.default, aten.stack.default):
            return self.joined(target, *args)
        if torch.Tag.pointwise in target.tags and self.ends_in_paths(args):
            parts = [self.last(arg) for arg in args]
            found = None if any(part is None for part in parts) else self.each_column(target, parts, kwargs)
            return None if found is None else Turned(found)
        if target is aten.permute.default:
            return self.permuted(*args)
        if args and isinstance(args[0], Turned):
            return self.moved(target, args[0], args[1:], kwargs)
        return None

    def size_of(self, value: Columns | Turned, size: Sequence[int]) -> list[int]:
        """A size without -1."""
        x = value.x if isinstance(value, Turned) else value
        rest = -(x.size * self.rows) // math.prod(size) if -1 in size else 1
        return [rest if part == -1 else part for part in size]

    def filled(self, size: Sequence[int], value: float, **kind: Any) -> Columns | Turned | None:
        """One number in all columns."""
        if len(size) < 2 or self.rows not in (size[0], size[-1]):
            return None
        shape = size[1:] if size[0] == self.rows else size[:-1]
        if not 0 < math.prod(shape) <= self.widest:
            return None
        one = aten.full.default([self.rows], value, **kind)
        found = filled([one] * math.prod(shape)).reshape(shape)
        return found if size[0] == self.rows else Turned(found)

    def indexed(self, source: Any, indices: Sequence[Any]) -> Any:
        """Elements of a table by numbers of each path, or columns by constant numbers."""
        before = sum(1 for index in indices if index is None)
        if None in indices[before:]:
            return None
        parts = [part for part in map(self.split, indices[before:]) if part is not None]
        if isinstance(source, Tensor) and before + len(parts) == len(indices):
            table = source.movedim(tuple(range(before)), tuple(range(-before, 0)))
            found = looked_up(table, parts, self.widest)
            if found is None or (before and any(part.ndim for part in parts)):
                return None
            return Turned(found) if before else found
        turned = isinstance(source, Turned)
        x, axis = (source.x, before) if turned else (self.split(source), before - 1)
        numbers = self.known.get(id(indices[-1]))
        if x is None or numbers is None or before + 1 < len(indices) or not 0 <= axis < x.ndim:
            return None
        found = np.take(x, numbers, axis=axis)
        return Turned(found) if turned else found

    def joined(self, target: Any, values: Sequence[Any], dim: int = 0) -> Turned | None:
        """Values [..., B] beside each other, or values [B] one after the other."""
        stacks = target is aten.stack.default
        if all(isinstance(value, Turned) and not value.flat for value in values):
            rank = values[0].x.ndim + 1
            axis = dim % (rank + stacks)
            join = np.stack if stacks else np.concatenate
            found = join([value.x for value in values], axis=axis) if axis < rank - (not stacks) else None
            return None if found is None or found.size > self.widest else Turned(found)
        each = [self.alone(value) for value in values]
        if dim or len(each) > self.widest or any(value is None for value in each):
            return None
        return Turned(filled(each), flat=not stacks)

    def alone(self, value: Any) -> Tensor | None:
        """A value [B]; None if it is another one."""
        x = value if isinstance(value, np.ndarray) else boxed(value)
        found = x[()] if x.ndim == 0 else None
        return found if isinstance(found, Tensor) and found.shape == (self.rows,) else None

    def ends_in_paths(self, args: Sequence[Any]) -> bool:
        """Whether a value [..., B] comes of an elementwise operation: of another, or of [..., 1] and [B]."""
        upright = any(
            isinstance(x, Tensor) and x.ndim > 1 and x.shape[-1] == 1 and x.shape[0] != self.rows for x in args
        )
        alone = any(self.alone(arg) is not None for arg in args)
        return (upright and alone) or any(isinstance(arg, Turned) for arg in args)

    def last(self, value: Any) -> Any:
        """An argument of an elementwise operation of values [..., B]; None if it is not known by columns."""
        if isinstance(value, Turned):
            return None if value.flat else value.x
        alone = self.alone(value)
        if alone is not None:
            return boxed(alone)
        if not isinstance(value, Tensor) or value.ndim == 0:
            return None if isinstance(value, np.ndarray) else value
        return elements(value.squeeze(-1)) if value.shape[-1] == 1 and value.numel() <= self.widest else None

    def permuted(self, value: Any, dims: Sequence[int]) -> Columns | Turned | None:
        """Dimensions in another order, of which the paths are the first or the last."""
        if isinstance(value, Tensor) or (isinstance(value, Turned) and value.flat):
            return None  # what is whole may be a matrix
        x, paths = (value.x, value.x.ndim) if isinstance(value, Turned) else (value, 0)
        order = [d % (x.ndim + 1) for d in dims]
        columns = x.transpose([d - (paths == 0) for d in order if d != paths])
        return columns if order[0] == paths else Turned(columns) if order[-1] == paths else None

    def moved(self, target: Any, value: Turned, rest: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """What moves or folds columns: as if the paths came first, so that dimension d is d + 1."""
        x, rank = value.x, value.x.ndim + 1
        if target in _VIEWS:
            size = rest[0]
            fits = size and size[-1] == self.rows and math.prod(size[:-1]) == x.size
            return Turned(x.reshape(size[:-1])) if fits else None
        if value.flat:
            return None
        if target in _AS_IT_IS:
            return value
        ahead: list[Any]
        if target is aten.expand.default:
            ahead = [[self.rows, *rest[0][:-1]]]
        elif target is aten.unsqueeze.default:
            ahead = [rest[0] % (rank + 1) + 1]
        elif target in _ONE_DIM:
            ahead = [(rest[0] if rest else 0) % rank + 1, *rest[1:]]
        elif target in _DIMS and rest:
            dims = [rest[0]] if isinstance(rest[0], int) else rest[0]
            ahead = [[d % rank + 1 for d in dims], *rest[1:]]
        else:
            return None
        last = rank + (target is aten.unsqueeze.default)
        if last in (ahead[0] if target in _DIMS else ahead[:1]):
            return None  # a dimension after the paths, or the paths themselves
        return self.turned_back(self.rearranged(target, x, ahead, kwargs))

    @staticmethod
    def turned_back(found: Any) -> Any:
        """Columns as a value [..., B]; a single one is as well [B]."""
        if isinstance(found, list):
            return [LaneColumns.turned_back(part) for part in found]
        return Turned(found) if isinstance(found, np.ndarray) and found.ndim else found
