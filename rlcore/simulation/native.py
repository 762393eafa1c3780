"""The rollout as one loop in C++: a block of paths through every step, with its noise and its restarts.

Dynamo traces one control step, one observation and one fresh start; `lanes.py` writes them as C++ and `loop.cpp` runs
them. The text holds neither numbers, nor the batch, nor the steps; inductor's own means compile it once and keep it on
disk. An environment or a policy that is not elementwise in the paths has no such loop.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Sequence
from ctypes import CDLL, c_bool, c_int, c_int64, c_uint64, c_void_p
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rlcore.simulation.drawn import NORMALS, machine_code
from rlcore.simulation.environment import Environment, EnvState
from rlcore.simulation.graphs import KEPT, CompileError, Graph, RecompileWarning, Seen, Traced
from rlcore.simulation.lane_addresses import Slot
from rlcore.simulation.lane_operations import C_TYPES, NotByLanesError
from rlcore.simulation.lanes import Lanes
from rlcore.simulation.noise import words
from rlcore.simulation.policy import Policy
from rlcore.simulation.stepping import Place, Record, RolloutState, Step, restarts

LOG = logging.getLogger("rlcore.simulation")
SOURCE, LAYER = (Path(__file__).with_name(name) for name in ("loop.cpp", "layer.hpp"))
LANES = 64
"""Paths of a block: their state and records stay in the nearest cache."""
CACHE = 1 << 20
"""Numbers of a result beyond which it is written past the cache."""

Results = dict[str, Tensor]


class Given(NamedTuple):
    """What changes from step to step, as the graph is given it; None where there is none."""

    t: Tensor  # [B] s
    x: Tensor  # [B, n]
    obs: Tensor  # [B, d]
    over: Tensor  # bool [B]
    process: Tensor  # [B, w]
    action: Tensor | None  # [B, a]
    initial: Tensor | None  # [B, r], for paths that begin anew


class Parts(NamedTuple):
    """All that a loop is made of, by name."""

    observed: Results  # of the place where it begins
    records: Results
    after: Results  # the place after the step
    fresh: Results  # a place where a path begins anew


def one_step(step: Step, env: Environment, policy: Policy, given: Given) -> Parts:
    """What happens once in a loop, none of it in place."""
    now = EnvState(given.t, given.x)
    place = Place(now, given.obs, given.over)
    after, record = step(env, policy, place, given.process, given.action, lambda state, finished: state)
    observed = {"obs": env.observe(now)}
    records = {name: value for name, value in record.items() if value.ndim}
    reached = {"t": after.env.t, "x": after.env.x, "obs": after.obs, "over": after.over}
    fresh: Results = {}
    if given.initial is not None:
        begun = env.initial_state(given.initial)
        fresh = {"t": begun.t, "x": begun.x, "obs": env.observe(begun)}
    return Parts(
        *({name: value.clone() for name, value in part.items()} for part in (observed, records, reached, fresh))
    )


class Written:
    """The C++ of what was traced, compiled, and what it keeps of each step."""

    def __init__(self, name: str, traced: Traced, seen: Seen, found: Parts, given: Given, dtype: torch.dtype) -> None:
        self.traced, (_, args, results) = traced, seen
        rows = len(given.t)
        slots = {id(v): Slot(k, v.numel() // rows) for k, v in given._asdict().items() if v is not None}
        inside = {place: slots[id(arg)] for place, arg in enumerate(args) if id(arg) in slots}
        lanes = Lanes(self.traced.graph, rows, inside)

        def columns(part: Results) -> dict[str, list[torch.fx.Node]]:
            return {name: self.traced.columns[place_of(value, results)] for name, value in part.items()}

        kinds = {name: value.dtype for name, value in found.records.items()}
        if set(kinds.values()) - {dtype, torch.bool}:
            raise NotByLanesError(f"records of {sorted(map(str, kinds.values()))}")
        records = columns(found.records)
        self.numbers = [name for name, kind in kinds.items() if kind == dtype]
        self.flags = [name for name, kind in kinds.items() if kind == torch.bool]
        numbers, flags = ([node for name in names for node in records[name]] for names in (self.numbers, self.flags))
        last = sum(len(records[name]) for name in self.flags[: self.flags.index("last")]) if "last" in records else -1
        sizes = {
            "STATES": given.x.shape[1],
            "OBSERVED": given.obs.shape[1],
            "PROCESS_WIDTH": given.process.shape[1],
            "ACTION_WIDTH": 0 if given.action is None else given.action.shape[1],
            "INITIAL_WIDTH": 0 if given.initial is None else given.initial.shape[1],
            "NUMBERS": len(numbers),
            "FLAGS": len(flags),
            "LAST": last,
        }
        written = [*targets("number", numbers), *targets("flag", flags)]
        bodies = {
            "observe(t, x, obs)": named(columns(found.observed)),
            "step(t, x, obs, over, process, action, number, flag)": written + named(columns(found.after)),
            "fresh(initial, t, x, obs)": named(columns(found.fresh)),
        }
        lines = [f"constexpr int LANES = {LANES};", "struct System {", f"using Real = {C_TYPES[dtype]};"]
        lines += [f"static constexpr int {name} = {size};" for name, size in sizes.items()]
        lines += [function(head, lanes.body(wanted)) for head, wanted in bodies.items()]
        self.text = "\n".join([*lines, "};"])
        self.run = library(self.text, name).run


def place_of(value: Tensor, results: Sequence[Any]) -> int:
    """Which of the results a tensor is."""
    for place, result in enumerate(results):
        if result is value:
            return place
    raise NotByLanesError("torch has put something between the graph and its results")


def targets(name: str, nodes: Sequence[torch.fx.Node]) -> list[tuple[torch.fx.Node, str]]:
    """Values and where they go, column by column."""
    return [(node, f"{name}[{k}][i]") for k, node in enumerate(nodes)]


def named(columns: dict[str, list[torch.fx.Node]]) -> list[tuple[torch.fx.Node, str]]:
    """The same for values by name."""
    return list(chain.from_iterable(targets(name, nodes) for name, nodes in columns.items()))


def function(head: str, body: str) -> str:
    """`name(a, b)` and a body as a C++ function of a struct."""
    name, _, arguments = head.removesuffix(")").partition("(")
    each = arguments.split(", ")
    kinds = ", ".join(f"class T{k}" for k in range(len(each)))
    taken = ", ".join(f"T{k} &&{argument}" for k, argument in enumerate(each))
    head = f"template <class At, {kinds}> static void {name}(const void *const *given, const At &at, {taken})"
    return f"{head}\n{{\n{body}\n}}"


LIBRARIES: dict[str, CDLL] = {}


def library(text: str, name: str) -> CDLL:
    """The compiled loop."""
    if text not in LIBRARIES:
        print(f"compiling {name}: once, 2 to 20 s; kept on disk for the next run", file=sys.stderr)
        found = LIBRARIES[text] = machine_code(*NORMALS, LAYER, text, SOURCE, name=name)
        pointers, sizes = [c_void_p] * 8, [c_int64] * 3
        found.run.argtypes, found.run.restype = [*pointers, c_uint64, c_uint64, *sizes, c_bool, c_int], None
    return LIBRARIES[text]


class Loop:
    """The loop of one kind of environment and policy, for a batch; written anew where they are of another make."""

    def __init__(self, step: Step, env: Environment, policy: Policy, batch: int, action_width: int) -> None:
        self.name = f"the rollout of {type(env).__name__} with {type(policy).__name__}"
        self.step, self.graph = step, Graph(one_step, self.name, batch, only_traced=True)
        spec = env.spec

        def zeros(width: int) -> Tensor:
            return torch.zeros(batch, width, dtype=env.dtype)

        self.given = Given(
            t=torch.zeros(batch, dtype=torch.float64),
            x=zeros(spec.state_dim),
            obs=zeros(spec.observation_dim),
            over=torch.zeros(batch, dtype=torch.bool),
            process=zeros(env.step_noise_dim),
            action=zeros(action_width) if action_width else None,
            initial=zeros(spec.initial_noise_dim) if restarts(step, env) else None,
        )
        self.written: dict[Traced, Written | NotByLanesError] = {}

    def trace(self, env: Environment, policy: Policy) -> tuple[Written, Sequence[Any]]:
        """What is compiled, and what it reads of the environment and the policy as they are now."""
        found, seen = self.graph(self.step, env, policy, self.given)
        if seen is None:
            raise NotByLanesError("nothing is computed")
        traced = seen[0]
        assert isinstance(traced, Traced)
        if traced not in self.written:
            if len(self.written) == KEPT:
                self.written.clear()
            self.written[traced] = self.write(traced, seen, found, env.dtype)
        written = self.written[traced]
        if isinstance(written, NotByLanesError):
            raise written
        return written, seen[1]

    def write(self, traced: Traced, seen: Seen, found: Parts, dtype: torch.dtype) -> Written | NotByLanesError:
        """The C++ of what was traced, or why there is none."""
        before = {written.text for written in self.written.values() if isinstance(written, Written)}
        try:
            new = Written(self.name, traced, seen, found, self.given, dtype)
        except NotByLanesError as error:
            LOG.info("%s is left to inductor: %s", self.name, error)
            return error
        if before and new.text not in before:
            warnings.warn(
                f"{self.name} is compiled again: a number or a function inside the environment or the policy changed; "
                "keep what varies in tensors",
                RecompileWarning,
                stacklevel=2,
            )
        return new


LOOPS: dict[tuple[Any, ...], Loop | None] = {}
"""None where Dynamo cannot trace a step: it is not asked again."""


def run_native(
    step: Step, env: Environment, policy: Policy, start: RolloutState, steps: int, action_width: int, out: Record
) -> EnvState | None:
    """As `run_compiled`; None where there is no such loop."""
    key = (step, type(env), type(policy), env.spec.name, env.dtype, start.batch, action_width, env.step_noise_dim)
    if key not in LOOPS:
        LOOPS[key] = Loop(step, env, policy, start.batch, action_width)
    loop = LOOPS[key]
    if loop is None:
        return None
    try:
        written, held = loop.trace(env, policy)
    except CompileError as error:
        LOG.info("%s has no loop: %s", loop.name, error)
        LOOPS[key] = None
        return None
    except NotByLanesError:
        return None
    places = [column for name in (*written.numbers, *written.flags) for column in columns_of(out[name])]
    t, x, row = start.env.t.clone(), start.env.x.mT.clone(memory_format=torch.contiguous_format), start.row.contiguous()
    over = env.terminated(start.env).contiguous()
    clock = out["t"].data_ptr() if "t" in out else None
    given = [value.data_ptr() if isinstance(value, Tensor) else 0 for value in held]
    written.run(
        (c_void_p * len(given))(*given),
        row.data_ptr(),
        t.data_ptr(),
        x.data_ptr(),
        over.data_ptr(),
        (c_void_p * len(places))(*(place for place, _ in places)),
        (c_int64 * len(places))(*(apart for _, apart in places)),
        clock,
        *words(start.seed),
        start.step,
        steps,
        start.batch,
        start.batch * steps * len(places) > CACHE,
        torch.get_num_threads(),
    )
    return EnvState(t, x.mT)


def columns_of(value: Tensor) -> list[tuple[int, int]]:
    """Where each column of a record [T, B] or [T, B, d] begins, and how far apart its steps are."""
    if value.shape[1] > 1 and value.stride(1) != 1:
        raise NotByLanesError("the paths of a record are not together in memory")
    first, apart = value.data_ptr(), value.stride(0)
    step = value.stride(2) * value.element_size() if value.ndim == 3 else 0
    return [(first + k * step, apart) for k in range(value.shape[2] if value.ndim == 3 else 1)]
