"""Interleaved timing of a candidate and its peers, so that a machine's drift hits all alike.

Time is CPU time of the process, all its threads together, unless a workload runs on several threads or on a GPU: then
it is wall time. A rate is thus per core-second, and what else runs on a shared machine is not counted, though it still
takes caches and memory bandwidth away.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from rlcore.reporting.statistics import Array, Interval, stratified_bootstrap

Clock = Literal["cpu", "wall"]
CLOCKS: dict[Clock, Callable[[], float]] = {"cpu": time.process_time, "wall": time.perf_counter}


def clock_of(device: str) -> Clock:
    """CPU time on the CPU; on a GPU the processor only waits, and the wall clock counts."""
    return "cpu" if device == "cpu" else "wall"


Work = Callable[[], int]
"""Does some steps and returns their number."""


class Timed(NamedTuple):
    """One round of a workload."""

    steps: int
    seconds: float


def timed(work: Work, *, clock: Clock = "cpu", least: float = 0.0) -> Callable[[], Timed]:
    """A round of a workload: once, and again until it has lasted `least` seconds."""
    now = CLOCKS[clock]

    def one_round() -> Timed:
        began, steps = now(), 0
        while True:
            steps += work()
            spent = now() - began
            if spent >= least:
                return Timed(steps, max(spent, 1e-9))

    return one_round


def interleave(
    workloads: Mapping[str, Work],
    *,
    peers: Mapping[str, Callable[[], Timed]] | None = None,
    rounds: int = 7,
    clock: Clock = "cpu",
    least: float = 0.0,
) -> dict[str, list[float]]:
    """Steps per second of each workload in each round, in turn after one warm-up.

    `peers` are rounds that are timed elsewhere, such as in another process.
    """
    turns = {name: timed(work, clock=clock, least=least) for name, work in workloads.items()} | dict(peers or {})
    rates: dict[str, list[float]] = {name: [] for name in turns}
    for work in (*workloads.values(), *(peers or {}).values()):
        work()
    for _ in range(rounds):
        for name, turn in turns.items():
            steps, seconds = turn()
            rates[name].append(steps / seconds)
    return rates


def median(values: Array) -> Array:  # [..., N] -> [...]
    """The median over the last axis."""
    return np.asarray(np.median(values, axis=-1))


def ratio(rates: Mapping[str, list[float]], ours: str, theirs: str) -> tuple[float, Interval]:
    """Median over rounds of our rate over theirs, and its 95 % bootstrap interval over rounds."""
    each = np.asarray(rates[ours]) / np.asarray(rates[theirs])
    return float(np.median(each)), stratified_bootstrap(each, median)


def table(rates: Mapping[str, list[float]], ours: str, *, clock: Clock = "cpu", **about: Any) -> list[dict[str, Any]]:
    """One row per workload: median and quartiles of its rate, and how many times ours is as fast, round by round."""
    rows = []
    for name, values in rates.items():
        times, (low, high) = ratio(rates, ours, name)
        lower, middle, upper = (float(x) for x in np.quantile(values, [0.25, 0.5, 0.75]))
        rows.append(
            {
                "workload": name,
                "steps/s": middle,
                "lower quartile": lower,
                "upper quartile": upper,
                "ours is": f"{times:.3g}x [{low:.3g}, {high:.3g}]",
                "ratio": times,
                "ratio low": low,
                "ratio high": high,
                "rounds": len(values),
                "clock": clock,
                "threads": torch.get_num_threads(),
                "device": "cpu",
                "load": round(os.getloadavg()[0], 2),
                **about,
            }
        )
    return rows
