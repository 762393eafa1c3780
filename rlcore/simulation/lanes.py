"""A graph over B paths as C++: what one path does in one lane of a vector register, a block of paths at a time.

A value is one of each lane, or the same for all; both are variables. A view of something given is an address, found by
taking the same view of the addresses themselves. What has many columns, as a layer of a network, is an array of the
block. What has no place in a block, as a sort, raises `NotByLanesError`; the rollout is then left to inductor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from rlcore.simulation.lane_operations import C_TYPES, NotByLanesError, expression, name_of

_VIEWS = """
    select slice unsqueeze squeeze expand view reshape permute t transpose diagonal as_strided alias detach clone
    lift_fresh_copy _unsafe_view
"""
LARGEST = 1 << 10
"""Columns of an array of the block at most: with more it leaves the cache."""


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

    In an argument that is where it stands in memory; otherwise in the order of [B, n], or of values of B paths each.
    """

    place: int | Slot | tuple[Value, ...]
    at: Tensor


class Line(NamedTuple):
    """Where elements [B, n] stand, evenly."""

    first: int
    by_row: int
    by_column: int


class Lanes:
    """The C++ of one graph over `rows` paths.

    `slots` are the arguments that stand in the block, by their place; the others are read where they are, in
    `given[place]`, at path `at(i)` where each path has its own.
    """

    def __init__(self, graph: fx.Graph, rows: int, slots: dict[int, Slot]) -> None:
        self.rows, self.nodes = rows, list(graph.nodes)
        self.arguments: dict[fx.Node, Address] = {}
        for place, node in enumerate(node for node in self.nodes if node.op == "placeholder"):
            value = node.meta["val"]
            if isinstance(value, Tensor):
                self.arguments[node] = Address(slots.get(place, place), elements(value, in_order=place in slots))

    def body(self, wanted: Sequence[tuple[fx.Node, str]]) -> str:
        """C++ that leaves values of lane i in their targets."""
        return Body(self.rows, self.nodes, dict(self.arguments)).text(wanted)


