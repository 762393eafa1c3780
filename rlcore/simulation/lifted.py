"""The numbers of a graph as data, so that two graphs that differ in numbers alone are one piece of code.

A number in an environment's config ends as a constant of the graph. Here the constants of elementwise operations become
elements of the graph's last arguments, each rounded to the dtype of its operation, as the compiler would round it: the
results keep their bits. 0 stays where it is. Inductor finds the code again by the text of the graph, on disk too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import unset_fake_temporarily

aten = torch.ops.aten
_TENSORS: dict[Any, Any] = {  # an operation with a number -> the same one between tensors
    aten.add.Tensor: aten.add.Tensor,
    aten.sub.Tensor: aten.sub.Tensor,
    aten.mul.Tensor: aten.mul.Tensor,
    aten.div.Tensor: aten.div.Tensor,
    aten.add.Scalar: aten.add.Tensor,
    aten.sub.Scalar: aten.sub.Tensor,
    aten.mul.Scalar: aten.mul.Tensor,
    aten.div.Scalar: aten.div.Tensor,
    aten.clamp_min.default: aten.maximum.default,
    aten.clamp_max.default: aten.minimum.default,
    aten.gt.Scalar: aten.gt.Tensor,
    aten.ge.Scalar: aten.ge.Tensor,
    aten.lt.Scalar: aten.lt.Tensor,
    aten.le.Scalar: aten.le.Tensor,
}


PRECISIONS = (torch.float32, torch.float64)


def lift(module: fx.GraphModule, alike: list[int]) -> tuple[fx.GraphModule, list[Tensor]]:
    """The graph with its numbers as last arguments, and the numbers: [N] for each dtype of `PRECISIONS`.

    Equal numbers are one element: loads that are not there cost nothing. `alike` holds the element of each place from
    graph to graph, at first []: numbers that were apart stay apart where they happen to be equal, in the same text.
    """
    numbers = Numbers(module.graph)
    for node in [node for node in module.graph.nodes if node.op == "call_function"]:
        new = numbers.instead_of(node)
        if new is not None:
            node.replace_all_uses_with(new)
            module.graph.erase_node(node)
    found = numbers.finish(alike)
    module.recompile()
    return module, found


class Numbers:
    """The numbers found so far, and where they stand."""

    def __init__(self, graph: fx.Graph) -> None:
        self.graph = graph
        last = arguments(graph)[-1]
        self.mode, self.device = last.meta["val"].fake_mode, last.meta["val"].device
        self.places: list[tuple[fx.Node, float, torch.dtype]] = []
        self.arguments: dict[torch.dtype, fx.Node] = {}
        for dtype in PRECISIONS:
            with graph.inserting_after(last):
                last = self.arguments[dtype] = graph.placeholder(f"numbers_{str(dtype).removeprefix('torch.')}")

    def instead_of(self, node: fx.Node) -> fx.Node | None:
        """An operation without numbers of its own in the place of one that has some; None if there are none."""
        value = node.meta.get("val")
        if not isinstance(value, Tensor):
            return None
        with self.graph.inserting_before(node):
            if node.target is aten.full.default and movable(node.args[1]) and value.dtype in PRECISIONS:
                return self.call(aten.expand.default, self.place(node.args[1], value.dtype), node.args[0])
            parts = [arg.meta["val"] for arg in node.args if isinstance(arg, fx.Node)]
            dtype = parts[0].dtype if parts and isinstance(parts[0], Tensor) else torch.bool
            if node.target not in _TENSORS or len(node.args) != 2 or dtype not in PRECISIONS:
                return None
            if value.dtype not in (dtype, torch.bool):
                return None
            if set(node.kwargs) == {"alpha"} and movable(node.kwargs["alpha"]) and len(parts) == 2:
                scaled = self.call(aten.mul.Tensor, node.args[1], self.place(node.kwargs["alpha"], dtype))
                return self.call(_TENSORS[node.target], node.args[0], scaled)
            if node.kwargs or not any(map(movable, node.args)):
                return None
            args = [self.place(arg, dtype) if movable(arg) else arg for arg in node.args]
            return self.call(_TENSORS[node.target], *args)

    def place(self, value: float, dtype: torch.dtype) -> fx.Node:
        """A place for a number, as a tensor []."""
        self.places.append((self.element(0, dtype), value, dtype))
        return self.places[-1][0]

    def element(self, index: int, dtype: torch.dtype) -> fx.Node:
        """An element of the numbers, as a tensor []."""
        node = self.graph.call_function(aten.select.int, (self.arguments[dtype], 0, index))
        with self.mode:
            node.meta["val"] = torch.empty((), dtype=dtype, device=self.device)
        return node

    def call(self, target: Any, *args: Any) -> fx.Node:
        """A new operation, with what inductor wants to know of its value."""
        node = self.graph.call_function(target, args)
        with self.mode:
            node.meta["val"] = target(*fx.node.map_arg(args, lambda arg: arg.meta["val"]))
        return node

    def finish(self, alike: list[int]) -> list[Tensor]:
        """Equal numbers get one element, at the beginning of the graph -> the numbers, never empty."""
        before = list(alike) if len(alike) == len(self.places) else [0] * len(self.places)
        elements: dict[tuple[int, float, torch.dtype], int] = {}
        values: dict[torch.dtype, list[float]] = {dtype: [] for dtype in PRECISIONS}
        shared: list[fx.Node] = []
        alike.clear()
        for (node, value, dtype), known in zip(self.places, before, strict=True):
            key = (known, value, dtype)
            if key not in elements:
                elements[key] = len(elements)
                with self.graph.inserting_after(self.arguments[PRECISIONS[-1]]):
                    shared.append(self.element(len(values[dtype]), dtype))
                values[dtype].append(value)
            alike.append(elements[key])
            node.replace_all_uses_with(shared[elements[key]])
            self.graph.erase_node(node)
        with unset_fake_temporarily():
            found = [torch.tensor([*values[t], 0.0], dtype=t, device=self.device) for t in PRECISIONS]
        for argument, numbers in zip(self.arguments.values(), found, strict=True):
            argument.meta["val"] = self.mode.from_tensor(numbers, static_shapes=True)
        self.graph.lint()
        return found


def arguments(graph: fx.Graph) -> list[fx.Node]:
    """What a graph is given."""
    return [node for node in graph.nodes if node.op == "placeholder"]


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


def movable(value: Any) -> TypeGuard[float]:
    """Whether a constant is a number that can be data."""
    return isinstance(value, float) and math.isfinite(value) and value != 0.0


def with_numbers(code: Callable[[list[Any]], Any], numbers: list[Tensor]) -> Callable[[list[Any]], Any]:
    """The compiled graph with its numbers given."""

    def run(args: list[Any]) -> Any:
        args.extend(numbers)
        return code(args)

    run._boxed_call = True  # type: ignore[attr-defined]
    return run
