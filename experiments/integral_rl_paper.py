"""Integral RL on the two published tasks: six quadrature rules on the same samples, beside the published curves.

rlcore run integral_rl_paper paper
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rlcore.envs.affine import LinearRegulator
from rlcore.experiments.integral_rl_protocol import (
    NODES,
    NUGGET,
    STOP,
    STORED,
    TASKS,
    WINDOW,
    paper_task,
    windows_per_iteration,
)
from rlcore.experiments.integral_rl_tasks import Task, iterate
from rlcore.functional.bases import symmetric
from rlcore.functional.quadrature import IntegratedWiener, Matern, Rule, Simpson, Trapezoid
from rlcore.functional.riccati import cost_excess, feedback_gain
from rlcore.reporting.lines import Chart, Line, plot_charts
from rlcore.reporting.statistics import Slope, fitted_slope
from rlcore.training.recorder import SILENT, Recorder

SIX: dict[str, Rule] = {
    "trapezoid": Trapezoid(),
    "Simpson": Simpson(),
    "Matern-7/2, l = 0.3 s, nugget": NUGGET,
    "Matern-7/2, l = 0.3 s": Matern(3, 0.3),
    "Matern-7/2, l = 10 T": Matern(3, 10.0 * WINDOW),
    "IWP3": IntegratedWiener(3),
}
STORED_NAMES = {"trapezoid": "published trapezoid", "BQ": "published BQ"}
INTERVALS = "N - 1 intervals per window"
ITERATIONS = {"third order": 9, "sine": 6}
"""Until nothing changes any more; the published stop comes after 8 and 3."""


@dataclass(frozen=True)
class Config:
    """Settings of the study."""

    nodes: tuple[int, ...] = (5, 7, 9, 11, 13, 15)
    """Samples in each window of 0.1 s, both ends among them; at least three counts."""


PRESETS = {"quick": Config(), "paper": Config(NODES)}


@dataclass(frozen=True)
class Curves:
    """What one task gave: every list is [rule][number of nodes]."""

    weights: list[list[float]]
    """|w - w*|; Frobenius' norm of P - P* for the linear task."""
    gain: list[list[float]]
    """|K - K*| for the linear task, and the root mean square of u - u* at 10^4 states N(0, I) for the other."""
    cost: list[list[float]]
    """tr(P_K - P*) for the linear task: what the learned gain costs too much; empty for the other."""
    iterations: list[list[float]]
    """Until the change of the weights falls below 1e-3."""


def study(name: str, nodes: Sequence[int]) -> Curves:
    """Policy iteration with every rule for every number of nodes, from the published initial state."""
    found = paper_task(name)
    rows: list[list[Tensor]] = [[], [], [], []]
    for count in nodes:
        weights, iterations = learn(found, name, count)
        rows[0].append(found.error(weights))
        rows[1].append(gain_error(found, weights))
        if isinstance(found.env, LinearRegulator):
            rows[2].append(excess(found.env, weights))
        rows[3].append(iterations.double())
    return Curves(*(torch.stack(part, 1).tolist() if part else [] for part in rows))


def learn(found: Task, name: str, nodes: int) -> tuple[Tensor, Tensor]:
    """Final weights [6, p], and the iterations [6] that the published stop would have taken."""
    weights, iterations = [], []
    for group in groups(name):
        result = iterate(
            found,
            [SIX[rule] for rule in group],
            window=WINDOW,
            count=windows_per_iteration(name, SIX[group[0]]),
            nodes=nodes,
            iterations=ITERATIONS[name],
            continuing=True,
        )
        weights.append(result.weights)
        iterations.append(result.stopped(found.metric, STOP)[1])
    return torch.cat(weights), torch.cat(iterations)


def groups(name: str) -> list[list[str]]:
    """Rules that share their number of windows learn side by side."""
    alike = [rule for rule in SIX if windows_per_iteration(name, SIX[rule]) == windows_per_iteration(name, NUGGET)]
    return [group for group in ([rule for rule in SIX if rule not in alike], alike) if group]


