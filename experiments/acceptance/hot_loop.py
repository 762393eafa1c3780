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


@row("hot-loop", "graphs", "what is traced or compiled for other seeds, first rows and numbers of steps", "0")
def graphs() -> Measurement:
    from rlcore.simulation.compiled import GRAPHS
    from rlcore.simulation.native import LIBRARIES, LOOPS

    def made() -> int:
        return (
            len(LIBRARIES)
            + sum(len(loop.written) for loop in LOOPS.values() if loop)
            + sum(graph.made for graph in GRAPHS.values())
        )

    env, policy = make("rlcore/ScalarLqr-v0", dtype=torch.float64), UniformPolicy(-3.0, 3.0, 1)
    nothing = made()
    rollout(env, policy, begin(env, PATHS + 1, seed=0), 16, mode="compiled")
    before = made()
    for seed, first_row, steps in ((1, 0, 16), (0, 100, 8), (2, 7, 40)):
        rollout(env, policy, begin(env, PATHS + 1, seed=seed, first_row=first_row), steps, mode="compiled")
    again = made() - before
    return Measurement("0 again", f"{again} again, {before - nothing} at first", again == 0 and before > nothing)


@row("hot-loop", "bits", "compiled paths differ by batch, by place in it or by calls", "0 of 1120 numbers")
def bits() -> Measurement:
    env, policy = make("rlcore/StoppedBrownian-v0"), UniformPolicy(-1.0, 1.0, 1)

    def rewards(first: int, paths: int, *calls: int) -> Tensor:
        state, found = begin(env, paths, seed=1, first_row=first), []
        for steps in calls:
            rows, state = rollout_with_reset(env, policy, state, steps, mode="compiled")
            found.append(rows.reward)
        return torch.cat(found)

    whole, off = rewards(0, 200, 16), 0
    for first, paths, calls in ((0, 1, (16,)), (63, 2, (5, 11)), (133, 67, (1, 15))):
        off += int((rewards(first, paths, *calls) != whole[:, first : first + paths]).sum())
    return at_most(float(off), 0.0)


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
