"""How cost grows with paths, steps, states, critics and processes: measured, with a model of what was not at hand.

Sizes are timed in turn in this process by CPU time. One process and several are timed in turn under torchrun, each with
one thread, by the wall clock, since what counts there is when all are done: each needs a core that nobody else uses.
`by cpu` is the gain by the processor time of the busiest process: a bound of what calm cores would show.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch

from rlcore.agents.actor_critic import NetworkConfig, SacConfig, SacRedq
from rlcore.data import Transitions
from rlcore.envs.control.matrix_lqr import MatrixLqr, MatrixLqrConfig
from rlcore.experiments.benchmark import crew_member
from rlcore.experiments.benchmark.crew import Crew, Round
from rlcore.experiments.benchmark.scaling_model import Cost, Exchange, among, fitted, stops_at
from rlcore.experiments.benchmark.timing import Work, interleave, ratio, table
from rlcore.nn.ensemble import Layers
from rlcore.simulation import ControlSpec, Feedback, begin, rollout
from rlcore.simulation.rollout import Mode

PATHS, STEPS = 16384, 32
"""Of all processes together, and of a call."""
MODELLED = (1, 2, 4, 8, 16, 32, 64, 128)
TARGETS = {"rollouts": 1.8, "training": 1.5}
"""Gain of two processes over one."""
LEAST = 0.3
"""Seconds that a round of processes lasts at the least."""

Rows = list[dict[str, Any]]


def measure(rounds: int = 7, *, compiled: bool = True, paths: int = PATHS, processes: int = 2) -> Rows:
    """Every axis, then the processes; `paths` of the largest batch."""
    torch.set_num_threads(1)
    mode: Mode = "compiled" if compiled else "eager"
    sizes = [max(processes, paths // k) for k in (64, 16, 4, 1)]
    rows, costs = [], {}
    for name, settings in settings_of(mode).items():
        works = {n: crew_member.WORKLOADS[name](paths=n, **settings) for n in sizes}
        costs[name], found = axis(f"{name} by paths, {mode}", "paths", works, rounds)
        rows += found
    steps = {n: crew_member.rollouts(max(processes, paths // 16), n, mode) for n in (4, 16, 64, 256)}
    rows += axis(f"rollouts by steps of a call, {mode}", "steps", steps, rounds)[1]
    rows += axis("linear system by states, eager", "states", {n: linear(n) for n in (2, 8, 32, 128)}, rounds)[1]
    members = {n: critics(n, compiled=compiled) for n in (2, 5, 10, 20)}
    rows += axis(f"SAC updates by critics, {'compiled' if compiled else 'eager'}", "critics", members, rounds)[1]
    return rows + among_processes(costs, rounds, mode, paths, processes)


def settings_of(mode: Mode) -> dict[str, dict[str, Any]]:
    """What is measured by paths and by processes."""
    both: dict[str, Any] = {"steps": STEPS, "mode": mode}
    return {"rollouts": both, "training": both | {"compiled": mode != "eager"}}


def linear(states: int, paths: int = 256) -> Work:
    """A linear system, three matrix products a step, with a linear policy."""
    env = MatrixLqr(MatrixLqrConfig(state_dim=states))
    policy, start = Feedback(lambda x: -0.1 * x[:, :2]), begin(env, paths, seed=0)

    def work() -> int:
        rollout(env, policy, start, STEPS)
        return paths * STEPS

    return work


def critics(count: int, *, compiled: bool, states: int = 8, rows: int = 256) -> Work:
    """Updates of soft actor-critic, networks of 2 x 64; their number counts times that of the critics."""
    spec = ControlSpec("scaling", state_dim=states, action_dim=2, noise_dim=1, dt=0.1, horizon=10.0)
    networks = NetworkConfig(count, Layers((64, 64)), Layers((64, 64)))
    agent = SacRedq(spec, SacConfig(networks, compiled=compiled))
    obs, one = torch.randn(rows, states, generator=torch.Generator().manual_seed(0)), torch.ones(rows)
    batch = Transitions(obs, torch.zeros(rows, 2), one, one, obs, one)

    def work() -> int:
        agent.update(batch)
        return count

    return work


def axis(what: str, name: str, works: Mapping[int, Work], rounds: int) -> tuple[Cost, Rows]:
    """Rows of every size, with the model's rate beside; seconds are those of one call."""
    steps: dict[int, int] = {}

    def one_call(size: int, work: Work) -> Callable[[], int]:
        def call() -> int:
            steps[size] = work()
            return 1

        return call

    rates = interleave({str(n): one_call(n, work) for n, work in works.items()}, rounds=rounds, least=0.05)
    seconds = [1.0 / float(np.median(rates[str(n)])) for n in works]
    cost, rows = fitted(list(works), seconds), []
    for n, spent in zip(works, seconds, strict=True):
        about = {"what": what, "axis": name, "batch": n, "clock": "cpu", "threads": 1}
        low, high = (steps[n] * float(q) for q in np.quantile(rates[str(n)], [0.25, 0.75]))
        told = {"workload": "measured", "steps/s": steps[n] / spent, "lower quartile": low, "upper quartile": high}
        rows.append(about | told | {"ms": 1e3 * spent, "rounds": rounds})
        guess = cost.seconds(n)
        told = {"workload": "model", "steps/s": steps[n] / guess, "ms": 1e3 * guess, "residual": guess / spent - 1.0}
        rows.append(about | told | {"pays from": cost.pays_from})
    return cost, rows


