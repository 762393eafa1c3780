"""Sampling steered by the error bar: nodes per iteration and error against samples, beside fixed nodes that diverge.

rlcore run integral_rl_adaptive quick
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch

from rlcore.agents.integral_rl import IntegralRl, update_resolved
from rlcore.envs.affine import ThirdOrderLinear
from rlcore.experiments.integral_rl_tasks import iterate, task
from rlcore.functional.quadrature import Matern, Rule
from rlcore.reporting.lines import Chart, Line, plot_charts
from rlcore.training.adaptive_source import AdaptiveSource, Resolution
from rlcore.training.recorder import SILENT, Recorder


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    rtols: tuple[float, ...] = (1e-2, 1e-4, 1e-6, 1e-8)
    """Tolerances of the standard deviation of a window, as a share of its integral."""
    fixed: tuple[int, ...] = (5, 9, 17, 33, 65, 129)
    """Nodes per window of the runs that do not adapt."""
    window: float = 1.0
    """Length of a window [s]."""
    count: int = 4
    """Windows from each of seven initial states."""
    iterations: int = 10
    """Policy iterations, from u = 0."""


PRESETS = {"quick": Config(), "paper": Config(rtols=tuple(10.0 ** (-0.5 * k) for k in range(4, 19)))}


class Adaptive(NamedTuple):
    """How one run went."""

    error: float  # |P - P*|
    bound: float  # of the last evaluation, at one standard deviation
    nodes: list[float]  # per window on average, in each iteration
    largest: int


def rule(window: float) -> Rule:
    """Matern-7/2 with a length scale of ten windows."""
    return Matern(3, 10.0 * window)


def adaptive(rtol: float, config: Config) -> Adaptive:
    """Policy iteration with as many nodes as each window needs."""
    problem = task(ThirdOrderLinear(dtype=torch.float64))
    agent = IntegralRl(problem.basis, problem.known, rule(config.window), problem.env.admissible_weights)
    source = AdaptiveSource(
        problem.paths,
        problem.starts,
        config.window,
        config.count,
        problem.known.utility,
        rule(config.window),
        Resolution(rtol),
    )
    nodes, largest, bound = [], 0, math.nan
    for _ in range(config.iterations):
        metrics = update_resolved(agent, source.next(agent))
        nodes.append(float(metrics["train/nodes"]))
        largest = max(largest, int(metrics["train/largest_nodes"]))
        bound = float(metrics["train/weight_bound"])
    return Adaptive(float(problem.error(agent.weights)), bound, nodes, largest)


def with_fixed_nodes(nodes: int, config: Config) -> float:
    """|P - P*| with the same nodes in every window; nan where the guard refuses an improvement."""
    problem = task(ThirdOrderLinear(dtype=torch.float64))
    settings = {"window": config.window, "count": config.count, "iterations": config.iterations}
    learned = iterate(problem, [rule(config.window)], nodes=nodes, **settings)  # type: ignore[arg-type]
    return float(problem.error(learned.weights))


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """All tolerances, and fixed nodes beside them; returns errors and nodes in the iteration that needs most."""
    found = {rtol: adaptive(rtol, config) for rtol in config.rtols}
    fixed = {nodes: with_fixed_nodes(nodes, config) for nodes in config.fixed}
    for k in range(config.iterations):
        recorder.log(k + 1, {f"eval/nodes_{rtol:.0e}": one.nodes[k] for rtol, one in found.items()})
    figure = recorder.figure_path("integral_rl_adaptive")
    if figure is not None:
        steps = list(range(1, config.iterations + 1))
        shown = [rtol for k, rtol in enumerate(config.rtols) if k % max(1, len(config.rtols) // 4) == 0]
        alive = {nodes: error for nodes, error in fixed.items() if not math.isnan(error)}
        refused = ", ".join(str(nodes) for nodes in fixed if nodes not in alive) or "none"
        per_run = [sum(one.nodes) / len(one.nodes) for one in found.values()]
        about = f"windows of {config.window:g} s; Matern-7/2, l = 10 T"
        plot_charts(
            [
                Chart(
                    "Nodes per window",
                    f"third-order system, {about}",
                    "policy iteration",
                    "mean over the windows",
                    [Line(f"rtol {rtol:.0e}", steps, found[rtol].nodes) for rtol in shown],
                    log_x=False,
                ),
                Chart(
                    "Error against samples",
                    f"fixed nodes refused by the guard: N = {refused}",
                    "nodes per window, mean over the run",
                    "|P - P*|",
                    [
                        Line("adaptive", per_run, [one.error for one in found.values()]),
                        Line("its bound", per_run, [one.bound for one in found.values()], theory=True),
                        Line("fixed", list(alive), list(alive.values())),
                    ],
                ),
            ],
            figure,
        )
    last = found[config.rtols[-1]]
    return recorder.finish(
        {f"eval/error_{rtol:.0e}": one.error for rtol, one in found.items()}
        | {f"eval/most_nodes_{rtol:.0e}": max(one.nodes) for rtol, one in found.items()}
        | {"eval/fixed_refused": float(sum(math.isnan(error) for error in fixed.values()))}
        | {"eval/error_over_bound": last.error / last.bound}
    )
