"""The model of cost by size and by processes, and that crews of processes share out what they are asked to do."""

from __future__ import annotations

import math

import pytest

from rlcore.errors import ProcessError
from rlcore.experiments.benchmark import scaling
from rlcore.experiments.benchmark.crew import Crew, Round
from rlcore.experiments.benchmark.scaling_model import Cost, Exchange, among, fitted, stops_at


def test_a_linear_cost_is_found_again() -> None:
    true = Cost(3e-3, 2e-6)
    found = fitted([10, 100, 5000], [true.seconds(n) for n in (10, 100, 5000)])
    assert found == pytest.approx(true, rel=1e-9)
    assert found.pays_from == pytest.approx(1500.0)
    assert found.seconds(1500) == pytest.approx(2.0 * found.fixed)  # half for the call, half for the pieces


def test_costs_are_never_negative() -> None:
    falling = fitted([1, 10], [1.0, 0.5])
    assert falling.fixed > 0.0
    assert falling.each == 0.0
    assert falling.pays_from == math.inf


@pytest.mark.parametrize("processes", [2, 4])
def test_a_ring_is_found_again(processes: int) -> None:
    true = Exchange(2e-4, 3e-3)
    small, whole = Exchange(true.latency, 0.0).seconds(processes), true.seconds(processes)
    assert Exchange.measured(small, whole, processes) == pytest.approx(true)
    assert true.seconds(1) == 0.0


def test_processes_are_used_half_until_the_fixed_cost_is_the_share() -> None:
    cost = Cost(1.0, 1.0)
    assert among(cost, 6.0, 3) == 3.0
    assert stops_at(cost, 6.0) == 6  # no more processes than paths
    assert stops_at(cost._replace(each=0.1), 60.0) == 8  # T(1) = 7, 8 T(8) = 8 + 6 = 14
    assert stops_at(cost._replace(each=0.1), 60.0, exchanges=1, exchange=Exchange(0.5, 0.0)) == 2  # 3 T(3) = 3 + 6 + 6


def test_gains_are_of_the_same_round() -> None:
    told = {
        1: [Round(100, 1.0, 0.5), Round(100, 2.0, 0.5)],
        2: [Round(100, 0.5, 0.25), Round(100, 1.0, 0.25)],
    }
    one, two, *by_cpu = scaling.rows_of("w", told, 1.8, 64)
    assert [(row["batch"], row["steps/s"]) for row in by_cpu] == [(1, 200.0), (2, 400.0)]
    assert (two["ratio"], two["by cpu"], two["target"], two["batch"]) == (2.0, 2.0, 1.8, 2)
    assert one["ratio"] == 1.0
    assert "target" not in one


def test_rows_of_an_axis_have_a_model_beside_them() -> None:
    cost, rows = scaling.axis("w", "paths", {n: lambda n=n: sum(range(2000 * n)) and n for n in (1, 4)}, rounds=1)
    assert [(row["batch"], row["workload"]) for row in rows] == [
        (1, "measured"), (1, "model"), (4, "measured"), (4, "model"),
    ]  # fmt: skip
    assert cost.each > 0.0
    assert all(row["steps/s"] > 0.0 for row in rows)


@pytest.mark.slow
def test_crews_share_out_the_work() -> None:
    with Crew(1) as one, Crew(2) as two:
        for crew in (one, two):
            told = crew.do("rollouts", 2, paths=8, steps=4, mode="eager")
            assert told.steps == 64
            assert told.wall > 0.0
        assert two.do("exchange", floats=3).steps == 16
        with pytest.raises(ProcessError, match="must be a multiple of the 2 processes, got 3"):
            two.do("rollouts", paths=3, steps=4, mode="eager")


@pytest.mark.slow
def test_a_small_table_of_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "LEAST", 0.01)
    rows = scaling.measure(1, compiled=False, paths=64)
    assert {row.get("axis") for row in rows} == {"paths", "steps", "states", "critics", "processes", None}
    assert {row["batch"] for row in rows if row.get("axis") == "processes"} == set(scaling.MODELLED)
