"""Linear-quadratic control of many states, learned off-policy; the cost is exact."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import replace

from rlcore.experiments import large_lq
from rlcore.reporting.acceptance import Measurement, at_most, row

SYSTEM = "martingale"


@row(
    SYSTEM,
    "lq-20",
    "20-state LQ by least-squares q-learning, actions N(0, I): exact cost over the Riccati optimum, worst of 6 runs",
    "2 %",
)
def twenty_states() -> Measurement:
    """Three problems, two seeds each."""
    configs = [replace(large_lq.PRESETS["quick"], problem_seed=number) for number in range(3)]
    return at_most(max(large_lq.learn(c, 20, seed)["eval/gap"] for c in configs for seed in range(2)), 0.02)


@row(
    SYSTEM,
    "lq-100",
    "100-state, 20-action LQ, the same method: exact cost over the Riccati optimum; wall time, peak memory",
    "2 %",
    slow=True,
)
def hundred_states() -> Measurement:
    """7381 unknowns of (J, q), 60 rows for each and policy iteration."""
    began = time.perf_counter()
    gap = large_lq.learn(replace(large_lq.PRESETS["quick"], iterations=3), 100, seed=0)["eval/gap"]
    seconds = time.perf_counter() - began
    unit = 2**30 if sys.platform == "darwin" else 2**20  # bytes there, KiB elsewhere
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return Measurement("<= 0.02", f"{gap:.4f}; {seconds:.0f} s, {memory:.1f} GiB", gap <= 0.02)
