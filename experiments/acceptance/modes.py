"""The modes of a rollout beside each other, for any registered environment: how far their numbers are apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch._functorch._aot_autograd.utils import make_boxed_func

from rlcore.envs import default_config, make
from rlcore.simulation import Environment, EnvState, Policy, RolloutState, UniformPolicy, begin, compiled
from rlcore.simulation import rollout as whole_paths
from rlcore.simulation import rollout_with_reset as with_reset
from rlcore.simulation.noise import blocks

PATHS, STEPS = 24, 2
SEARCHED = 200  # pieces of a rollout in which an end is looked for
LOOPS: dict[str, Callable[..., Any]] = {"paths": whole_paths, "reset": with_reset}


@contextmanager
def without_machine_code() -> Iterator[None]:
    """Graphs are traced, lowered and rewritten as for inductor, then run one operation after the other.

    So an environment is checked in seconds: everything but the writing of the loops, which is inductor's own.
    """
    from rlcore.simulation import graphs

    def as_it_is(graph: torch.fx.GraphModule, given: Sequence[Any], **settings: Any) -> Callable[..., Any]:
        run: Callable[..., Any] = make_boxed_func(graph.forward)
        return run

    with (
        patch.object(graphs, "compile_fx_inner", as_it_is),
        patch.object(compiled, "run_native", lambda *rollout: None),
        patch.object(compiled, "draw", blocks),
        patch.object(compiled, "GRAPHS", {}),
    ):
        yield


def gap(env_id: str, loop: str, *, paths: int = PATHS) -> float:
    """Largest difference of any number between eager and compiled, in float64, relative to 1 + its size.

    One call from the initial law, and one in which paths end, wherever they can. Substeps repeat the same code, so
    one of them stands for all.
    """
    once: dict[str, Any] = {"substeps": 1} if "substeps" in vars(default_config(env_id)) else {}
    env = make(env_id, dtype=torch.float64, **once)
    policy = UniformPolicy(env.spec.action_low, env.spec.action_high, env.spec.action_dim)
    return max(gap_from(stand, env, policy, loop) for stand in stands(env, policy, paths, loop))


def stands(env: Environment, policy: Policy, paths: int, loop: str) -> Iterator[RolloutState]:
    """Where paths begin, and where some end within the next steps."""
    start = begin(env, paths, seed=3)
    yield start
    if loop == "reset" and math.isfinite(env.spec.horizon):  # every second path is one step before its horizon
        late = (torch.arange(paths, device=env.device) % 2) * (env.spec.horizon - env.spec.dt)
        yield start._replace(env=EnvState(start.env.t + late, start.env.x))
    if env.terminates:
        before = start
        for _ in range(SEARCHED):
            batch, after = whole_paths(env, policy, before, STEPS)
            if bool(batch.terminated.any()):
                yield before
                return
            before = after


def gap_from(start: RolloutState, env: Environment, policy: Policy, loop: str) -> float:
    """As `gap`, for one call."""
    (plain, end), (fast, last) = (LOOPS[loop](env, policy, start, STEPS, mode=mode) for mode in ("eager", "compiled"))
    worst = 0.0
    for a, b in zip(numbers(plain, end), numbers(fast, last), strict=True):
        if not torch.equal(a.isnan(), b.isnan()):
            return math.inf
        worst = max(worst, float(((a - b).abs() / (1.0 + a.abs())).nan_to_num(0.0, posinf=math.inf).max()))
    return worst


def numbers(batch: Any, end: RolloutState) -> list[Tensor]:
    """Every tensor of a batch and of the state after it, in float64."""
    parts = [value for value in vars(batch).values() if isinstance(value, Tensor)]
    extras = [value for _, value in sorted(getattr(batch, "extras", {}).items())]
    return [value.to(torch.float64) for value in (*parts, *extras, *end.env)]