def gain_error(found: Task, weights: Tensor) -> Tensor:  # [R, p] -> [R]
    """|K - K*|, or the root mean square of u - u*."""
    env, n = found.env, found.env.spec.state_dim
    if isinstance(env, LinearRegulator):
        off: Tensor = feedback_gain(env.B, env.R, symmetric(weights)) - env.optimal_gain
        return off.square().sum((-2, -1)).sqrt()
    x = torch.randn(10_000, n, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    states = x.expand(len(weights), -1, -1)
    off = found.known.improved_action(states, found.basis.gradient(states, weights)) - env.optimal_action(x)
    return off.square().sum(-1).mean(-1).sqrt()


def excess(env: LinearRegulator, weights: Tensor) -> Tensor:  # [R, p] -> [R]
    """tr(P_K - P*) of the learned gain."""
    return cost_excess(env.A, env.B, env.Q, env.R, feedback_gain(env.B, env.R, symmetric(weights)), env.P)


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Both tasks; returns the slopes, and the errors at the largest number of nodes. Nothing is random."""
    steps = [count - 1 for count in config.nodes]
    curves = {name: study(name, config.nodes) for name in TASKS}
    slopes = {
        (name, rule): fitted_slope(steps, row)
        for name, found in curves.items()
        for rule, row in zip(SIX, found.weights, strict=True)
    }
    for k, count in enumerate(config.nodes):
        logged = {f"eval/{name}/{rule}": curves[name].weights[i][k] for name in TASKS for i, rule in enumerate(SIX)}
        recorder.log(count, logged)
    figure = recorder.figure_path("integral_rl_paper")
    if figure is not None:
        plot_charts([weight_chart(name, steps, curves[name], slopes) for name in TASKS], figure)
        plot_charts(other_charts(steps, curves), figure.with_name("integral_rl_paper_gain_and_cost"))
        write_slopes(slopes, figure.with_name("integral_rl_paper_slopes.csv"))
    result = {f"eval/slope/{name}/{rule}": slope.exponent for (name, rule), slope in slopes.items()}
    for name, found in curves.items():
        for i, rule in enumerate(SIX):
            result[f"eval/error/{name}/{rule}"] = found.weights[i][-1]
            result[f"eval/iterations/{name}/{rule}"] = found.iterations[i][-1]
    return recorder.finish(result)


def weight_chart(name: str, steps: Sequence[int], found: Curves, slopes: dict[tuple[str, str], Slope]) -> Chart:
    """Error of the weights against the number of intervals, with the stored curves."""
    lines = []
    for rule, row in zip(SIX, found.weights, strict=True):
        slope = slopes[name, rule]
        lines.append(Line(f"{rule}: {slope.exponent:.2f} ± {slope.half_width:.2f}", steps, row))
    stored = [
        Line(STORED_NAMES[rule], [count - 1 for count in NODES], list(row), theory=True)
        for (task_name, rule), row in STORED.items()
        if task_name == name
    ]
    subtitle = "windows of 0.1 s, one path; after the colon the slope with its 95 % interval"
    return Chart(f"Error of the value, {name} task", subtitle, INTERVALS, "|w - w*|", [*lines, *stored])


def other_charts(steps: Sequence[int], curves: dict[str, Curves]) -> list[Chart]:
    """Errors of the gains, and what the learned gain costs."""
    linear, sine = curves["third order"], curves["sine"]

    def labelled(rows: list[list[float]]) -> list[Line]:
        named = zip(SIX, rows, strict=True)
        return [Line(f"{rule}: {fitted_slope(steps, row).exponent:.1f}", steps, row) for rule, row in named]

    x, after = INTERVALS, "after the colon the slope"
    return [
        Chart("Error of the gain, third order task", after, x, "|K - K*|", labelled(linear.gain)),
        Chart("Error of the action, sine task", f"root mean square, x ~ N(0, I); {after}", x, "|u - u*|",
              labelled(sine.gain)),
        Chart("Cost above the optimum, third order task", f"tr(P_K - P*), second order; {after}", x, "cost excess",
              labelled(linear.cost)),
    ]  # fmt: skip


def write_slopes(slopes: dict[tuple[str, str], Slope], path: Path) -> None:
    """Task, rule, slope in N - 1 and half the width of its 95 % interval."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["task", "rule", "slope", "half_width_95"])
        writer.writerows([*key, repr(slope.exponent), repr(slope.half_width)] for key, slope in slopes.items())
