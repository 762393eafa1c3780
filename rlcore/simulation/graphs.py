"""A function as one graph of `torch.compile`, and that graph called again without its guards.

`torch.compile` looks at everything that a function has read before it runs its graph again. For a small batch that look
costs more than the steps themselves. Within one rollout only known tensors change, so the look is taken once.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch._dynamo.exc
from torch import Tensor, fx
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.utils import counters
from torch._functorch._aot_autograd.utils import make_boxed_func
from torch._inductor.decomposition import select_decomp_table
from torch._inductor.exc import InductorError
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.fx.experimental.proxy_tensor import make_fx

from rlcore.errors import ConfigError
from rlcore.simulation.columns import ByColumns
from rlcore.simulation.graph_constants import given_constants
from rlcore.simulation.lane_columns import LaneColumns
from rlcore.simulation.lifted import arguments, lift, with_numbers

KEPT = 64
"""Sets of numbers for which a graph is remembered; with one more all are forgotten."""
FUSED = 4096
"""Operations in one loop at most: torch's 64 would cut a chunk into loops that hand their results on through memory."""

Code = Callable[[list[Any]], Sequence[Any]]
"""A compiled graph: it empties the list of its arguments."""
Seen = tuple[Code, tuple[Any, ...], tuple[Any, ...]]
"""The code of a graph, what it was given and what it gave."""


class RecompileWarning(UserWarning):
    """A graph that should have been made once was made again."""


class CompileError(ConfigError):
    """The compiler refuses a rollout: for what is in it, or because a part of the compiler is missing."""