class Body:
    """A piece of C++: arrays, what is the same for all, and loops over the lanes one after the other."""

    def __init__(self, rows: int, nodes: Sequence[fx.Node], addresses: dict[fx.Node, Address]) -> None:
        self.rows, self.nodes, self.addresses = rows, nodes, addresses
        self.values: dict[fx.Node, Value] = {}
        self.loads: dict[tuple[str, int | None], Value] = {}
        self.gathered: dict[tuple[Value, ...], Slot] = {}
        self.arrays: list[str] = []
        self.uniform: list[str] = []
        self.stages: list[list[str]] = [[]]
        """Lines of a loop over the lanes i, and lines as they are, by turns."""

    def text(self, wanted: Sequence[tuple[fx.Node, str]]) -> str:
        """As `Lanes.body`."""
        needed = ancestors([node for node, _ in wanted])
        for node in self.nodes:
            if node in needed and node.op != "placeholder":
                self.visit(node)
        ends = [f"{target} = {self.use(self.read(node))};" for node, target in wanted]
        self.stages[-1] += ends
        lines = [*self.arrays, *self.uniform]
        for k, stage in enumerate(self.stages):
            lines += stage if k % 2 else over_lanes(*stage)
        return "\n".join(f"    {line}" for line in lines)

    def visit(self, node: fx.Node) -> None:
        """An address, another name of a value, or an operation."""
        name, value, rows = name_of(node), node.meta["val"], self.rows
        source: Any = node.args[0] if node.args else None
        if name == "cat" and all(part.meta["val"].shape == (rows,) for part in node.all_input_nodes):
            self.addresses[node] = Address(tuple(map(self.read, source)), torch.arange(value.numel()))
        elif name in _VIEWS.split() and source in self.addresses:
            place, at = self.addresses[source]
            self.addresses[node] = Address(place, node.target(at, *node.args[1:]))  # type: ignore[operator]
        elif name in _VIEWS.split() and (self.read(source).stage is None or value.numel() == rows):
            self.values[node] = self.read(source)
        elif not isinstance(value, Tensor):
            raise NotByLanesError(f"{name} gives {type(value).__name__}")
        elif name in ("mm", "addmm"):
            self.layer(node)
        elif name == "sum" and source.meta["val"].ndim == 2 and node.args[1] in ([1], [-1]):
            self.total(node, source)
        elif value.numel() in (1, rows) or name == "full":
            text = expression(node, lambda arg: self.use(self.read(arg)))
            uniform = all(self.read(arg).stage is None for arg in node.all_input_nodes)
            self.values[node] = self.variable(f"v{len(self.values)}", text, value.dtype, uniform=uniform)
        elif value.ndim == 2 and value.shape[0] == rows and value.shape[1] <= LARGEST:
            slot = self.array(value.shape[1], value.dtype)
            text = expression(node, lambda arg: self.element(arg, value.shape))
            self.block([f"for (int c = 0; c < {slot.width}; c++)", *over_lanes(f"{slot.name}[c][i] = {text};")])
            self.addresses[node] = in_order(slot, rows)
        else:
            raise NotByLanesError(f"{name} gives {list(value.shape)}")

    def variable(self, name: str, text: str, dtype: torch.dtype, *, uniform: bool) -> Value:
        """A new variable."""
        (self.uniform if uniform else self.stages[-1]).append(f"const {C_TYPES[dtype]} {name} = {text};")
        return Value(name, dtype, None if uniform else len(self.stages) - 1)

    def array(self, width: int, dtype: torch.dtype) -> Slot:
        """A new array of the block."""
        slot = Slot(f"a{len(self.arrays)}", width)
        self.arrays.append(f"alignas(64) {C_TYPES[dtype]} {slot.name}[{width}][LANES];")
        return slot

    def block(self, lines: list[str]) -> None:
        """Lines between two loops."""
        self.stages += [lines, []]

    def read(self, node: fx.Node) -> Value:
        """One number for each lane, or for all."""
        if node in self.values:
            return self.values[node]
        (place, at), dtype = self.addresses[node], node.meta["val"].dtype
        if at.numel() not in (1, self.rows):
            raise NotByLanesError(f"{node.name} is read as {list(at.shape)}")
        line = evenly(at.reshape(-1, 1), node.name)
        if isinstance(place, int):
            return self.loaded(memory(place, line, dtype), dtype, uniform=line.by_row == 0)
        apart = place.width if isinstance(place, Slot) else 1
        if at.numel() != self.rows or (self.rows > 1 and line.by_row != apart):
            raise NotByLanesError(f"{node.name} of one path is read by others")
        if isinstance(place, Slot):
            return self.loaded(f"{place.name}[{line.first}][i]", dtype)
        return place[line.first // self.rows]

    def loaded(self, text: str, dtype: torch.dtype, *, uniform: bool = False) -> Value:
        """Something in memory as a variable of this stage: it is read before anything is written in its place."""
        key = text, None if uniform else len(self.stages) - 1
        if key not in self.loads:
            self.loads[key] = self.variable(f"given{len(self.loads)}", text, dtype, uniform=uniform)
        return self.loads[key]

    def use(self, value: Value) -> str:
        """A value in this stage."""
        if value.stage in (None, len(self.stages) - 1):
            return value.text
        return self.loaded(f"{self.gather((value,)).name}[0][i]", value.dtype).text

    def gather(self, values: tuple[Value, ...]) -> Slot:
        """Values of lanes as an array, each stored where it is a variable."""
        if values not in self.gathered:
            slot = self.gathered[values] = self.array(len(values), values[0].dtype)
            for k, value in enumerate(values):
                self.stages[-1 if value.stage is None else value.stage].append(f"{slot.name}[{k}][i] = {value.text};")
        return self.gathered[values]

    def element(self, node: fx.Node, shape: Sequence[int]) -> str:
        """Column c of lane i of a value that is broadcast to [B, n]."""
        if node in self.values:
            value = self.values[node]
            if value.stage is None:
                return value.text
            if node.meta["val"].shape != (self.rows, 1):
                raise NotByLanesError(f"{node.name} is broadcast from {list(node.meta['val'].shape)}")
            return f"{self.gather((value,)).name}[0][i]"
        place, at = self.addresses[node]
        line = evenly(at.broadcast_to(shape), node.name)
        if isinstance(place, int):
            return memory(place, line, node.meta["val"].dtype)
        slot, step = (place, 1) if isinstance(place, Slot) else (self.gather(place), self.rows)
        if self.rows > 1 and line.by_row != (slot.width if isinstance(place, Slot) else 1):
            raise NotByLanesError(f"{node.name} of one path is read by others")
        return f"{slot.name}[{line.first // step} + {line.by_column // step} * c][i]"

    def layer(self, node: fx.Node) -> None:
        """[B, k] @ [k, n] (+ [n]) by a matrix that is given."""
        *bias, left, right = node.args
        value, inputs = node.meta["val"], left.meta["val"]  # type: ignore[union-attr]
        if node.kwargs or inputs.shape[0] != self.rows or max(value.shape[1], inputs.shape[1]) > LARGEST:
            raise NotByLanesError(f"{node.target} of {list(inputs.shape)}")
        source, target = self.array(inputs.shape[1], inputs.dtype), self.array(value.shape[1], value.dtype)
        copied = f"{source.name}[c][i] = {self.element(left, inputs.shape)};"  # type: ignore[arg-type]
        taken = [self.matrix(right, right.meta["val"].shape)]  # type: ignore[arg-type,union-attr]
        taken += [self.matrix(part, (1, value.shape[1])) for part in bias]  # type: ignore[arg-type]
        call = f"layer({', '.join([source.name, target.name, *taken])});"
        self.block([f"for (int c = 0; c < {source.width}; c++)", *over_lanes(copied), call])
        self.addresses[node] = in_order(target, self.rows)

    def matrix(self, node: fx.Node, shape: Sequence[int]) -> str:
        """Where a matrix begins, and how far apart its rows and columns are."""
        place, at = self.addresses.get(node, (None, torch.empty(0)))
        if not isinstance(place, int):
            raise NotByLanesError(f"{node.name} is not a matrix that is given")
        line, kind = evenly(at.broadcast_to(shape), node.name), C_TYPES[node.meta["val"].dtype]
        return f"static_cast<const {kind} *>(given[{place}]) + {line.first}, {line.by_row}, {line.by_column}"

    def total(self, node: fx.Node, source: fx.Node) -> None:
        """The sum of each row of [B, n]."""
        slot, dtype = self.array(1, node.meta["val"].dtype), node.meta["val"].dtype
        text = self.element(source, source.meta["val"].shape)
        columns = f"for (int c = 0; c < {source.meta['val'].shape[1]}; c++)"
        self.block([*over_lanes(f"{slot.name}[0][i] = 0;"), columns, *over_lanes(f"{slot.name}[0][i] += {text};")])
        self.values[node] = self.loaded(f"{slot.name}[0][i]", dtype)


def over_lanes(*lines: str) -> list[str]:
    """A loop over the lanes."""
    return ["#pragma omp simd", "for (int i = 0; i < LANES; i++) {", *lines, "}"] if lines else []


def memory(place: int, line: Line, dtype: torch.dtype) -> str:
    """An element of what is given, of path at(i) and column c."""
    index = [str(line.first)]
    index += [f"{line.by_row} * at(i)"] if line.by_row else []
    index += [f"{line.by_column} * c"] if line.by_column else []
    return f"static_cast<const {C_TYPES[dtype]} *>(given[{place}])[{' + '.join(index)}]"


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


def in_order(slot: Slot, rows: int) -> Address:
    """The whole of an array."""
    return Address(slot, torch.arange(rows * slot.width).view(rows, slot.width))


def elements(value: Tensor, *, in_order: bool) -> Tensor:
    """Where each element of a tensor stands: in its memory, or in order."""
    if in_order:
        return torch.arange(value.numel()).view(value.shape)
    reach = sum((size - 1) * stride for size, stride in zip(value.shape, value.stride(), strict=True)) + 1
    return torch.arange(reach).as_strided(value.shape, value.stride())


def ancestors(nodes: Sequence[fx.Node]) -> set[fx.Node]:
    """All that some values are made of, and they themselves."""
    found: set[fx.Node] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += node.all_input_nodes
    return found
