"""The compiled rollout: one loop in C++ where `native.py` can write it, else graphs of a few control steps by inductor.

A graph covers K steps of `stepping.py`, fused into one loop over the paths. Noise and fresh initial states come in as
data, drawn for many steps at once, so that nothing in a graph depends on the seed, the place in time or the number of
graphs. A restart is a selection between the state after the step and a fresh one. Graphs are kept for the life of the
process, and inductor keeps their code on disk.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rlcore.simulation.columns import WIDEST
from rlcore.simulation.drawn import draw
from rlcore.simulation.environment import Environment, EnvState
from rlcore.simulation.graphs import Graph, Repeated
from rlcore.simulation.modes import operations
from rlcore.simulation.native import run_native
from rlcore.simulation.noise import Stream
from rlcore.simulation.policy import Policy
from rlcore.simulation.stepping import Place, Record, Renew, RolloutState, Step, noise_of, noise_spans, restarts

BODY = 8
"""Steps per graph at most: beyond that the compiler's time grows faster than the graph's speed."""
LARGE_BODY = 4
"""The same for many paths on a processor: a call costs little beside its loop, a loop that writes to fewer places loses
less of the cache, and the compiler has less to do."""
MANY = 1024
"""Paths from which that holds."""
OPERATIONS = 2400
"""Operations per graph at most, for the same reason; a step that has more is a graph of its own."""
TOGETHER = 2048
"""Up to so many paths a record of K steps is written as one tensor, copied once more: the cheaper call is worth it."""


class Given(NamedTuple):
    """What changes from one graph to the next, K steps each."""

    t: Tensor  # [B] s
    x: Tensor  # [B, n]
    over: Tensor | None  # bool [B], whether a path has ended for ever; None where none can
    process: Tensor  # [K, B, w]
    action: Tensor | None  # [K, B, a]
    fresh_t: Tensor | None  # [K, B], where a path that ends at a step begins anew
    fresh_x: Tensor | None  # [K, B, n]
    left: Tensor | None  # integer []; only so many steps move the state, the others are computed for nothing


Reached = tuple[Tensor, Tensor, Tensor | None]
"""t, x and over after a graph."""
Targets = dict[str, list[Tensor]]
"""Where the records of K steps go: their columns [B], or one tensor of all of them."""


def chunk(step: Step, env: Environment, policy: Policy, given: Given, out: Targets) -> Reached:
    """K steps of all paths; the records are written into `out`."""
    now = EnvState(given.t, given.x)
    ended = torch.zeros_like(now.t, dtype=torch.bool) if given.over is None else given.over
    place = Place(now, env.observe(now), ended)
    written: dict[str, list[Tensor]] = {}
    for k in range(given.process.shape[0]):
        noise = None if given.action is None else given.action[k]
        reached, record = step(env, policy, place, given.process[k], noise, selecting(given, k))
        for name, value in record.items():
            written.setdefault(name, []).extend(value.unbind(1) if value.ndim == 2 and few(value) else (value,))
        if given.left is not None:
            go = given.left > k
            moved = (torch.where(go, new, old) for new, old in zip(reached.env, place.env, strict=True))
            reached = Place(EnvState(*moved), reached.obs, torch.where(go, reached.over, place.over))
        place = reached
    for name, parts in written.items():
        targets = out[name]
        for target, part in zip(targets, parts if len(targets) == len(parts) else [torch.stack(parts)], strict=True):
            target.copy_(part)
    return *place.env, None if given.over is None else place.over


def few(value: Tensor) -> bool:
    """Whether a value [..., B, d] is kept column by column."""
    return value.shape[-1] <= WIDEST


def targets_of(out: Record, size: int) -> Iterator[Targets]:
    """Results [T, B, d], [T, B] or [T] as what `chunk` writes to, `size` steps at a time while they last."""
    steps, batch = out["reward"].shape
    rows = {name: value.mT.view(-1, batch) if value.ndim == 3 and few(value) else value for name, value in out.items()}
    each = {name: value.shape[0] // steps * size for name, value in rows.items()}
    if batch <= TOGETHER:
        for k in range(steps // size):
            yield {name: [value[k * each[name] : (k + 1) * each[name]]] for name, value in rows.items()}
        return
    columns = {name: value.unbind() for name, value in rows.items()}
    for k in range(steps // size):
        yield {name: list(parts[k * each[name] : (k + 1) * each[name]]) for name, parts in columns.items()}


def selecting(given: Given, k: int) -> Renew:
    """Restart by selection; without fresh states nobody can have finished."""

    def renew(after: EnvState, finished: Tensor) -> EnvState:
        if given.fresh_t is None or given.fresh_x is None:
            return after
        t, x = given.fresh_t[k], given.fresh_x[k]
        return EnvState(torch.where(finished, t, after.t), torch.where(finished.unsqueeze(1), x, after.x))

    return renew


GRAPHS: dict[tuple[Any, ...], Graph] = {}


def body(steps: int, most: int = BODY) -> tuple[int, bool]:
    """Steps per graph, at most so many, and whether the last one has to stop on the way."""
    for size in range(min(most, steps), (most + 1) // 2 - 1, -1):
        if steps % size == 0:
            return size, False
    return (steps, False) if steps < most else (most, True)


def by_columns(x: Tensor) -> Tensor:
    """The same [..., B, n], each column together in memory if they are few: as the graphs give it."""
    if x.shape[-1] > WIDEST:
        return x.clone(memory_format=torch.contiguous_format)
    return torch.empty_like(x.mT, memory_format=torch.contiguous_format).copy_(x.mT).mT


def fresh_states(env: Environment, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Initial states for each step and path: noise [K, B, r] -> [K, B] s and [K, B, n]."""
    t, x = env.initial_state(noise.reshape(-1, noise.shape[-1]))
    return t.view(noise.shape[:2]), by_columns(x.view(*noise.shape[:2], -1))