class Graph:
    """One compiled function. With `rows`, the number B of paths, it is rewritten by columns and has to stay the one.

    With `only_traced` it is not compiled: what it is called with, and what it would do, are then all that it gives.
    """

    def __init__(self, function: Callable[..., Any], name: str, rows: int | None, *, only_traced: bool = False) -> None:
        self.function, self.name, self.rows, self.only_traced, self.made = function, name, rows, only_traced, 0
        self.alike: list[int] = []
        self.last: Seen | None = None
        self.call = self.compiled()

    def compiled(self) -> Callable[..., Any]:
        """A new memory for what is compiled."""
        found: Callable[..., Any] = torch.compile(  # type: ignore[call-overload]
            self.function,
            backend=self.backend,
            fullgraph=True,
            dynamic=self.rows is None,
            isolate_recompiles=True,
            recompile_limit=KEPT,
        )
        return found

    def backend(self, module: fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        """What `torch.compile` calls when it has a new graph."""
        if self.rows is None:
            return compile_by_columns(module, inputs, None, [], self.see)
        if self.only_traced:
            return trace_by_columns(module, inputs, self.rows, self.alike, self.see)
        if not self.made:
            print(f"compiling {self.name}: once, 10 to 60 s; kept on disk for the next run", file=sys.stderr)
        before = counters["inductor"]["fxgraph_cache_hit"]
        code = compile_by_columns(module, inputs, self.rows, self.alike, self.see)
        if self.made and counters["inductor"]["fxgraph_cache_hit"] > before:
            return code  # other numbers in the same code
        self.made += 1
        if self.made > 1:
            warnings.warn(
                f"{self.name} is compiled again ({self.made} graphs): a number or a function inside the environment or "
                "the policy changed; keep what varies in tensors",
                RecompileWarning,
                stacklevel=2,
            )
        return code

    def see(self, seen: Seen) -> None:
        """What `compile_by_columns` tells of a call."""
        self.last = seen

    def __call__(self, *args: Any) -> tuple[Any, Seen | None]:
        """The function, and what its code was given; what the compiler refuses becomes a message."""
        self.last = None
        try:
            try:
                found = self.call(*args)
            except torch._dynamo.exc.FailOnRecompileLimitHit:  # as many numbers as it keeps: forget them
                self.call = self.compiled()
                found = self.call(*args)
        except (torch._dynamo.exc.TorchDynamoException, InductorError) as error:
            raise CompileError(
                f"{self.name} cannot be compiled: {reason(error)}; write it with tensor operations, or use mode 'eager'"
            ) from error
        seen, self.last = self.last, None
        return found, seen


def reason(error: Exception) -> str:
    """What the compiler could not do, in one line, with the user's line."""
    cause = getattr(error, "inner_exception", error)
    text = next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
    stack = getattr(error, "real_stack", None) or []
    place = f" at {stack[-1].filename}:{stack[-1].lineno}: {(stack[-1].line or '').strip()}" if stack else ""
    return f"{text}{place}"


def refuse_randomness(graph: fx.GraphModule) -> None:
    """Raise if a graph draws numbers: compiled ones are others than eager ones, and belong to no row."""
    for node in graph.graph.nodes:
        drawn = isinstance(node.target, torch._ops.OpOverload) and torch.Tag.nondeterministic_seeded in node.target.tags
        if drawn or "inductor_seed" in str(node.target):
            raise ConfigError("it draws random numbers of its own; take them from the noise that is given")


class Traced:
    """A graph over [B] tensors that is kept as it is. Called, it does nothing: its results are empty."""

    _boxed_call = True

    def __init__(self, module: fx.GraphModule, results: Sequence[Tensor]) -> None:
        self.graph = module.graph
        self.columns: Any = module.graph.output_node().args[0]
        """Each result as its columns."""
        with unset_fake_temporarily():
            self.results = tuple(torch.empty((), dtype=x.dtype, device=x.device).expand(x.shape) for x in results)

    def __call__(self, args: list[Any]) -> Sequence[Tensor]:
        args.clear()
        return self.results


def compile_by_columns(
    module: fx.GraphModule, inputs: list[Tensor], rows: int | None, alike: list[int], seen: Callable[[Seen], None]
) -> Callable[..., Any]:
    """Inductor; if `rows` is given, after the graph was rewritten by columns and its numbers were lifted out.

    `alike` as in `lift`. `seen` is told of every call.
    """

    def inner(graph: fx.GraphModule, given: Sequence[Any], **settings: Any) -> Any:
        mode = mode_of(graph)
        if rows is None or mode is None:
            return reporting(compile_fx_inner(graph, given, **settings), seen)
        with mode:
            found, numbers = rewritten(graph, ByColumns(graph, rows), alike)
            code: Any = compile_fx_inner(found, [*given, *map(mode.from_tensor, numbers)], **settings)
        return reporting(with_numbers(code, numbers), seen)

    on_cpu = all(x.device.type == "cpu" for x in inputs if isinstance(x, Tensor))
    by_rows = {"max_fusion_size": FUSED, "size_asserts": False, "cpp_wrapper": on_cpu}
    from torch._inductor.compile_fx import compile_fx  # a second, where a loop in C++ does without

    compiled: Any = compile_fx(module, inputs, inner_compile=inner, config_patches={} if rows is None else by_rows)
    return compiled  # type: ignore[no-any-return]


def compile_fx_inner(graph: fx.GraphModule, given: Sequence[Any], **settings: Any) -> Any:
    """Inductor's own work."""
    from torch._inductor import compile_fx

    return compile_fx.compile_fx_inner(graph, given, **settings)


def trace_by_columns(
    module: fx.GraphModule, inputs: list[Tensor], rows: int, alike: list[int], seen: Callable[[Seen], None]
) -> Callable[..., Any]:
    """As `compile_by_columns`, without inductor: a `Traced` stands in the place of its code."""

    def inner(graph: fx.GraphModule, given: Sequence[Any]) -> Any:
        mode = mode_of(graph)
        if mode is None:
            return make_boxed_func(graph.forward)
        ends: Any = graph.graph.output_node().args[0]
        with mode:
            constants = given_constants(graph, rows, mode)
            with unset_fake_temporarily():
                whole = {name: value.tolist() for name, value in constants.items() if not value.is_floating_point()}
            found, numbers = rewritten(graph, LaneColumns(graph, rows, whole), alike)
        held = [*constants.values(), *numbers]
        return with_numbers(reporting(Traced(found, [node.meta["val"] for node in ends]), seen), held)

    traced: Any = aot_autograd(fw_compiler=inner, decompositions=select_decomp_table())(module, inputs)
    return traced  # type: ignore[no-any-return]


def mode_of(graph: fx.GraphModule) -> FakeTensorMode | None:
    """In which a graph's tensors have no data; None if it is given none."""
    known = [node.meta["val"] for node in arguments(graph.graph)]
    return next((value.fake_mode for value in known if isinstance(value, FakeTensor)), None)


def rewritten(graph: fx.GraphModule, columns: ByColumns, alike: list[int]) -> tuple[fx.GraphModule, list[Tensor]]:
    """The graph by columns, and the numbers that it now takes after its own arguments."""
    refuse_randomness(graph)
    trace = make_fx(columns.run, decomposition_table=select_decomp_table(), _allow_fake_constant=True)
    return lift(trace(*(node.meta["val"] for node in arguments(graph.graph))), alike)


def reporting(code: Code, seen: Callable[[Seen], None]) -> Code:
    """The code, which tells of its arguments and results."""

    def call(args: list[Any]) -> Sequence[Any]:
        kept = tuple(args)  # the code empties the list
        found = code(args)
        seen((code, kept, tuple(found)))
        return found

    call._boxed_call = True  # type: ignore[attr-defined]
    return call


class Repeated:
    """A graph that is called often with other tensors of the same kinds, sizes and strides, and nothing else changed.

    The first call takes torch's look at everything. The code below is then called with the same arguments but those
    that change: which they are, and where the results stand, is read off the first call by identity.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.code: Code | None = None

    def __call__(self, slots: Sequence[Tensor | None], args: Sequence[Any]) -> Sequence[Any]:
        """The function's results, a flat sequence. `slots` are all the tensors among its arguments that change."""
        if self.code is None:
            found, seen = self.graph(*args)
            if seen is not None:
                self.learn(seen, slots, found)
            return found  # type: ignore[no-any-return]
        given = self.fixed.copy()
        for place, slot in self.moves:
            given[place] = slots[slot]
        known = [*self.code(given), None, *slots]
        return [known[place] for place in self.ends]

    def learn(self, seen: Seen, slots: Sequence[Tensor | None], found: Sequence[Any]) -> None:
        """Where the slots stand among the arguments of the code, and what is found among its results and the slots."""
        code, given, results = seen
        slot = {id(value): k for k, value in enumerate(slots) if value is not None}
        known = {id(value): k for k, value in reversed(list(enumerate([*results, None, *slots])))}
        still = [value for value in given if isinstance(value, Tensor) and id(value) not in slot]
        moving = {storage_of(value) for value in slots if value is not None} - {0}
        if any(id(value) not in known for value in found) or any(storage_of(value) in moving for value in still):
            return  # torch has put something between: its look stays
        self.moves = [(k, slot[id(value)]) for k, value in enumerate(given) if id(value) in slot]
        self.fixed = [None if id(value) in slot else value for value in given]
        self.ends = [known[id(value)] for value in found]
        self.code = code


def storage_of(value: Tensor) -> int:
    """Where the memory of a tensor begins; 0 without any."""
    return value.untyped_storage().data_ptr()
