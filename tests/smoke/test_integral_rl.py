"""The studies of integral RL in small: figures, tables, and numbers that mean something."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from rlcore.experiments import integral_rl_benchmarks, integral_rl_paper
from rlcore.experiments.integral_rl_protocol import NODES, NUGGET, STORED, reproduce
from rlcore.training.recorder import RunFolder


def test_the_paper_study_draws_and_fits_slopes(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run", {"experiment": "integral_rl_paper", "seed": 0}, silent=True) as recorder:
        found = integral_rl_paper.run(integral_rl_paper.Config(nodes=(5, 7, 9)), 0, recorder)
    assert all(math.isfinite(value) for value in found.values())
    for task in ("third order", "sine"):
        assert found[f"eval/slope/{task}/trapezoid"] == pytest.approx(-2.0, abs=0.01)
        assert found[f"eval/slope/{task}/Simpson"] == pytest.approx(-4.0, abs=0.05)
        assert found[f"eval/slope/{task}/IWP3"] == pytest.approx(-4.8, abs=0.2)
    assert found["eval/iterations/third order/trapezoid"] == 8
    assert found["eval/iterations/sine/Simpson"] == 3
    figures = tmp_path / "run" / "figures"
    for name in ("integral_rl_paper.png", "integral_rl_paper.csv", "integral_rl_paper_gain_and_cost.png"):
        assert (figures / name).stat().st_size > 100
    rows = list(csv.reader((figures / "integral_rl_paper_slopes.csv").open()))
    assert len(rows) == 1 + 2 * len(integral_rl_paper.SIX)


def test_a_stored_figure_of_the_paper_is_reproduced() -> None:
    assert reproduce("third order", NUGGET, 7) == pytest.approx(STORED["third order", "BQ"][NODES.index(7)], rel=2e-3)


def test_the_table_over_systems(tmp_path: Path) -> None:
    config = integral_rl_benchmarks.Config(
        systems=("F16ShortPeriod", "CubicDecay", "SaturatedInput"), nodes=(5, 9), starts=8, iterations=7
    )
    with RunFolder(tmp_path / "run", {"experiment": "integral_rl_benchmarks", "seed": 0}, silent=True) as recorder:
        found = integral_rl_benchmarks.run(config, 0, recorder)
    assert found["eval/value/F16ShortPeriod/IWP3"] < 1e-5 < found["eval/value/F16ShortPeriod/trapezoid"] < 2e-3
    assert found["eval/value/CubicDecay/IWP3"] == pytest.approx(found["eval/value/CubicDecay/Simpson"], rel=0.1)
    figures = tmp_path / "run" / "figures"
    assert (figures / "integral_rl_benchmarks.png").stat().st_size > 100
    rows = list(csv.DictReader((figures / "integral_rl_benchmarks_table.csv").open()))
    assert len(rows) == 3 * 2 * len(integral_rl_benchmarks.RULES)
    for row in rows:
        assert 0.0 < float(row["cost"]) < 1e-3
        if not math.isnan(float(row["bound"])) and not math.isnan(float(row["weights"])):
            assert float(row["weights"]) < float(row["bound"])
