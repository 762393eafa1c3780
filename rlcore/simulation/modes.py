"""How a rollout is carried out: which modes there are, which one `auto` takes, and whether the result fits.

| mode     | what runs                                              | first call            |
|----------|--------------------------------------------------------|-----------------------|
| eager    | one torch operation after the other; the oracle        | nothing               |
| compiled | one loop in C++, or graphs by `torch.compile`          | 2 to 60 s, then kept  |
| graph    | the compiled rollout as one CUDA graph; needs a GPU    | the same              |
| auto     | one of them, by device and size; the same on every run |                       |
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, get_args
from weakref import WeakKeyDictionary

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rlcore.errors import ConfigError
from rlcore.simulation import results
from rlcore.simulation.environment import Environment, EnvState
from rlcore.simulation.policy import Policy
from rlcore.simulation.stepping import Step, run_eager

LOG = logging.getLogger("rlcore.simulation")
Mode = Literal["eager", "compiled", "graph", "auto"]
LARGE = 1 << 24
"""Steps of all paths in one call from which `auto` compiles: an eager call of that size takes about a second, so that
some dozen of them pay for the compiler."""
LONG = 900
"""Operations of a step above which `auto` does not compile: substeps are unrolled, and the compiler needs minutes."""


def choose(mode: Mode, env: Environment, batch: int, steps: int) -> Mode:
    """The mode itself, or what `auto` stands for. It looks at nothing that changes between two runs."""
    if mode not in get_args(Mode):
        raise ConfigError(f"mode must be one of {', '.join(get_args(Mode))}, got {mode!r}")
    on_gpu = env.device.type == "cuda"
    if mode == "graph" and not on_gpu:
        raise ConfigError(f"mode 'graph' needs an environment on a GPU, got one on {env.device}; use 'compiled'")
    if mode != "auto":
        return mode
    if not on_gpu and batch * steps < LARGE:
        return "eager"
    if operations(env) > LONG:
        LOG.info("mode 'auto' takes the eager loop: a step of %s has %d operations", env.spec.name, operations(env))
        return "eager"
    return "graph" if on_gpu else "compiled"


class Counting(TorchDispatchMode):
    """Counts what torch is asked for."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def operations(env: Environment) -> int:
    """Operations of one control step, its substeps included, counted once for each environment."""
    if env not in COUNTED:
        zeros = partial(torch.zeros, dtype=env.dtype, device=env.device)
        state = env.initial_state(zeros(1, env.spec.initial_noise_dim))
        with torch.no_grad(), Counting() as counting:
            env.transition(state, zeros(1, env.spec.action_dim), zeros(1, env.step_noise_dim))
        COUNTED[env] = max(1, counting.count)
    return COUNTED[env]


COUNTED: WeakKeyDictionary[Environment, int] = WeakKeyDictionary()


def runner(mode: Mode, *, may_fall_back: bool = False) -> Callable[..., EnvState]:
    """What carries out a rollout; the compiler is imported only where it is used.

    With `may_fall_back`, what the compiler refuses is carried out by the eager loop, and a line of the log says so.
    """
    if mode == "eager":
        return run_eager
    if mode == "graph":
        from rlcore.simulation.captured import run_captured as run
    else:
        from rlcore.simulation.compiled import run_compiled as run
    return partial(run_or_fall_back, run) if may_fall_back else run


REFUSED: set[tuple[type, type]] = set()
"""Environments and policies that the compiler refused once: it is not asked again."""


def run_or_fall_back(
    run: Callable[..., EnvState], step: Step, env: Environment, policy: Policy, *rest: Any
) -> EnvState:
    """The rollout by `run`; by the eager loop where the compiler refuses it."""
    from rlcore.simulation.graphs import CompileError

    kind = (type(env), type(policy))
    if kind not in REFUSED:
        try:
            return run(step, env, policy, *rest)
        except CompileError as error:
            REFUSED.add(kind)
            LOG.warning("mode 'auto' takes the eager loop from here on: %s", error)
    return run_eager(step, env, policy, *rest)


def free_memory(device: torch.device) -> int:
    """Bytes that can still be had on a device, idle results included; a large number where nobody knows."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        reserved: Any = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + reserved)
    try:
        with open("/proc/meminfo") as lines:
            (line,) = (line for line in lines if line.startswith("MemAvailable"))
        return min([int(line.split()[1]) * 1024, *free_in_group()]) + results.idle()
    except (OSError, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


GROUP = "/sys/fs/cgroup"


def free_in_group() -> list[int]:
    """Bytes that a container's limit leaves, in a list; [] without a limit. Files it has read can be forgotten."""
    try:
        limit, used = (open_text(f"{GROUP}/memory.{name}") for name in ("max", "current"))
        files = dict(line.split() for line in open_text(f"{GROUP}/memory.stat").splitlines())
        return [int(limit) - int(used) + int(files["inactive_file"])]
    except (OSError, ValueError, KeyError):  # no such file, or "max"
        return []


def open_text(path: str) -> str:
    """What a small file says."""
    with open(path) as file:
        return file.read().strip()


def check_memory(env: Environment, batch: int, steps: int, bytes_per_step: int, mode: Mode = "eager") -> None:
    """Raise before anything is allocated if the result of a rollout does not fit the memory that is free.

    A recorded CUDA graph keeps a copy of it.
    """
    bytes_per_step *= 2 if mode == "graph" else 1
    needed = batch * steps * bytes_per_step
    if needed < 1 << 28:
        return
    free = free_memory(env.device)
    if needed > free:
        raise ConfigError(
            f"a rollout of {steps} steps x {batch} paths keeps {needed / 2**30:.1f} GiB, but {free / 2**30:.1f} GiB "
            f"are free on {env.device}; at most {free // (steps * bytes_per_step)} paths fit, or fewer steps per call"
        )