class Chunks:
    """The graphs of one rollout of `steps` steps: where a path may begin anew, and a cheaper one where none can."""

    def __init__(
        self, step: Step, env: Environment, policy: Policy, batch: int, steps: int, action_width: int, out: Record
    ) -> None:
        most = LARGE_BODY if batch >= MANY and env.device.type == "cpu" else BODY
        self.size, self.partial = body(steps, min(most, max(1, OPERATIONS // operations(env))))
        self.fixed, self.batch, self.out = (step, env, policy), batch, out
        of = f"{type(env).__name__} with {type(policy).__name__}"
        self.name = f"the rollout of {of} ({batch} paths, {self.size} steps"
        kinds = (step, type(env), type(policy), env.spec.name, env.dtype, env.device, batch, self.size, self.partial)
        self.key = (*kinds, action_width, env.step_noise_dim)
        self.runs: dict[tuple[Any, ...], Repeated] = {}
        self.targets = targets_of(out, self.size)

    def __call__(self, given: Given, first: int, count: int) -> Reached:
        """Steps first, first + 1, ... of the rollout, `count` of them, into the result."""
        if count == self.size:
            return self.run(given, next(self.targets))
        spare = {name: spare_of(value, self.size) for name, value in self.out.items()}
        reached = self.run(given, next(targets_of(spare, self.size)))
        for name, value in spare.items():
            self.out[name][first:].copy_(value[:count])
        return reached

    def run(self, given: Given, out: Targets) -> Reached:
        """One graph. It is looked at again where the strides of what it is given are others."""
        renewing = given.fresh_t is not None
        kind = (renewing, *(value.stride() for value in given if value is not None))
        if kind not in self.runs:
            key = (*self.key, renewing)
            if key not in GRAPHS:
                GRAPHS[key] = Graph(chunk, self.name + (", restarts)" if renewing else ")"), self.batch)
            self.runs[kind] = Repeated(GRAPHS[key])
        slots = (*given, *chain.from_iterable(out.values()))
        t, x, over = self.runs[kind](slots, (*self.fixed, given, out))
        return t, x, over


def spare_of(value: Tensor, size: int) -> Tensor:
    """Room for `size` steps of a result, each where it would stand in the result."""
    shape = (size, *value.shape[1:])
    return torch.empty_strided(shape, value.stride(), dtype=value.dtype, device=value.device)


@torch.no_grad()
def run_compiled(
    step: Step, env: Environment, policy: Policy, start: RolloutState, steps: int, action_width: int, out: Record
) -> EnvState:
    """`steps` steps; what is kept goes into `out`, [K, ...] each -> the last state."""
    if env.device.type == "cpu":
        end = run_native(step, env, policy, start, steps, action_width, out)
        if end is not None:
            return end
    run = Chunks(step, env, policy, start.batch, steps, action_width, out)
    size, fresh = run.size, Fresh(step, env, start, run.size)
    t, x = start.env.t.clone(), by_columns(start.env.x)
    over = env.terminated(start.env) if env.terminates else None
    for first, process, action in noise_spans(env, action_width, start, steps, size, draw):
        for k in range(0, len(process), size):
            count = min(size, len(process) - k)
            z = padded(process[k : k + size], size)
            v = padded(action[k : k + size], size) if action_width else None
            left = torch.tensor(count, device=env.device) if run.partial else None
            fresh_t, fresh_x = fresh.states(first + k, t)
            t, x, over = run(Given(t, x, over, z, v, fresh_t, fresh_x, left), first + k, count)
    return EnvState(t, x)


def padded(noise: Tensor, size: int) -> Tensor:
    """Noise of fewer steps than a graph has, filled up with zeros: those steps are thrown away."""
    missing = size - noise.shape[0]
    if missing == 0:
        return noise
    filled = noise.new_zeros(size, noise.shape[2], noise.shape[1]).transpose(1, 2)
    filled[: noise.shape[0]] = noise
    return filled


class Fresh:
    """Fresh initial states for every step of a graph, where a path may finish in it."""

    def __init__(self, step: Step, env: Environment, start: RolloutState, size: int) -> None:
        self.env, self.start, self.size = env, start, size
        self.needed = restarts(step, env)
        self.calm = -1
        """Until this step, exclusive, no path can finish."""

    def states(self, first: int, t: Tensor) -> tuple[Tensor, Tensor] | tuple[None, None]:
        """[K, B] s and [K, B, n] for the steps from `first` on; None where no path can finish."""
        if not self.needed or first + self.size <= self.calm:
            return None, None
        spec = self.env.spec
        if not self.env.terminates:
            left = math.floor((spec.horizon - float(t.max())) / spec.dt - 0.5)  # steps that end before the horizon
            self.calm = first + left
            if self.size <= left:
                return None, None
        noise = noise_of(self.env, spec.initial_noise_dim, Stream.INITIAL, self.start, first + 1, self.size, draw)
        return fresh_states(self.env, noise)
