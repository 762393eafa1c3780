"""What the machine could do at best: its memory bandwidth and its rate of matrix products, measured, not looked up."""

from __future__ import annotations

import functools
import math
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import torch

from rlcore.experiments.benchmark.timing import interleave

COPIED = 1 << 26
"""Bytes of the array that is copied: far more than a core's own caches hold."""
ORDER = 1024
"""Of the matrices multiplied."""
LIBRARIES = ("torch", "numpy", "scipy", "gymnasium", "stable-baselines3")


class Machine(NamedTuple):
    """One machine, and what one of its threads reached in this very call."""

    cpu: str
    cores: int
    memory_gib: float
    python: str
    versions: str
    bandwidth: float
    """Bytes read and written per CPU second by a copy."""
    gemm: float
    """Floating-point operations per CPU second of a float32 matrix product."""

    def limit(self, *, moved: float = 0.0, operations: float = 0.0) -> float:
        """Steps per second at best, if a step moves so many bytes and does so many operations in matrix products."""
        by_memory = self.bandwidth / moved if moved else math.inf
        by_arithmetic = self.gemm / operations if operations else math.inf
        return min(by_memory, by_arithmetic)


@functools.cache
def machine() -> Machine:
    """This machine; measured at the first call."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        bandwidth, gemm = rates()
    finally:
        torch.set_num_threads(threads)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return Machine(processor(), os.cpu_count() or 1, memory, platform.python_version(), versions, bandwidth, gemm)


def rates() -> tuple[float, float]:
    """Bytes per second of a copy, operations per second of a product, as medians."""
    source = torch.ones(COPIED // 4)
    target, a = torch.empty_like(source), torch.ones(ORDER, ORDER)
    product = torch.empty_like(a)

    def copy() -> int:
        target.copy_(source)
        return 2 * COPIED

    def multiply() -> int:
        torch.mm(a, a, out=product)
        return 2 * ORDER**3

    found = interleave({"copy": copy, "product": multiply}, rounds=9)
    bandwidth, gemm = (sorted(values)[len(values) // 2] for values in found.values())
    return bandwidth, gemm


def processor() -> str:
    """The processor's name, with the model numbers where the name says little."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return platform.processor() or platform.machine()
    lines = (line.partition(":") for line in path.read_text().splitlines())
    known = {key.strip(): value.strip() for key, _, value in lines}
    name = known.get("model name", platform.machine())
    return f"{name} (family {known.get('cpu family', '?')}, model {known.get('model', '?')})"
