"""A function of tensors as one CUDA graph, recorded at its first call and replayed afterwards.

A replay reads and writes fixed addresses. So the recording owns a copy of every argument: a call copies its tensors
in, replays, and copies out those that the function changes. Nothing outside has to keep its place in memory, a
checkpoint may replace any tensor, and the warm-up that a recording needs moves nobody's parameters.
Written after torch's notes on CUDA graphs and not yet run on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from rlcore.errors import ConfigError

WARM_UP = 3
KEPT = 8
"""Recordings of a function that are kept, one for each kind of arguments; each holds copies of these."""

Record = Callable[[Callable[[], Any], torch.device], tuple[Callable[[], None], Any]]
"""From work on a device to what does it again, and what it gives: the same tensors each time."""


def check_cuda(what: str) -> None:
    """Raise unless there is a GPU."""
    if not torch.cuda.is_available():
        raise ConfigError(f"{what} needs CUDA, and there is no such GPU here; take compiled=True, or False")


def by_graph(work: Callable[[], Any], device: torch.device) -> tuple[Callable[[], None], Any]:
    """By a CUDA graph, after a warm-up on a side stream, in which all is compiled and allocated."""
    if device.type != "cuda":  # a graph would hold nothing, and a replay would leave old results
        raise ConfigError(f"a recorded update needs its agent on a GPU, got {device}; move it with .to('cuda')")
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = work()
    return graph.replay, found


class Recorded:
    """A function that neither waits for the device nor draws random numbers; one recording per kind of arguments.

    `changed` names the arguments that it changes in place. What it returns is the caller's own.
    """

    def __init__(
        self, function: Callable[..., Any], names: Sequence[str], changed: Sequence[str], record: Record = by_graph
    ) -> None:
        self.function, self.names, self.changed, self.record = function, tuple(names), frozenset(changed), record
        self.recordings: dict[Any, Recording] = {}

    @torch.no_grad()
    def __call__(self, *args: Any) -> Any:
        leaves, tree = tree_flatten(args)
        kind = (tree, tuple((x.shape, x.stride(), x.dtype) if isinstance(x, Tensor) else x for x in leaves))
        moved = tensors_of([x for name, x in zip(self.names, args, strict=True) if name in self.changed])
        given = tensors_of(leaves)
        if kind not in self.recordings:
            if len(self.recordings) == KEPT:
                del self.recordings[next(iter(self.recordings))]
            self.recordings[kind] = Recording(self.function, args, given, moved, self.record)
        return self.recordings[kind](given, moved)


class Recording:
    """The work of one call, with its own inputs and outputs."""

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        given: Sequence[Tensor],
        moved: Sequence[Tensor],
        record: Record,
    ) -> None:
        devices = {x.device for x in given}
        if len(devices) != 1:
            places = ", ".join(sorted(map(str, devices))) or "none"
            raise ConfigError(f"a recorded update needs all its tensors on one device, got {places}; move the agent")
        own = tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, args)
        self.inputs = tensors_of(own)
        place = {id(x): k for k, x in enumerate(given)}
        self.changed = [self.inputs[place[id(x)]] for x in moved]
        self.replay, found = record(lambda: function(*own), *devices)
        self.leaves, self.tree = tree_flatten(found)

    def __call__(self, given: list[Tensor], moved: list[Tensor]) -> Any:
        torch._foreach_copy_(self.inputs, given)
        self.replay()
        if moved:
            torch._foreach_copy_(moved, self.changed)
        return tree_unflatten([x.clone() if isinstance(x, Tensor) else x for x in self.leaves], self.tree)


def tensors_of(value: Any) -> list[Tensor]:
    """All tensors within, in order."""
    return [x for x in tree_leaves(value) if isinstance(x, Tensor)]
