"""A graph of elementwise operations on [B] tensors as C++: what one path does in one lane of a vector register.

A value is one of each lane, or the same for all. A view of something given is an address, found by taking the same
view of the addresses themselves. What has no place in a lane, as a large matrix or a sort, raises `NotByLanesError`;
the rollout is then left to inductor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

C_TYPES = {
    torch.float32: "float",
    torch.float64: "double",
    torch.int64: "int64_t",
    torch.int32: "int32_t",
    torch.bool: "bool",
}
_FUNCTIONS = (
    "sin cos tan exp log erf erfc tanh sigmoid sinh cosh atan asin acos asinh acosh atanh expm1 log1p exp2 log2 sqrt "
    "rsqrt abs floor ceil trunc round sign reciprocal relu maximum minimum pow hypot remainder"
)
_EXPRESSIONS = {
    **{name: f"{name}_({{}})" for name in _FUNCTIONS.split()},
    "neg": "-{0}",
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "addcmul": "{0} + {1} * {2}",
    "clamp_min": "maximum_({0}, {1})",
    "clamp_max": "minimum_({0}, {1})",
    "full": "{1}",
    "_to_copy": "{0}",
    "convert_element_type": "{0}",
    "bitwise_and": "{0} & {1}",
    "bitwise_or": "{0} | {1}",
    "bitwise_xor": "{0} ^ {1}",
}
"""Operations whose arguments first become what their value is."""
_LOGIC = {"logical_and": "{0} && {1}", "logical_or": "{0} || {1}", "logical_not": "!{0}", "bitwise_not": "!{0}"}
"""The same, of truth values only."""
_QUESTIONS = {
    "lt": "{0} < {1}",
    "le": "{0} <= {1}",
    "gt": "{0} > {1}",
    "ge": "{0} >= {1}",
    "eq": "{0} == {1}",
    "ne": "{0} != {1}",
    "isnan": "{0} != {0}",
    "isinf": "abs_({0}) == INFINITY",
}
"""The same, where the arguments become what they have in common."""
_POWERS = {1.0: "{0}", 2.0: "{0} * {0}", 3.0: "{0} * {0} * {0}", 0.5: "sqrt_({0})", -1.0: "1 / {0}"}
_VIEWS = (
    "select slice unsqueeze squeeze expand view reshape permute t transpose diagonal as_strided alias detach clone "
    "lift_fresh_copy _unsafe_view"
)
_HARMLESS = frozenset({"dtype", "layout", "device", "pin_memory", "memory_format"})


class NotByLanesError(Exception):
    """Something that a lane cannot do alone."""


class Slot(NamedTuple):
    """A [B] or [B, n] argument that stands in the block of paths that is worked on, each column by itself."""

    name: str
    width: int  # n


class Value(NamedTuple):
    """A value in C++."""

    text: str
    per_lane: bool


class Address(NamedTuple):
    """An argument, or values of the graph one after the other, or a view of them: where each element stands."""

    place: int | tuple[Value, ...]  # among the arguments
    at: Tensor


class Lanes:
    """The C++ of one graph over `rows` paths.

    `slots` are the arguments that stand in the block, by their place; the others are read where they are, in
    `given[place]`, at path `at(i)` where each path has its own.
    """

    def __init__(self, graph: fx.Graph, rows: int, slots: dict[int, Slot]) -> None:
        self.rows, self.slots, self.nodes = rows, slots, list(graph.nodes)
        self.arguments: dict[fx.Node, Address] = {}
        for place, node in enumerate(node for node in self.nodes if node.op == "placeholder"):
            value = node.meta["val"]
            if isinstance(value, Tensor):
                self.arguments[node] = Address(place, elements(value, in_order=place in slots))

    def body(self, wanted: Sequence[tuple[fx.Node, str]]) -> str:
        """C++ that leaves values of lane i in their targets: first what is the same for all, then a loop."""
        self.uniform: list[str] = []
        self.lane: list[str] = []
        self.loads: dict[str, Value] = {}
        self.addresses, self.values = dict(self.arguments), dict[fx.Node, Value]()
        needed = ancestors([node for node, _ in wanted])
        for node in self.nodes:
            if node in needed and node.op != "placeholder":
                self.visit(node)
        ends = [f"{target} = {self.read(node).text};" for node, target in wanted]
        lines = [*self.uniform, "#pragma omp simd", "for (int i = 0; i < LANES; i++) {", *self.lane, *ends, "}"]
        return "\n".join(f"    {line}" for line in lines)

    def fits(self, value: Tensor) -> bool:
        """Whether it has an element for each path, or one for all."""
        return value.numel() in (1, self.rows)

    def visit(self, node: fx.Node) -> None:
        """An address, another name of a value, or an operation."""
        if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
            raise NotByLanesError(f"{node.op} {node.target}")
        name, source = node.target._schema.name.split("::")[1], node.args[0] if node.args else None
        value = node.meta["val"]
        if name == "cat" and all(part.meta["val"].shape == (self.rows,) for part in node.all_input_nodes):
            parts: Any = source
            self.addresses[node] = Address(tuple(map(self.read, parts)), torch.arange(value.numel()))
            return
        if name in _VIEWS.split() and isinstance(source, fx.Node):
            if source in self.addresses:
                place, index = self.addresses[source]
                self.addresses[node] = Address(place, node.target(index, *node.args[1:]))
                return
            if value.numel() == (self.rows if self.read(source).per_lane else 1) or not self.read(source).per_lane:
                self.values[node] = self.read(source)
                return
        if not isinstance(value, Tensor) or not (self.fits(value) or name == "full") or value.dtype not in C_TYPES:
            raise NotByLanesError(f"{name} gives {list(value.shape) if isinstance(value, Tensor) else type(value)}")
        text, per_lane = self.operation(name, node)
        variable = f"v{len(self.values)}"
        (self.lane if per_lane else self.uniform).append(f"const {C_TYPES[value.dtype]} {variable} = {text};")
        self.values[node] = Value(variable, per_lane)

    def operation(self, name: str, node: fx.Node) -> Value:
        """An operation in C++."""
        kept = {key: value for key, value in node.kwargs.items() if key not in _HARMLESS}
        alpha = kept.pop("alpha", kept.pop("value", 1))
        known: list[Any] = [arg.meta["val"] if isinstance(arg, fx.Node) else arg for arg in node.args]
        dtype = node.meta["val"].dtype
        types: list[torch.dtype] = [dtype] * len(known)
        if name == "pow" and known[1] in _POWERS:
            form = _POWERS[known[1]]
        elif name == "where":
            form, types = "{0} ? {1} : {2}", [torch.bool, dtype, dtype]
        elif name in _QUESTIONS:
            form = _QUESTIONS[name]
            types = [known[0].dtype if len(known) == 1 else torch.result_type(*known)] * len(known)
        elif name in _LOGIC and all(isinstance(value, Tensor) and value.dtype == torch.bool for value in known):
            form = _LOGIC[name]
        elif name in _EXPRESSIONS and (dtype != torch.bool or name not in ("add", "mul", "neg")):
            form = _EXPRESSIONS[name]
        else:
            raise NotByLanesError(str(node.target))
        if kept or (name == "div" and not dtype.is_floating_point):
            raise NotByLanesError(f"{node.target} with {kept}")
        read = [self.read(arg) if isinstance(arg, fx.Node) else None for arg in node.args]
        each = zip(known, read, types, strict=True)
        texts = [cast(value.text, a.dtype, t) if value else literal(a, t) for a, value, t in each]
        if alpha != 1:
            texts[1] = f"{literal(alpha, dtype)} * {texts[1]}"
        form = form.replace("{}", ", ".join(f"{{{k}}}" for k in range(len(texts))))
        return Value(form.format(*texts), any(value.per_lane for value in read if value))

    def read(self, node: fx.Node) -> Value:
        """A value in C++."""
        if node in self.values:
            return self.values[node]
        (place, index), dtype = self.addresses[node], node.meta["val"].dtype
        if not self.fits(index):
            raise NotByLanesError(f"{node.name} is read as {list(index.shape)}")
        where = index.reshape(-1)
        first, step = int(where[0]), int(where[-1] - where[0]) // max(1, len(where) - 1)
        if not torch.equal(where, first + step * torch.arange(len(where))):
            raise NotByLanesError(f"{node.name} is not evenly spaced")
        if isinstance(place, tuple):
            if len(where) != self.rows or first % self.rows or (self.rows > 1 and step != 1):
                raise NotByLanesError(f"{node.name} is of several paths")
            return place[first // self.rows]
        if place in self.slots:
            name, width = self.slots[place]
            if len(where) != self.rows or (self.rows > 1 and step != width):
                raise NotByLanesError(f"{name} of one path is read by others")
            return self.loaded(f"{name}[{first}][i]", dtype, self.lane)
        memory = f"static_cast<const {C_TYPES[dtype]} *>(given[{place}])"
        if step == 0:
            return self.loaded(f"{memory}[{first}]", dtype, self.uniform)
        return self.loaded(f"{memory}[{first} + {step} * at(i)]", dtype, self.lane)

    def loaded(self, text: str, dtype: torch.dtype, lines: list[str]) -> Value:
        """Something given as a variable: it is read before anything is written in its place."""
        if text not in self.loads:
            self.loads[text] = Value(f"given{len(self.loads)}", lines is self.lane)
            lines.append(f"const {C_TYPES[dtype]} {self.loads[text].text} = {text};")
        return self.loads[text]


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


def cast(text: str, have: torch.dtype, want: torch.dtype) -> str:
    """A value as one of another dtype."""
    return text if have == want else f"{C_TYPES[want]}({text})"


def literal(value: Any, dtype: torch.dtype) -> str:
    """A number of a graph."""
    if isinstance(value, (list, tuple, torch.dtype)) or value is None:
        return ""  # sizes and the like
    if not isinstance(value, (bool, int, float)):
        raise NotByLanesError(f"{value!r} among numbers")
    if isinstance(value, float) and not math.isfinite(value):
        return "NAN" if math.isnan(value) else "INFINITY" if value > 0 else "-INFINITY"
    return f"{C_TYPES[dtype]}({value!r})" if not isinstance(value, bool) else f"{C_TYPES[dtype]}({int(value)})"
