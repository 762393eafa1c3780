"""The rollout as compiled graphs of a few control steps: the step of `stepping.py`, fused into one loop over the paths.

A graph covers K steps. Noise and fresh initial states come in as data, drawn for many steps at once, so that nothing
in a graph depends on the seed, the place in time or the number of graphs. A restart is a selection between the state
after the step and a fresh one. Graphs are kept for the life of the process, and inductor keeps their code on disk.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch._dynamo.exc
from torch import Tensor
from torch._dynamo.utils import counters
from torch._inductor.exc import InductorError

from rlcore.errors import ConfigError
from rlcore.simulation.columns import WIDEST, compile_by_columns
from rlcore.simulation.environment import Environment, EnvState
from rlcore.simulation.modes import operations
from rlcore.simulation.noise import Stream, Word, blocks
from rlcore.simulation.policy import Policy
from rlcore.simulation.stepping import Place, Record, Renew, RolloutState, Step, noise_of, noise_spans, restarts

BODY = 8
"""Steps per graph at most: beyond that the compiler's time grows faster than the graph's speed."""
OPERATIONS = 2400
"""Operations per graph at most, for the same reason; a step that has more is a graph of its own."""

KEPT = 64
"""Sets of numbers for which a graph is remembered; with one more all are forgotten."""


class RecompileWarning(UserWarning):
    """A graph that should have been made once was made again."""


class CompileError(ConfigError):
    """The compiler refuses a rollout: for what is in it, or because a part of the compiler is missing."""


def chunk(
    step: Step,
    env: Environment,
    policy: Policy,
    state: tuple[Tensor, Tensor],
    over: Tensor | None,
    process: Tensor,
    action: Tensor | None,
    fresh: tuple[Tensor, Tensor] | None,
    left: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Record]:
    """K steps: process [K, B, w], action [K, B, a], fresh states [K, B], [K, B, n] -> t, x, over and records [K, ...].

    With `left`, an integer [], only the first `left` steps move the state; the others are computed for nothing.
    """
    now = EnvState(*state)
    ended = torch.zeros_like(now.t, dtype=torch.bool) if over is None else over
    place, records = Place(now, env.observe(now), ended), []
    for k in range(process.shape[0]):
        reached, record = step(
            env, policy, place, process[k], None if action is None else action[k], selecting(fresh, k)
        )
        records.append(record)
        if left is not None:
            go = left > k
            moved = (torch.where(go, new, old) for new, old in zip(reached.env, place.env, strict=True))
            reached = Place(EnvState(*moved), reached.obs, torch.where(go, reached.over, place.over))
        place = reached
    return *place.env, place.over, {name: torch.stack([record[name] for record in records]) for name in records[0]}


def selecting(fresh: tuple[Tensor, Tensor] | None, k: int) -> Renew:
    """Restart by selection."""

    def renew(after: EnvState, finished: Tensor) -> EnvState:
        assert fresh is not None
        t, x = fresh[0][k], fresh[1][k]
        return EnvState(torch.where(finished, t, after.t), torch.where(finished.unsqueeze(1), x, after.x))

    return renew


class Graph:
    """One compiled chunk for one kind of environment, policy and batch."""

    def __init__(self, name: str, rows: int) -> None:
        self.name, self.rows, self.made = name, rows, 0
        self.alike: list[int] = []
        self.call = self.compiled()

    def compiled(self) -> Callable[..., Any]:
        """A new memory for what is compiled."""
        found: Callable[..., Any] = torch.compile(  # type: ignore[call-overload]
            chunk, backend=self.backend, fullgraph=True, dynamic=False, isolate_recompiles=True, recompile_limit=KEPT
        )
        return found

    def backend(self, module: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        """What `torch.compile` calls when it has a new graph."""
        if not self.made:
            print(f"compiling {self.name}: once, 10 to 60 s; kept on disk for the next run", file=sys.stderr)
        before = counters["inductor"]["fxgraph_cache_hit"]
        code = compile_by_columns(module, inputs, self.rows, self.alike)
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

    def __call__(self, *args: Any) -> tuple[Tensor, Tensor, Tensor, Record]:
        """`chunk`; what the compiler refuses becomes a message."""
        try:
            try:
                t, x, over, record = self.call(*args)
            except torch._dynamo.exc.FailOnRecompileLimitHit:  # as many numbers as it keeps: forget them
                self.call = self.compiled()
                t, x, over, record = self.call(*args)
        except (torch._dynamo.exc.TorchDynamoException, InductorError) as error:
            raise CompileError(
                f"{self.name} cannot be compiled: {reason(error)}; write it with tensor operations, or use mode 'eager'"
            ) from error
        return t, x, over, record


GRAPHS: dict[tuple[Any, ...], Graph] = {}


def reason(error: Exception) -> str:
    """What the compiler could not do, in one line, with the user's line."""
    cause = getattr(error, "inner_exception", error)
    text = next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
    stack = getattr(error, "real_stack", None) or []
    place = f" at {stack[-1].filename}:{stack[-1].lineno}: {(stack[-1].line or '').strip()}" if stack else ""
    return f"{text}{place}"


