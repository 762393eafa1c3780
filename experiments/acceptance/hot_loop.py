"""What the hot loop claims: its modes give the same numbers, and nothing is compiled twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rlcore.envs import CATALOG, make
from rlcore.experiments.acceptance.modes import gap, without_machine_code
from rlcore.reporting.acceptance import Measurement, at_most, row
from rlcore.simulation import EnvState, UniformPolicy, begin, rollout, rollout_with_reset
from rlcore.simulation.noise import Stream, normals

PATHS, STEPS = 24, 16


def difference(loop: Callable[..., Any], names: tuple[str, ...], late: bool) -> float:
    """Largest difference between the modes on the scalar LQ in float64, relative to 1 + size."""
    env = make("rlcore/ScalarLqr-v0", dtype=torch.float64)
    start = begin(env, PATHS, seed=3)
    if late:  # every second path reaches the horizon within the rollout
        shift = (torch.arange(PATHS) % 2) * (env.spec.horizon - 5 * env.spec.dt)
        start = start._replace(env=EnvState(start.env.t + shift, start.env.x))
    policy = UniformPolicy(-3.0, 3.0, 1)
    plain, compiled = (loop(env, policy, start, STEPS, mode=mode)[0] for mode in ("eager", "compiled"))
    pairs: list[tuple[Tensor, Tensor]] = [(getattr(plain, name), getattr(compiled, name)) for name in names]
    return max(float(((a - b).abs() / (1.0 + a.abs())).max()) for a, b in pairs)


@row("hot-loop", "modes-paths", "compiled and eager whole paths agree, float64", "1e-12")
def paths() -> Measurement:
    return at_most(difference(rollout, ("obs", "action", "reward"), late=False), 1e-12)


@row("hot-loop", "modes-reset", "compiled and eager paths agree where they restart, float64", "1e-12")
def reset() -> Measurement:
    return at_most(difference(rollout_with_reset, ("obs", "action", "reward", "next_obs"), late=True), 1e-12)


@row("hot-loop", "graphs", "graphs made for other seeds, first rows and numbers of chunks", "0")
def graphs() -> Measurement:
    from rlcore.simulation.compiled import GRAPHS

    env, policy = make("rlcore/ScalarLqr-v0", dtype=torch.float64), UniformPolicy(-3.0, 3.0, 1)
    rollout(env, policy, begin(env, PATHS, seed=0), 16, mode="compiled")
    before = sum(graph.made for graph in GRAPHS.values())
    for seed, first_row, steps in ((1, 0, 16), (0, 100, 8), (2, 7, 40)):
        rollout(env, policy, begin(env, PATHS, seed=seed, first_row=first_row), steps, mode="compiled")
    return at_most(float(sum(graph.made for graph in GRAPHS.values()) - before), 0.0)


@row("hot-loop", "noise", "compiled noise is the eager noise, also far away and in another batch", "1e-12")
def noise() -> Measurement:
    from rlcore.simulation.drawn import draw

    rows, worst = torch.tensor([0, 3, 2**40, 2**41]), 0.0
    for start, count in ((0, 8), (5, 33), (2**33 + 2, 21)):
        expected = normals(9, rows, Stream.PROCESS, start, count, torch.float64)
        found = normals(9, rows[1:], Stream.PROCESS, start, count, torch.float64, draw)
        worst = max(worst, float((found - expected[:, 1:]).abs().max()))
    return at_most(worst, 1e-12)


def worst_gap(loop: str) -> Measurement:
    """The environment that differs most between the modes."""
    gaps = {env_id: gap(env_id, loop) for env_id in sorted(CATALOG)}
    worst = max(gaps, key=gaps.__getitem__)
    return Measurement(f"{len(CATALOG)} environments within 1e-12", f"{worst}: {gaps[worst]:.1e}", gaps[worst] <= 1e-12)


ONE_GRAPH = "every registered environment is one graph that gives the eager numbers when it is run by hand"
COMPILED = "every registered environment gives the eager numbers when it is compiled"


@row("hot-loop", "one-graph-paths", f"{ONE_GRAPH}, whole paths", "1e-12", slow=True)
def one_graph_paths() -> Measurement:
    with without_machine_code():
        return worst_gap("paths")


@row("hot-loop", "one-graph-reset", f"{ONE_GRAPH}, with restarts", "1e-12", slow=True)
def one_graph_reset() -> Measurement:
    with without_machine_code():
        return worst_gap("reset")


@row("hot-loop", "compiled-paths", f"{COMPILED}, whole paths", "1e-12", slow=True)
def compiled_paths() -> Measurement:
    return worst_gap("paths")


@row("hot-loop", "compiled-reset", f"{COMPILED}, with restarts", "1e-12", slow=True)
def compiled_reset() -> Measurement:
    return worst_gap("reset")
