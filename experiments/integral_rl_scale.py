"""Integral RL on thousands of linear-quadratic problems at once: errors beside their bounds, problems per second.

rlcore run integral_rl_scale quick
rlcore run integral_rl_scale paper --device cuda
"""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rlcore.agents.integral_rl.linear_batch import ErrorBound, Iterate, LinearBatch, starts
from rlcore.checks import check_device, check_integer, check_positive
from rlcore.envs.affine.random_linear import LinearProblems, random_stable
from rlcore.errors import ConfigError
from rlcore.functional.linear_flow import linear_flow
from rlcore.functional.quadrature import IntegratedWiener, Quadrature
from rlcore.functional.riccati import care
from rlcore.reporting.figures import MUTED, PALETTE, new_figure, save, set_titles
from rlcore.training.recorder import SILENT, Recorder

SQUARINGS = 7
"""Enough for closed loops up to 64 per node spacing, far beyond what the nodes resolve."""


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    problems: int = 4096
    """Random problems, stable without control."""
    states: int = 4
    """Dimension of the state."""
    inputs: int = 1
    """Dimension of the action."""
    window: float = 0.2
    """Length of a window [s]; one from each of n (n + 1) / 2 initial states."""
    nodes: int = 9
    """Even nodes per window."""
    steps: int = 8
    """Policy iterations, from u = 0."""
    block: int = 1024
    """Problems side by side, which fit the cache of a CPU; a GPU takes as many as fit its memory."""
    device: str = "cpu"
    """Where everything runs."""


PRESETS = {"quick": Config(), "paper": Config(problems=65_536)}


def rule(config: Config) -> Quadrature:
    """Integrated Wiener quadrature on the nodes of a window."""
    times = torch.linspace(0.0, config.window, config.nodes, dtype=torch.float64, device=config.device)
    return IntegratedWiener(3).at(times)


def solve(problems: LinearProblems, config: Config, quadrature: Quadrature) -> tuple[LinearBatch, Iterate]:
    """Policy iteration on all of these problems side by side; the learner sees sampled states and B, Q, R, not A."""
    A, B, Q, R = problems
    first, spacing = starts(config.states, device=A.device), config.window / (config.nodes - 1)

    def plant(gain: Tensor) -> Tensor:
        return linear_flow(A - B @ gain, first, spacing, config.nodes, SQUARINGS)

    learner = LinearBatch(B, Q, R, quadrature)
    return learner, learner.run(plant, torch.zeros_like(B.mT), config.steps)


def blocks(problems: LinearProblems, config: Config) -> Iterator[LinearProblems]:
    """The problems, `config.block` at a time."""
    for low in range(0, len(problems.A), config.block):
        yield LinearProblems(*(part[low : low + config.block] for part in problems))


def solve_all(problems: LinearProblems, config: Config) -> tuple[Tensor, ErrorBound]:
    """Every value [P, n, n] and its bound, block by block."""
    values, bounds, quadrature = [], [], rule(config)
    for block in blocks(problems, config):
        learner, found = solve(block, config, quadrature)
        values.append(found.value)
        bounds.append(learner.bound(found))
    return torch.cat(values), ErrorBound(*(torch.cat(parts) for parts in zip(*bounds, strict=True)))


def errors(problems: LinearProblems, config: Config) -> tuple[Tensor, Tensor]:
    """|P - P*| against the Riccati equation, and its bound, problem by problem."""
    values, bound = solve_all(problems, config)
    return torch.linalg.matrix_norm(values - care(*problems)), bound.value


def rate(problems: LinearProblems, config: Config, size: int) -> float:
    """Problems per second, iterations and bounds, with `size` of them side by side; the best of three."""
    part, best, quadrature = LinearProblems(*(part[:size] for part in problems)), 0.0, rule(config)
    for _ in range(3):
        wait(config.device)
        began = time.perf_counter()
        learner, found = solve(part, config, quadrature)
        learner.bound(found)
        wait(config.device)
        best = max(best, size / (time.perf_counter() - began))
    return best


def wait(device: str) -> None:
    """Until the device has done all that it was asked."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def check(config: Config) -> None:
    """Raise unless the settings make sense together."""
    check_device(config.device)
    check_integer("the sizes", config.problems, config.states, config.inputs, config.nodes, config.block)
    check_positive("window", config.window, "s")
    if min(config.problems, config.states, config.inputs, config.block) < 1:
        raise ConfigError("problems, states, inputs and block must be at least 1")


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Solve all problems, hold each against its bound, and time batches of several sizes."""
    check(config)
    problems = random_stable(config.problems, config.states, config.inputs, seed, device=config.device)
    error, bound = errors(problems, config)
    share = (error / bound).where(torch.isfinite(bound), 0.0)
    sizes = [size for size in (1, 4, 16, 64, 256, 1024, 4096, 16_384) if size <= config.problems]
    rates = [rate(problems, config, size) for size in sizes]
    for step, (size, speed) in enumerate(zip(sizes, rates, strict=True), 1):
        recorder.log(step, {"eval/batch": size, "eval/problems_per_second": speed})
    figure = recorder.figure_path("integral_rl_scale")
    if figure is not None:
        draw(figure, error.cpu(), bound.cpu(), sizes, rates)
    return recorder.finish(
        {
            "eval/median_error": float(error.median()),
            "eval/largest_error": float(error.max()),
            "eval/median_error_over_bound": float(share.median()),
            "eval/largest_error_over_bound": float(share.max()),
            "eval/without_bound": float(torch.isinf(bound).sum()),
            "eval/problems_per_second": max(rates),
        }
    )


def draw(path: Path, error: Tensor, bound: Tensor, sizes: list[int], rates: list[float]) -> None:
    """Errors against bounds, and problems per second against the batch; the numbers beside them as CSV."""
    figure, (left, right) = new_figure(2)
    set_titles(left, "Error of each problem beside its bound", f"{len(error)} random problems, against the Riccati "
               "equation", "bound on |P - P*|", "|P - P*|")  # fmt: skip
    shown = torch.isfinite(bound)
    left.scatter(bound[shown], error[shown], s=3, color=PALETTE[0], alpha=0.35, linewidths=0)
    low, high = float(error[shown].min()), float(bound[shown].max())
    left.plot([low, high], [low, high], color=MUTED, linestyle=(0, (2, 2)), linewidth=1.1)
    left.annotate("error = bound", (low, low), (14, -3), textcoords="offset points", color=MUTED)
    set_titles(right, "Problems per second", "iterations and bounds", "problems side by side", "problems per second")
    right.plot(sizes, rates, marker="o", markersize=4, color=PALETTE[0])
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.margins(x=0.03)
    save(figure, path)
    with path.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["chart", "x", "y"])
        writer.writerows(["bound, error", *pair] for pair in zip(bound.tolist(), error.tolist(), strict=True))
        writer.writerows(["batch, problems/s", *pair] for pair in zip(sizes, rates, strict=True))
