"""Interleaved timing of a candidate and its peers, so that a machine's drift hits all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch


def interleave(workloads: Mapping[str, Callable[[], int]], *, rounds: int = 7) -> dict[str, list[float]]:
    """Steps per second of each workload in each round, in turn after one warm-up; a workload returns its steps."""
    rates: dict[str, list[float]] = {name: [] for name in workloads}
    for workload in workloads.values():
        workload()
    for _ in range(rounds):
        for name, workload in workloads.items():
            began = time.perf_counter()
            steps = workload()
            rates[name].append(steps / (time.perf_counter() - began))
    return rates


def table(rates: Mapping[str, list[float]], ours: str, **about: Any) -> list[dict[str, Any]]:
    """One row per workload: median and range of its rate, and the median of our rate over its rate, round by round."""
    rows = []
    for name, values in rates.items():
        ratio = statistics.median(a / b for a, b in zip(rates[ours], values, strict=True))
        rows.append(
            {
                "workload": name,
                "steps/s": statistics.median(values),
                "lowest": min(values),
                "highest": max(values),
                "ours is": f"{ratio:.1f}x",
                "threads": torch.get_num_threads(),
                **about,
            }
        )
    return rows
