"""The main job: a continuous-time agent beside PPO and SAC, on the same environments, at equal physical time.

    make demo            (or: python -m rlcore.experiments.demo)

Trains three agents on two problems with known optima, prints one table, draws the learning curves against the optimum
and leaves TensorBoard runs with the same tags for all.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import torch

from rlcore.envs.control.lqr import ERGODIC, ScalarLqr
from rlcore.envs.control.pendulum import Pendulum
from rlcore.errors import FolderError, RlcoreError
from rlcore.experiments import baseline, ergodic_lqr, pendulum
from rlcore.reporting.compare import Panel, load_runs, plot_panels
from rlcore.reporting.statistics import summarise
from rlcore.training.recorder import RunFolder

AGENTS = ("q-learning", "PPO", "SAC")


@dataclass(frozen=True)
class Problem:
    """One column of the demonstration."""

    name: str
    title: str
    metric: str
    unit: str
    optimum: float
    simulated: float
    """Physical time each agent gets, summed over paths [s]."""
    sac_updates: int


@dataclass(frozen=True)
class Job:
    """One training run."""

    problem: str
    agent: str
    seed: int
    simulated: float
    sac_updates: int
    folder: Path


def problems() -> list[Problem]:
    """Both problems, with their optima computed afresh."""
    lqr = ergodic_lqr.PRESETS["quick"]
    swing = pendulum.PRESETS["quick"]
    best = ergodic_lqr.average_reward_optimum(ScalarLqr(ERGODIC))
    return [
        Problem(
            "ergodic_lqr", "Ergodic LQ", "eval/average_reward", "reward per second", best, lqr.paths * lqr.seconds, 1500
        ),
        Problem(
            "pendulum",
            "Pendulum swing-up",
            "eval/return",
            "discounted return",
            pendulum.return_optimum(Pendulum()),
            swing.paths * swing.seconds,
            3500,
        ),
    ]


def train(job: Job) -> tuple[Job, dict[str, float], float]:
    """Run one job in its own folder; returns its result and wall time [s]."""
    torch.set_num_threads(1)
    began = time.perf_counter()
    settings = {"experiment": f"demo/{job.problem}", "label": job.agent, "seed": job.seed, "simulated": job.simulated}
    with RunFolder(job.folder, settings, silent=True, checkpoint_seconds=3600.0) as recorder:
        if job.agent == "q-learning":
            experiment = {"ergodic_lqr": ergodic_lqr, "pendulum": pendulum}[job.problem]
            result = experiment.run(experiment.PRESETS["quick"], job.seed, recorder)
        else:
            config = baseline.Config(
                algorithm=job.agent,  # type: ignore[arg-type]
                problem=job.problem,  # type: ignore[arg-type]
                simulated=job.simulated,
                updates=job.sac_updates,
            )
            result = baseline.run(config, job.seed, recorder)
        recorder.finish(result)
    return job, result, time.perf_counter() - began


def train_all(jobs: list[Job], workers: int) -> Iterator[tuple[Job, dict[str, float], float]]:
    """All jobs, the longest first, in processes of one thread each."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        pending = [pool.submit(train, job) for job in jobs]
        try:
            for future in as_completed(pending):
                yield future.result()
        except BaseException:
            for future in pending:
                future.cancel()
            raise


def show_table(columns: list[Problem], results: dict[tuple[str, str], list[tuple[float, float]]]) -> None:
    """One row per problem and agent."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Equal physical time, deterministic policies, mean and 95 % bootstrap interval over seeds")
    for heading in (
        "problem",
        "measure",
        "known optimum",
        "agent",
        "result",
        "interval",
        "of optimum",
        "physical",
        "wall",
    ):
        table.add_column(heading, justify="left" if heading in ("problem", "measure", "agent") else "right")
    for problem in columns:
        for agent in AGENTS:
            scores, walls = zip(*results[problem.name, agent], strict=True)
            found = summarise(scores)
            gap = (problem.optimum - found.mean) / abs(problem.optimum)
            table.add_row(
                problem.title,
                problem.unit,
                f"{problem.optimum:.4f}",
                agent,
                f"{found.mean:.4f}",
                f"[{found.low:.4f}, {found.high:.4f}]".replace("[", r"\["),
                f"{-100 * gap:+.1f} %",
                f"{problem.simulated:.0f} s",
                f"{sum(walls) / len(walls):.0f} s",
            )
        table.add_section()
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def main(argv: list[str] | None = None) -> int:
    """Train, tabulate, draw, and say how to look at it."""
    parser = argparse.ArgumentParser(prog="rlcore.experiments.demo", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="runs per agent and problem")
    parser.add_argument("--out", type=Path, default=None, help="run folder; default runs/demo-<time>")
    parser.add_argument("--workers", type=int, default=min(os.cpu_count() or 1, 8), help="processes")
    options = parser.parse_args(argv)
    if options.seeds < 1 or options.workers < 1:
        parser.error("--seeds and --workers must be at least 1")
    out = options.out or Path("runs") / f"demo-{datetime.now():%Y%m%d-%H%M%S}"
    try:
        return demonstrate(out, options.seeds, options.workers)
    except RlcoreError as error:
        print(f"rlcore: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nstopped; what is finished is in {out}", file=sys.stderr)
        return 130


def demonstrate(out: Path, seeds: int, workers: int) -> int:
    """The demonstration, into the empty folder `out`."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FolderError(f"{out} is not an empty folder; choose another with --out")
    began = time.perf_counter()
    torch.set_num_threads(1)
    columns = problems()
    jobs = [
        Job(p.name, agent, seed, p.simulated, p.sac_updates, out / p.name / agent / f"seed-{seed}")
        for agent in ("SAC", "PPO", "q-learning")
        for p in columns
        for seed in range(seeds)
    ]
    results: dict[tuple[str, str], list[tuple[float, float]]] = {(p.name, a): [] for p in columns for a in AGENTS}
    metric = {p.name: p.metric for p in columns}
    layout = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*layout, disable=not sys.stdout.isatty()) as progress:
        bar = progress.add_task(f"training {len(jobs)} runs", total=len(jobs))
        for job, result, wall in train_all(jobs, workers):
            score = result[metric[job.problem]]
            results[job.problem, job.agent].append((score, wall))
            line = f"{job.problem} {job.agent} seed {job.seed}: {metric[job.problem]} {score:.4f} in {wall:.0f} s"
            progress.update(bar, advance=1, description=line)
            if not sys.stdout.isatty():
                print(line, flush=True)
    show_table(columns, results)
    figure = out / "figures" / "demo.png"
    plot_panels([Panel(p.title, load_runs([out / p.name]), p.metric, p.optimum) for p in columns], figure)
    print(f"figure       {figure}\nTensorBoard  tensorboard --logdir {out}")
    print(f"took         {time.perf_counter() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
