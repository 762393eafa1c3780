"""One compiled graph around a method whose owner does not change, with as little as can be between two calls.

`torch.compile` looks at everything that a function has read before it runs its graph again: for a small network those
are hundreds of looks, a fifth of a step, nearly all of them at the owner. Here only the arguments are looked at. On a
CPU the calls between the kernels are compiled too (`cpp_wrapper`), a quarter of a step on small networks.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from itertools import count
from types import FunctionType, MethodType
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from rlcore.errors import ConfigError
from rlcore.nn.recording import Recorded, check_cuda

NUMBERS = count()
Compiled = bool | Literal["graph"]
"""How an update runs: eagerly, by graphs of `torch.compile`, or by these recorded as CUDA graphs."""


class Graph:
    """A method as a graph of `torch.compile`, without breaks, compiled anew for every new shape of its arguments.

    All that the method reads beside its arguments must stay as it was when the graph was made: numbers, switches,
    modules. Tensors that change belong among the arguments; those it changes in place are changed in place.

    With `recorded` the graph is replayed as a CUDA graph, and `changed` must name the arguments that it changes.
    """

    def __init__(self, method: Callable[..., Any], changed: Sequence[str] = (), *, recorded: bool = False) -> None:
        if recorded:
            check_cuda("compiled='graph'")
        self.method, self.changed, self.recorded = fresh(method), changed, recorded
        self.arguments = tuple(inspect.signature(method).parameters)
        self.compiled: Callable[..., Any] | None = None

    def __call__(self, *args: Any) -> Any:
        if self.compiled is None:
            on_cpu = all(x.device.type == "cpu" for x in tree_leaves(args) if isinstance(x, Tensor))
            options: dict[str, Any] = {"guard_filter_fn": self.of_arguments, "cpp_wrapper": on_cpu}
            compiled = torch.compile(self.method, fullgraph=True, dynamic=False, options=options)
            self.compiled = Recorded(compiled, self.arguments, self.changed) if self.recorded else compiled
        return self.compiled(*args)

    def of_arguments(self, guards: Sequence[Any]) -> list[bool]:
        """Which guards are looked at in every call: those of the arguments and of torch's own state."""
        return [(not g.is_global and g.name.startswith(self.arguments)) or not g.name for g in guards]


def made(method: Callable[..., Any], changed: Sequence[str], compiled: Compiled) -> Callable[..., Any]:
    """The method as it is, or as a graph that changes these arguments."""
    return Graph(method, changed, recorded=is_recorded(compiled)) if compiled else method


def is_recorded(compiled: Compiled) -> bool:
    """Whether graphs are recorded; raises on what is none of the three forms."""
    if compiled not in (False, True, "graph"):
        raise ConfigError(f"compiled must be False, True or 'graph', got {compiled!r}")
    return compiled == "graph"


def line(x: Tensor) -> Tensor:
    """A single number as a vector of one: what a graph of torch 2.13 does in place to one in float64 is lost."""
    return x if x.ndim else x.view(1)


def fresh(method: Any) -> Callable[..., Any]:
    """The same method with code of its own: `torch.compile` holds few graphs for one piece of code and refuses more."""
    function = method.__func__
    code = function.__code__.replace(co_name=f"{function.__name__}_{next(NUMBERS)}")
    return MethodType(FunctionType(code, function.__globals__, closure=function.__closure__), method.__self__)
