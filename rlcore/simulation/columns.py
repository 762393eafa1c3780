"""Structure of arrays: a graph over [B, n] tensors rewritten as one over n vectors [B], for small n.

An environment reads and writes the columns of [B, n]. Interleaved in memory they can be neither loaded nor stored in
whole vector registers; as n separate [B] tensors the whole step becomes one loop over B with everything in registers.
A value with few columns is held as a numpy array of [B] tensors, so that numpy's own indexing does selection, slicing,
concatenation and broadcasting; whatever is not known here is put together again and computed as it was.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from rlcore.simulation.column_lookups import Columns, boxed, gathered, largest, running_total, scattered

WIDEST = 32
"""Values with more columns stay whole: their rows fill vector registers by themselves."""

LARGEST = 256
"""Elements of a matrix by which rows are multiplied column by column."""

aten, prims = torch.ops.aten, torch.ops.prims
_FOLDS: dict[Any, Callable[..., Any]] = {
    aten.sum.dim_IntList: operator.add,
    aten.amax.default: torch.maximum,
    aten.amin.default: torch.minimum,
    aten.any.dim: operator.or_,
}
_HARMLESS = {"alpha", "value", "rounding_mode", "dtype", "layout", "device", "pin_memory", "memory_format"}
_COUNTS = {aten.sum.dim_IntList: torch.int64, aten.any.dim: torch.bool}
"""What whole numbers and truth values become before they are folded."""


class ByColumns(fx.Interpreter):
    """Runs a graph of aten operations on columns where it can; `rows` is B."""

    widest = WIDEST
    """Columns of a value at most."""

    def __init__(self, module: fx.GraphModule, rows: int) -> None:
        super().__init__(module)
        self.rows = rows

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if target is aten.tanh.default and on_cpu(args[0]):
            twice = self.call_function(aten.mul.Tensor, (args[0], 2.0), {})
            half = self.call_function(aten.sigmoid.default, (twice,), {})
            return self.call_function(aten.sub.Tensor, (self.call_function(aten.mul.Tensor, (half, 2.0), {}), 1.0), {})
        return self.computed(target, args, kwargs)

    def computed(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The value of an operation, by columns if that is known."""
        if target is operator.getitem and isinstance(args[0], list):
            return args[0][args[1]]  # of `unbind`
        if kwargs.keys() <= _HARMLESS:
            found = self.by_columns(target, args, {key: kwargs[key] for key in kwargs if key != "memory_format"})
            if found is not None:
                return found
        args, kwargs = fx.node.map_aggregate((args, kwargs), self.whole)
        return super().call_function(target, args, kwargs)

    def output(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return fx.node.map_aggregate(args[0], self.whole)

    def by_columns(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The value of an operation as columns; None where it has to be computed whole."""
        if not isinstance(target, torch._ops.OpOverload) or target._schema.is_mutable:
            return None
        if torch.Tag.pointwise in target.tags or target is aten.copy.default:
            return self.pointwise(target, args, kwargs)
        if target in (aten.mm.default, aten.addmm.default):
            return self.product(target, args, kwargs)
        if target is aten.bmm.default:
            left, right = (self.split(part) for part in args)
            return None if left is None or right is None else self.contracted(left, right)
        if target in (aten.cat.default, aten.stack.default):
            split = [self.split(part) for part in args[0]]
            parts = [part for part in split if part is not None]
            dim = args[1] if len(args) > 1 else 0
            if len(parts) < len(split) or dim == 0:
                return None
            join = np.concatenate if target is aten.cat.default else np.stack
            joined = join(parts, axis=dim - 1 if dim > 0 else dim)
            return joined if joined.size <= self.widest else None
        value = self.split(args[0]) if args and isinstance(args[0], (Tensor, np.ndarray)) else None
        return None if value is None else self.rearranged(target, value, args[1:], kwargs)

    def pointwise(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Columns | None:
        rank = max((ndim(arg) for arg in args), default=0)
        if rank < 2 or kwargs.keys() - {"alpha", "value", "rounding_mode"}:
            return None  # nothing to split
        parts = [self.aligned(arg, rank) for arg in args]
        if any(part is None for part in parts):
            return None
        return self.each_column(target, parts, kwargs)

    def each_column(self, target: Any, parts: Sequence[Any], kwargs: dict[str, Any]) -> Columns | None:
        """An elementwise operation of columns, tensors [1] and numbers."""
        shape = np.broadcast_shapes(*(part.shape for part in parts if isinstance(part, np.ndarray)))
        if int(np.prod(shape)) > self.widest:
            return None
        spread = [np.broadcast_to(p, shape) if isinstance(p, np.ndarray) else p for p in parts]
        found = np.empty(shape, dtype=object)
        for place in np.ndindex(shape):
            found[place] = target(*(p[place] if isinstance(p, np.ndarray) else p for p in spread), **kwargs)
        # a row of scalars has no [B]: such a value belongs to no row
        return found if all(x.shape == (self.rows,) for x in found.flat) else None

    def aligned(self, arg: Any, rank: int) -> Any:
        """An argument of a pointwise operation whose value has this rank: columns, a number, or None if neither."""
        if not isinstance(arg, (Tensor, np.ndarray)) or ndim(arg) == 0:
            return arg
        if ndim(arg) == rank and shape_of(arg, self.rows)[0] == self.rows:
            return self.split(arg)
        if isinstance(arg, np.ndarray):
            return None
        if arg.ndim == rank and arg.shape[0] == 1:
            arg = arg.squeeze(0)
        return elements(arg) if arg.ndim < rank and arg.numel() <= self.widest else None

    def most(self, value: Tensor) -> int:
        """Columns into which a whole value is split at most."""
        return WIDEST

    def split(self, value: Tensor | Columns) -> Columns | None:
        """A [B, ...] tensor as columns, if they are few."""
        if isinstance(value, np.ndarray):
            return value
        if value.ndim < 1 or value.shape[0] != self.rows or not 0 < value.numel() <= self.most(value) * self.rows:
            return None
        found = np.empty(value.shape[1:], dtype=object)
        for place in np.ndindex(found.shape):
            column = value
            for index in place:
                column = column.select(1, index)
            found[place] = column
        return found

    def product(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Columns | None:
        """[B, k] @ [k, j] (+ [j]) as sums over k, where both are few."""
        *bias, left, right = args
        x = self.split(left) if ndim(left) == 2 else None
        if (
            kwargs
            or x is None
            or not isinstance(right, Tensor)
            or right.shape[1] > self.widest
            or right.numel() > LARGEST
        ):
            return None
        w = elements(right)
        total = [[x[i] * w[i, j] for i in range(w.shape[0])] for j in range(w.shape[1])]
        found = np.empty(len(total), dtype=object)
        for j, terms in enumerate(total):  # one by one: numpy would take a list of tensors apart
            found[j] = reduce(operator.add, terms)
        return self.pointwise(aten.add.Tensor, (found, *bias), {}) if bias else found

    def rearranged(self, target: Any, x: Columns, rest: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """The operations that move columns or fold them."""
        dim = rest[0] if rest and isinstance(rest[0], int) else None
        axis = 0 if dim is None else dim - 1 if dim > 0 else dim
        along = dim is not None and dim != 0 and dim != -x.ndim - 1
        if target is aten.select.int and along:
            return boxed(np.take(x, rest[1], axis=axis))
        if target is aten.unbind.int and along:
            return [boxed(part) for part in np.moveaxis(x, axis, 0)]
        if target is aten.slice.Tensor and along:
            start, end, step = [*rest[1:], None, None, None][:3]
            index: list[Any] = [slice(None)] * x.ndim
            index[axis] = slice(start, end, step)
            return x[tuple(index)]
        if target is aten.repeat.default and rest[0][0] == 1 and len(rest[0]) == x.ndim + 1:
            return np.tile(x, rest[0][1:])
        if target is aten.split_with_sizes.default and len(rest) > 1 and rest[1] % (x.ndim + 1):
            return np.split(x, np.cumsum(rest[0])[:-1], axis=rest[1] % (x.ndim + 1) - 1)
        if target is aten.unsqueeze.default and dim not in (0, -x.ndim - 2):
            return np.expand_dims(x, axis)
        if target in (aten.squeeze.dim, aten.squeeze.dims):
            dims = [d % (x.ndim + 1) for d in ([rest[0]] if isinstance(rest[0], int) else rest[0])]
            if 0 in dims and self.rows == 1:
                return None  # the one path is no dimension any more
            return np.squeeze(x, tuple(d - 1 for d in dims if d and x.shape[d - 1] == 1))
        if target is aten.expand.default and len(rest[0]) == x.ndim + 1:
            return np.broadcast_to(
                x, [known if size == -1 else size for size, known in zip(rest[0][1:], x.shape, strict=True)]
            )
        views = (aten.view.default, aten.reshape.default, aten._unsafe_view.default)
        if target in views and rest[0] and rest[0][0] == self.rows and -1 not in rest[0]:
            return x.reshape(rest[0][1:])
        if target is aten.permute.default and rest[0][0] == 0:
            return x.transpose([d - 1 for d in rest[0][1:]])
        if target in (aten.clone.default, aten.alias.default, aten.detach.default):
            return x
        if target in (aten.flip.default, prims.rev.default) and all(d % (x.ndim + 1) for d in rest[0]):
            return np.flip(x, tuple(d % (x.ndim + 1) - 1 for d in rest[0]))
        if target is aten.select_scatter.default:
            source, place = self.split(rest[0]), [slice(None)] * x.ndim
            if source is not None and rest[1] > 0:
                place[rest[1] - 1] = rest[2]
                found = x.copy()
                found[tuple(place)] = source if source.ndim else source[()]  # an element itself, not an array of it
                return found
        if target in _FOLDS and rest and not kwargs:
            return self.folded(target, x, rest)
        if target is aten.mean.dim and len(rest[0]) and not kwargs:
            total = self.folded(aten.sum.dim_IntList, x, rest)
            return None if total is None else self.each(lambda a, _: a / (x.size // total.size), total, total)
        return self.picked(target, x, axis, rest) if along and not kwargs else None

    def picked(self, target: Any, x: Columns, axis: int, rest: Sequence[Any]) -> Columns | None:
        """What looks for a column along one axis, or writes into one."""
        if target in (aten.argmax.default, aten.argmin.default):
            return largest(x if target is aten.argmax.default else self.each(lambda a, _: -a, x, x), axis, *rest[1:])
        if target is aten.cumsum.default:
            return running_total(x, axis)
        index = self.split(rest[1]) if len(rest) > 1 and x.ndim == 1 and not isinstance(rest[1], (int, bool)) else None
        if index is None:
            return None
        if target is aten.gather.default:
            return gathered(x, index)
        if target in (aten.scatter.src, aten.scatter.value):
            source = rest[2] if target is aten.scatter.value else self.split(rest[2])
            return None if source is None else scattered(x, index, source)
        return None

    def folded(self, target: Any, x: Columns, rest: Sequence[Any]) -> Columns | None:
        """A reduction over dimensions other than the first."""
        dims = sorted({d % (x.ndim + 1) for d in ([rest[0]] if isinstance(rest[0], int) else rest[0])}, reverse=True)
        keep = len(rest) > 1 and rest[1]
        if not dims or 0 in dims or x.size == 0:
            return None
        if target in _COUNTS and not x.flat[0].dtype.is_floating_point:  # True + True is 2, and any(2) is True
            kind = _COUNTS[target]
            x = self.each(lambda a, _: a.to(kind), x, x)
        for d in dims:
            parts = [boxed(np.take(x, [k] if keep else k, axis=d - 1)) for k in range(x.shape[d - 1])]
            x = reduce(partial(self.each, _FOLDS[target]), parts)
        return x

    def contracted(self, left: Columns, right: Columns) -> Columns | None:
        """[B, i, k] @ [B, k, j] as sums over k; None if the result has too many columns."""
        found = np.empty((left.shape[0], right.shape[1]), dtype=object)
        if found.size > self.widest:
            return None
        for i, j in np.ndindex(found.shape):
            found[i, j] = reduce(operator.add, [left[i, k] * right[k, j] for k in range(left.shape[1])])
        return found

    def whole(self, value: Any) -> Any:
        """Columns put together again, [B, ...]: one concatenation of all the [B], so that each stays together."""
        if not isinstance(value, np.ndarray):
            return value
        if value.ndim == 0:
            return value[()]
        return torch.cat(list(value.flat)).view(*value.shape, -1).movedim(-1, 0)

    @staticmethod
    def each(function: Callable[..., Any], a: Columns, b: Columns) -> Columns:
        found = np.empty(a.shape, dtype=object)
        for place in np.ndindex(a.shape):
            found[place] = function(a[place], b[place])
        return found


def elements(value: Tensor) -> Columns:
    """A small tensor as an array of tensors [1]; numpy would take a tensor [] apart."""
    found = np.empty(value.shape, dtype=object)
    for place in np.ndindex(found.shape):
        found[place] = value[place].reshape(1)
    return found


def on_cpu(value: Any) -> bool:
    """Where 2 / (1 + exp(-2 x)) - 1 is tanh to rounding, at a fifth of its time."""
    first = value.flat[0] if isinstance(value, np.ndarray) else value
    return bool(first.device.type == "cpu")


def ndim(arg: Any) -> int:
    """Dimensions of what an argument stands for, [B] among them; 0 for a number."""
    return arg.ndim + 1 if isinstance(arg, np.ndarray) else arg.ndim if isinstance(arg, Tensor) else 0


def shape_of(arg: Any, rows: int) -> tuple[int, ...]:
    """The shape of what an argument stands for."""
    return (rows, *arg.shape) if isinstance(arg, np.ndarray) else tuple(arg.shape)
