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
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

NUMBERS = count()


class Graph:
    """A method as a graph of `torch.compile`, without breaks, compiled anew for every new shape of its arguments.

    All that the method reads beside its arguments must stay as it was when the graph was made: numbers, switches,
    modules. Tensors that change belong among the arguments; those it changes in place are changed in place.
    """

    def __init__(self, method: Callable[..., Any]) -> None:
        self.method = fresh(method)
        self.arguments = tuple(inspect.signature(method).parameters)
        self.compiled: Callable[..., Any] | None = None

    def __call__(self, *args: Any) -> Any:
        if self.compiled is None:
            on_cpu = all(x.device.type == "cpu" for x in tree_leaves(args) if isinstance(x, Tensor))
            options: dict[str, Any] = {"guard_filter_fn": self.of_arguments, "cpp_wrapper": on_cpu}
            self.compiled = torch.compile(self.method, fullgraph=True, dynamic=False, options=options)
        return self.compiled(*args)

    def of_arguments(self, guards: Sequence[Any]) -> list[bool]:
        """Which guards are looked at in every call: those of the arguments and of torch's own state."""
        return [(not g.is_global and g.name.startswith(self.arguments)) or not g.name for g in guards]


def fresh(method: Any) -> Callable[..., Any]:
    """The same method with code of its own: `torch.compile` holds few graphs for one piece of code and refuses more."""
    function = method.__func__
    code = function.__code__.replace(co_name=f"{function.__name__}_{next(NUMBERS)}")
    return MethodType(FunctionType(code, function.__globals__, closure=function.__closure__), method.__self__)
