"""Benchmarks in miniature: both sides compute the same, and what is timed does arrive."""

from __future__ import annotations

import math
import shutil

import pytest

from rlcore.experiments.benchmark import clstd, q_learning, quadrature


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_clstd_beside_numpy_finds_the_same_parameters() -> None:
    rows = clstd.measure(paths=300, steps=20)
    assert [row["workload"] for row in rows] == ["rlcore Clstd, compiled", "rlcore Clstd", "NumPy", "NumPy in blocks"]
    assert all(float(row["difference"]) < 1e-6 and row["steps/s"] > 0 for row in rows)


def test_many_environments_bring_q_learning_to_the_optimum() -> None:
    best = q_learning.CANDIDATES[4096][1]
    assert 0.0 < q_learning.seconds_to_target(4096, best, seed=0, limit=math.inf) < math.inf
    assert q_learning.seconds_to_target(1, best._replace(rate=1e6), seed=0, limit=math.inf) == math.inf  # diverges


def test_quadrature_is_more_accurate_than_the_dense_form() -> None:
    rows = quadrature.measure(nodes=200, windows=100, rounds=1)
    errors = {row["workload"]: float(row["error of weights"]) for row in rows if row["unit"] == "nodes"}
    assert errors["state space"] < 1e-12
    assert errors["dense Cholesky"] > 1e3 * errors["state space"]
    assert all(row["steps/s"] > 0.0 for row in rows)