def body(steps: int, most: int = BODY) -> tuple[int, bool]:
    """Steps per graph, at most so many, and whether the last one has to stop on the way."""
    for size in range(min(most, steps), (most + 1) // 2 - 1, -1):
        if steps % size == 0:
            return size, False
    return (steps, False) if steps < most else (most, True)


noise_blocks = torch.compile(blocks, fullgraph=True, dynamic=True)


def draw(
    key: tuple[Word, Word], row: Tensor, stream: Word, first: Word, count: int, dtype: torch.dtype
) -> Tensor:  # -> [4 count, B]
    """`noise.blocks`, compiled for all sizes, streams and seeds at once."""
    low, high, label, block = (torch.tensor(int(word), device=row.device) for word in (*key, stream, first))
    return noise_blocks((low, high), row, label, block, count, dtype)


def by_columns(x: Tensor) -> Tensor:
    """The same [..., B, n], each column together in memory if they are few: as the graphs give it."""
    if x.shape[-1] > WIDEST:
        return x.clone(memory_format=torch.contiguous_format)
    return torch.empty_like(x.mT, memory_format=torch.contiguous_format).copy_(x.mT).mT


def fresh_states(env: Environment, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Initial states for each step and path: noise [K, B, r] -> [K, B] s and [K, B, n]."""
    t, x = env.initial_state(noise.reshape(-1, noise.shape[-1]))
    return t.view(noise.shape[:2]), by_columns(x.view(*noise.shape[:2], -1))


def chunk_of(
    step: Step, env: Environment, policy: Policy, batch: int, steps: int, action_width: int
) -> tuple[Graph, int, bool]:
    """The graph for a rollout, its number of steps, and whether the last chunk has to stop on the way."""
    size, partial = body(steps, min(BODY, max(1, OPERATIONS // operations(env))))
    name = f"the rollout of {type(env).__name__} with {type(policy).__name__} ({batch} paths, {size} steps)"
    kinds = (step, type(env), type(policy), env.spec.name, env.dtype, env.device, batch, size, partial)
    key = (*kinds, action_width, env.step_noise_dim)
    if key not in GRAPHS:
        GRAPHS[key] = Graph(name, batch)
    return GRAPHS[key], size, partial


@torch.no_grad()
def run_compiled(
    step: Step, env: Environment, policy: Policy, start: RolloutState, steps: int, action_width: int, out: Record
) -> EnvState:
    """`steps` steps by graphs; what is kept goes into `out`, [K, ...] each -> the last state."""
    graph, size, partial = chunk_of(step, env, policy, start.batch, steps, action_width)
    state, over = (start.env.t.clone(), by_columns(start.env.x)), env.terminated(start.env) if env.terminates else None
    fresh = Fresh(step, env, start, size)
    for first, process, action in noise_spans(env, action_width, start, steps, size, draw):
        for k in range(0, len(process), size):
            count = min(size, len(process) - k)
            z = padded(process[k : k + size], size)
            v = padded(action[k : k + size], size) if action_width else None
            left = torch.tensor(count, device=env.device) if partial else None
            t, x, ended, record = graph(step, env, policy, state, over, z, v, fresh.states(first + k, state[0]), left)
            for field, value in record.items():
                out[field][first + k : first + k + count].copy_(value[:count])
            state, over = (t, x), None if over is None else ended
    return EnvState(*state)


def padded(noise: Tensor, size: int) -> Tensor:
    """Noise of fewer steps than a graph has, filled up with zeros: those steps are thrown away."""
    missing = size - noise.shape[0]
    if missing == 0:
        return noise
    filled = noise.new_zeros(size, noise.shape[2], noise.shape[1]).transpose(1, 2)
    filled[: noise.shape[0]] = noise
    return filled


class Fresh:
    """Fresh initial states for every step of a graph. They are drawn only where a path may finish."""

    def __init__(self, step: Step, env: Environment, start: RolloutState, size: int) -> None:
        self.env, self.start, self.size = env, start, size
        self.needed = restarts(step, env)
        self.last: tuple[Tensor, Tensor] | None = None

    def states(self, first: int, t: Tensor) -> tuple[Tensor, Tensor] | None:
        """[K, B] s and [K, B, n]; old ones where nobody will look at them."""
        if not self.needed:
            return None
        spec = self.env.spec
        soon = self.env.terminates or bool(t.max() > spec.horizon - (self.size + 0.5) * spec.dt)
        if soon or self.last is None:
            width = spec.initial_noise_dim
            noise = noise_of(self.env, width, Stream.INITIAL, self.start, first + 1, self.size, draw)
            self.last = fresh_states(self.env, noise)
        return self.last