def among_processes(costs: Mapping[str, Cost], rounds: int, mode: Mode, paths: int, processes: int) -> Rows:
    """One process beside several, and the model up to many."""
    works = {name: {"paths": paths, **settings} for name, settings in settings_of(mode).items()}
    with ExitStack() as stack:
        crews = {size: stack.enter_context(Crew(size)) for size in (1, processes)}
        found = {name: in_turn(crews, name, rounds, **settings) for name, settings in works.items()}
        sizes = (1, crew_member.gradient_size())
        content = {n: in_turn({processes: crews[processes]}, "exchange", rounds, floats=n) for n in sizes}
    small, whole = (float(np.median([r.wall / r.steps for r in told[processes]])) for told in content.values())
    exchange, rows = Exchange.measured(small, whole, processes), []
    for name, told in found.items():
        reductions = crew_member.REDUCTIONS if name == "training" else 0
        rows += rows_of(f"{name} by processes, {mode}", told, TARGETS[name], paths)
        rows += modelled(f"{name} by processes, {mode}", costs[name], paths, reductions, exchange, told)
    about = {"what": "one reduction of a gradient", "workload": f"{processes} processes", "clock": "wall"}
    return [*rows, about | {"ms": 1e3 * whole, "floats": sizes[1], "ms of one float": 1e3 * small}]


def in_turn(crews: Mapping[int, Crew], name: str, rounds: int, **settings: Any) -> dict[int, list[Round]]:
    """Rounds of the same work by every crew, one after the other."""
    first = {size: crew.do(name, **settings) for size, crew in crews.items()}
    times = max(math.ceil(LEAST / told.wall) for told in first.values())
    found: dict[int, list[Round]] = {size: [] for size in crews}
    for _ in range(rounds):
        for size, crew in crews.items():
            found[size].append(crew.do(name, times, **settings))
    return found


def rows_of(what: str, told: Mapping[int, list[Round]], target: float, paths: int) -> Rows:
    """Rates by the wall, the gain over one process, and the gain by processor time."""
    names = {f"{size}": size for size in told}
    wall = {name: [r.steps / r.wall for r in told[size]] for name, size in names.items()}
    cpu = {name: [r.steps / r.cpu for r in told[size]] for name, size in names.items()}
    rows = table(wall, "1", clock="wall", what=what, axis="processes", paths=paths)
    for row in rows:
        name = row.pop("workload")
        times, (low, high) = ratio(wall, name, "1")
        row |= {"workload": "measured", "batch": names[name], "ratio": times, "ratio low": low, "ratio high": high}
        row |= {"ours is": f"{times:.3g}x [{low:.3g}, {high:.3g}]", "by cpu": ratio(cpu, name, "1")[0]}
        row |= {"target": target} if names[name] == 2 else {}
    about = {"what": what, "axis": "processes", "workload": "by processor time", "clock": "cpu", "paths": paths}
    return [*rows, *(about | {"batch": size, "steps/s": float(np.median(cpu[name]))} for name, size in names.items())]


def modelled(
    what: str, cost: Cost, paths: int, reductions: int, exchange: Exchange, told: Mapping[int, list[Round]]
) -> Rows:
    """What the costs by paths and of a reduction say for more processes, one core each."""
    stops, rows = stops_at(cost, paths, reductions, exchange), []
    for size in MODELLED:
        rate = paths * STEPS / among(cost, paths, size, reductions, exchange)
        row = {"what": what, "axis": "processes", "batch": size, "workload": "model", "steps/s": rate, "clock": "wall"}
        if size in told:
            row["residual"] = float(np.median([r.steps / r.wall for r in told[size]])) / rate - 1.0
        rows.append(row | {"half used up to": stops, "paths": paths})
    return rows
