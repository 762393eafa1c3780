"""A graph over B paths as C++: what one path does in one lane of a vector register, a block of paths at a time.

A value is one of each lane, or the same for all; both are variables. A view of something given is an address, found by
taking the same view of the addresses themselves. What has many columns, as a layer of a network, is an array of the
block. What has no place in a block, as a sort, raises `NotByLanesError`; the rollout is then left to inductor.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from rlcore.simulation.lane_addresses import Address, Slot, Value, elements, evenly, in_order, memory
from rlcore.simulation.lane_operations import C_TYPES, ONE_BY_ONE, NotByLanesError, expression, name_of, over_lanes
from rlcore.simulation.lane_tables import LARGEST, looked_up, shared, shared_element
from rlcore.simulation.lifted import ancestors, arguments

_VIEWS = """
    select slice unsqueeze squeeze expand view reshape permute t transpose diagonal as_strided alias detach clone
    lift_fresh_copy _unsafe_view
"""


class Lanes:
    """The C++ of one graph over `rows` paths.

    `slots` are the arguments that stand in the block, by their place; the others are read where they are, in
    `given[place]`, at path `at(i)` where each path has its own.
    """

    def __init__(self, graph: fx.Graph, rows: int, slots: dict[int, Slot]) -> None:
        self.rows, self.nodes = rows, list(graph.nodes)
        self.arguments: dict[fx.Node, Address] = {}
        for place, node in enumerate(arguments(graph)):
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
        self.parts: dict[Any, list[Address]] = {}
        self.loads: dict[tuple[str, int | None], Value] = {}
        self.gathered: dict[tuple[Value, ...], Slot] = {}
        self.arrays: list[str] = []
        self.uniform: list[str] = []
        self.stages: list[list[str]] = [[]]
        """Lines of a loop over the lanes i, and lines as they are, by turns."""
        self.apart = 0
        """How many there are if the last is a loop of what stands apart."""

    def text(self, wanted: Sequence[tuple[fx.Node, str]]) -> str:
        """As `Lanes.body`."""
        needed = ancestors([node for node, _ in wanted])
        for node in self.nodes:
            if node in needed and node.op != "placeholder":
                self.visit(node)
        self.go_on(apart=False)
        ends = [f"{target} = {self.use(self.read(node))};" for node, target in wanted]
        self.stages[-1] += ends
        lines = [*self.arrays, *self.uniform]
        for k, stage in enumerate(self.stages):
            lines += stage if k % 2 else over_lanes(*stage)
        return "\n".join(f"    {line}" for line in lines)

    def visit(self, node: fx.Node) -> None:
        """An address, another name of a value, or an operation."""
        source: Any = node.args[0] if node.args else None
        if node.target is operator.getitem:
            self.addresses[node] = self.parts[source][int(node.args[1])]  # type: ignore[arg-type]
            return
        name, value, rows = name_of(node), node.meta["val"], self.rows
        if name in _VIEWS.split() and value.dtype != source.meta["val"].dtype:
            raise NotByLanesError(f"bits of {source.meta['val'].dtype} as {value.dtype}")
        if name == "cat":
            self.addresses[node] = self.joined(source, value, node.args[1] if len(node.args) > 1 else 0)
        elif name in _VIEWS.split() and source in self.addresses:
            place, at = self.addresses[source]
            self.addresses[node] = Address(place, node.target(at, *node.args[1:]))  # type: ignore[operator]
        elif name in ("split", "split_with_sizes", "unbind") and source in self.addresses:
            place, at = self.addresses[source]
            self.parts[node] = [Address(place, part) for part in node.target(at, *node.args[1:])]  # type: ignore[operator]
        elif name in _VIEWS.split() and self.same(node, source):
            self.values[node] = self.read(source)
        elif not isinstance(value, Tensor):
            raise NotByLanesError(f"{name} gives {type(value).__name__}")
        elif name == "index":
            self.go_on(apart=True)
            self.values[node] = looked_up(self, node)
        elif name in ("mm", "addmm", "bmm", "baddbmm"):
            self.layer(node)
        elif name == "sum" and self.columns(source) and node.args[1:2] in (([-1],), ([source.meta["val"].ndim - 1],)):
            self.total(node, source)
        elif value.numel() in (1, rows) or name == "full":
            uniform = all(self.read(arg).stage is None for arg in node.all_input_nodes)
            self.go_on(apart=name in ONE_BY_ONE)
            text = expression(node, lambda arg: self.use(self.read(arg)))
            self.values[node] = self.variable(f"v{len(self.values)}", text, value.dtype, uniform=uniform)
        elif shared(self, node):
            each = f"for (int c = 0; c < {value.numel()}; c++)"
            text = expression(node, lambda arg: shared_element(self, arg, value.shape))
            array = f"u{len(self.uniform)}"
            self.uniform.append(f"{C_TYPES[value.dtype]} {array}[{value.numel()}]; {each} {array}[c] = {text};")
            self.addresses[node] = Address(array, elements(value, in_order=True))
        elif self.columns(node):
            slot = self.array(self.columns(node)[0], value.dtype)
            text = expression(node, lambda arg: self.element(arg, value.shape))
            self.block([f"for (int c = 0; c < {slot.width}; c++)", *over_lanes(f"{slot.name}[c][i] = {text};")])
            self.addresses[node] = in_order(slot, value.shape)
        else:
            raise NotByLanesError(f"{name} gives {list(value.shape)}")

    def same(self, node: fx.Node, source: fx.Node) -> bool:
        """Whether a view of a variable is the same for each path."""
        if self.read(source).stage is None:
            return True
        order = torch.arange(self.rows)
        seen = node.target(order.view(source.meta["val"].shape), *node.args[1:])  # type: ignore[operator]
        return torch.equal(seen.reshape(-1), order)

    def columns(self, node: fx.Node) -> tuple[int, ...]:
        """(n,) for a value [B, n], whatever dimensions of one are between; () for any other."""
        long = [size for size in node.meta["val"].shape if size > 1]
        return (long[1],) if len(long) == 2 and long[0] == self.rows and long[1] <= LARGEST else ()

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

    def go_on(self, *, apart: bool) -> None:
        """In this loop, or in a new one: what gcc does number by number stands apart from what fills registers."""
        if apart != (self.apart == len(self.stages)):
            self.block([])
            self.apart = len(self.stages) if apart else 0

    def read(self, node: fx.Node) -> Value:
        """One number for each lane, or for all."""
        if node in self.values:
            return self.values[node]
        return self.read_at(self.address(node), node)

    def read_at(self, address: Address, node: fx.Node) -> Value:
        """The same of a view of a value."""
        (place, at), dtype = address, node.meta["val"].dtype
        if at.numel() not in (1, self.rows):
            raise NotByLanesError(f"{node.name} is read as {list(at.shape)}")
        line = evenly(at.reshape(-1, 1), node.name)
        if isinstance(place, (int, str)):
            return self.loaded(memory(place, line, dtype), dtype, uniform=line.by_row == 0)
        if at.numel() != self.rows:
            raise NotByLanesError(f"{node.name} of one path is read by others")
        column = self.column(place, line.first, line.by_row, node.name)
        return self.loaded(f"{place.name}[{column}][i]", dtype) if isinstance(place, Slot) else place[column]

    def column(self, place: Slot | tuple[Value, ...], first: int, by_row: int, name: str) -> int:
        """Which column of an array, or of values one after the other, begins there."""
        apart, column = (place.width, first) if isinstance(place, Slot) else (1, first // self.rows)
        begins = first < apart if isinstance(place, Slot) else first % self.rows == 0
        if not begins or (self.rows > 1 and by_row != apart):
            raise NotByLanesError(f"{name} of one path is read by others")
        return column

    def address(self, node: fx.Node) -> Address:
        """Where a value stands that is no variable."""
        if node not in self.addresses:
            raise NotByLanesError(f"{node.name} stands nowhere")
        return self.addresses[node]

    def joined(self, parts: Sequence[fx.Node], value: Tensor, dim: Any) -> Address:
        """A few columns beside each other, or [B] values one after the other."""
        columns: list[Value] = []
        for part in parts:
            if value.ndim == 1 or part in self.values:
                columns.append(self.read(part))
            else:
                place, at = self.address(part)
                columns += [self.read_at(Address(place, column), part) for column in at.unbind(-1)]
        if len(columns) * self.rows != value.numel() or (value.ndim > 1 and dim % value.ndim != value.ndim - 1):
            raise NotByLanesError(f"cat gives {list(value.shape)}")
        order = torch.arange(value.numel()).view(len(columns), self.rows)
        return Address(tuple(columns), (order if value.ndim == 1 else order.T).reshape(value.shape))

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
        kept = f"{self.gather((value,)).name}[0][i]"
        return self.loaded(f"{kept} != 0" if value.dtype == torch.bool else kept, value.dtype).text

    def gather(self, values: tuple[Value, ...]) -> Slot:
        """Values of lanes as an array, each stored where it is a variable."""
        if values not in self.gathered:
            dtype = values[0].dtype
            # gcc makes no mask of truth values that it reads
            slot = self.gathered[values] = self.array(len(values), torch.int32 if dtype == torch.bool else dtype)
            for k, value in enumerate(values):
                self.stages[-1 if value.stage is None else value.stage].append(f"{slot.name}[{k}][i] = {value.text};")
        return self.gathered[values]

    def element(self, node: fx.Node, shape: Sequence[int]) -> str:
        """Column c of lane i of a value that is broadcast to [B, n]."""
        if node in self.values and self.values[node].stage is None:
            return self.values[node].text
        if node in self.values:
            at = torch.arange(self.rows).view(node.meta["val"].shape)
            place: int | str | Slot | tuple[Value, ...] = (self.values[node],)
        else:
            place, at = self.address(node)
        each = at.broadcast_to(shape).reshape(self.rows, -1)
        line = evenly(each, node.name)
        if isinstance(place, (int, str)):
            return memory(place, line, node.meta["val"].dtype)
        first, _ = (self.column(place, int(at), line.by_row, node.name) for at in each[0, [0, -1]])
        slot, step = (place, 1) if isinstance(place, Slot) else (self.gather(place), self.rows)
        return f"{slot.name}[{first} + {line.by_column // step} * c][i]"

    def layer(self, node: fx.Node) -> None:
        """[B, k] @ [k, n] (+ [n]) by a matrix that is given."""
        bias, (left, right) = list(node.all_input_nodes)[:-2], list(node.args)[-2:]
        assert isinstance(left, fx.Node)
        assert isinstance(right, fx.Node)
        value, inputs = node.meta["val"], left.meta["val"]
        width, across = value.shape[-1], inputs.shape[-1]
        if node.kwargs or inputs.numel() != self.rows * across or max(width, across) > LARGEST:
            raise NotByLanesError(f"{node.target} of {list(inputs.shape)}")
        source, target = self.array(across, inputs.dtype), self.array(width, value.dtype)
        copied = f"{source.name}[c][i] = {self.element(left, inputs.shape)};"
        taken = [self.matrix(right, (across, width)), *(self.matrix(part, (1, width)) for part in bias)]
        call = f"layer({', '.join([source.name, target.name, *taken])});"
        self.block([f"for (int c = 0; c < {source.width}; c++)", *over_lanes(copied), call])
        self.addresses[node] = in_order(target, value.shape)

    def matrix(self, node: fx.Node, shape: Sequence[int]) -> str:
        """Where a matrix begins, and how far apart its rows and columns are."""
        place, at = self.addresses.get(node, (None, torch.empty(0)))
        if not isinstance(place, int):
            raise NotByLanesError(f"{node.name} is not a matrix that is given")
        line, kind = evenly(at.reshape(-1, shape[1]).broadcast_to(shape), node.name), C_TYPES[node.meta["val"].dtype]
        return f"static_cast<const {kind} *>(given[{place}]) + {line.first}, {line.by_row}, {line.by_column}"

    def total(self, node: fx.Node, source: fx.Node) -> None:
        """The sum of each row of [B, n]."""
        slot, dtype = self.array(1, node.meta["val"].dtype), node.meta["val"].dtype
        lines = over_lanes(f"{slot.name}[0][i] = 0;")
        lines += [f"for (int c = 0; c < {self.columns(source)[0]}; c++)"]
        lines += over_lanes(f"{slot.name}[0][i] += {self.element(source, source.meta['val'].shape)};")
        self.block(lines)
        self.values[node] = self.loaded(f"{slot.name}[0][i]", dtype)
