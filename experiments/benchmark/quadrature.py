"""Bayesian quadrature of 10^4 nodes beside a dense Cholesky solver, errors included; windows per second given weights.

Errors are those of the weights, beside the largest of them, and of the variance, against a Kalman filter in 80 digits,
which on few nodes agrees with the dense form in 100. The dense solver has the jitter that is the default of kernel
libraries; a Matern-7/2 matrix as large as this would pass with 1e-13, but then the weights are nonsense. Everyone has
one core.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy
import torch
from scipy.integrate import simpson

from rlcore.experiments.acceptance.integral_rl.oracle import matern_filter_oracle, relative_errors
from rlcore.experiments.benchmark.machine import machine
from rlcore.experiments.benchmark.timing import interleave, table
from rlcore.functional.quadrature import Matern, MaternKernel, Quadrature, Simpson, dense_quadrature

ORDER, SCALE = 3, 3.0
"""Matern-7/2 with a length scale of three windows."""
STEP = 2.0**-14
"""Between the nodes [s]: a power of two, so that the oracle's nodes are the very same."""
JITTER = 1e-8


def measure(
    nodes: Sequence[int] = (100, 1000, 10_000), windows: Sequence[int] = (100, 10_000, 100_000), rounds: int = 3
) -> list[dict[str, Any]]:
    """Nodes per second of both solvers, and windows of 33 nodes per second, by how many there are."""
    torch.set_num_threads(1)
    found = [row for n in nodes for row in weights(n, rounds)]
    return [*found, *(row for n in windows for row in integrals(n, 5 * rounds))]


def weights(nodes: int, rounds: int) -> list[dict[str, Any]]:
    """The solvers in turn, and how far each is off."""
    times = STEP * torch.arange(nodes, dtype=torch.float64)
    scale = SCALE * float(times[-1])
    found: dict[str, Quadrature] = {}

    def ours() -> int:
        found["state space"] = Matern(ORDER, scale).at(times)
        return nodes

    def dense() -> int:
        found["dense Cholesky"] = dense_quadrature(MaternKernel(ORDER, scale), times, noise=JITTER)
        return nodes

    rates = interleave({"state space": ours, "dense Cholesky": dense}, rounds=rounds)
    limit = machine().limit(moved=16.0)  # a time read, a weight written
    rows = table(rates, "state space", unit="nodes", batch=nodes, what="quadrature weights", limit=limit)
    exact = matern_filter_oracle(ORDER, scale, nodes, STEP, digits=80)
    for row in rows:
        quadrature = found[row["workload"]]
        assert quadrature.variance is not None
        errors = relative_errors(quadrature.weights.tolist(), float(quadrature.variance), exact)
        row |= {"jitter": JITTER if row["workload"] == "dense Cholesky" else 0.0}
        row |= {"error of weights": f"{errors[0]:.1e}", "of variance": f"{errors[1]:.1e}"}
    return rows


def integrals(windows: int, rounds: int) -> list[dict[str, Any]]:
    """What is left to do once weights are known, beside SciPy's rule on the same samples."""
    times = torch.linspace(0.0, 1.0, 33, dtype=torch.float64)
    bayesian, classical = Matern(ORDER, SCALE).at(times), Simpson().at(times)
    values = torch.rand(windows, 33, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    arrays = values.numpy()

    def run(quadrature: Quadrature) -> int:
        quadrature.integral(values)
        return windows

    def peer() -> int:
        simpson(arrays, x=times.numpy(), axis=-1)
        return windows

    workloads = {
        "Matern-7/2, weights at hand": lambda: run(bayesian),
        "Simpson, weights at hand": lambda: run(classical),
        "SciPy simpson": peer,
    }
    versions = f"numpy {np.__version__}, scipy {scipy.__version__}"
    rates = interleave(workloads, rounds=rounds)
    limit = machine().limit(moved=8.0 * (values.shape[1] + 1))  # its samples read, its integral written
    about: dict[str, Any] = {"what": "integrals of 33 nodes", "unit": "windows", "batch": windows, "limit": limit}
    return table(rates, "Matern-7/2, weights at hand", **about, versions=versions)
