"""Benchmarks in miniature: both sides compute the same, and what is timed does arrive."""

from __future__ import annotations

import math
import shutil

import pytest
import torch

from rlcore.experiments.benchmark import cal_ql, clstd, nash, nash_language, q_learning, quadrature, sac, wsrl
from rlcore.experiments.benchmark.module_lists import ModuleListCalQl, ModuleListWsrl


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


RATES = {
    "online": lambda: wsrl.online_rates(8, rounds=1, compiled=False),
    "offline, ten critics": lambda: wsrl.offline_rates(8, rounds=1),
    "offline, two critics": lambda: wsrl.two_critic_rates(8, rounds=1, compiled=False),
    "seeds": lambda: wsrl.seed_rates(8, 2, rounds=1, compiled=False),
    "soft actor-critic": lambda: sac.rates(8, updates=1, rounds=1, compiled=False),
}


@pytest.mark.parametrize("name", RATES)
def test_both_sides_of_an_off_policy_benchmark_run(name: str) -> None:
    found = RATES[name]()
    assert len(found) == 2
    assert all(len(rates) == 1 and rates[0] > 0.0 for rates in found.values())


@pytest.mark.parametrize("published", [ModuleListWsrl, ModuleListCalQl])
def test_lists_of_modules_do_learn(published: type[ModuleListWsrl]) -> None:
    """On rows that end, Q goes to the reward; the policy and the slow critics move too."""
    torch.manual_seed(0)
    rows = wsrl.random_rows(1024)
    rows = rows.replace(discount=torch.zeros_like(rows.discount))
    learner = published(wsrl.OBSERVATIONS, wsrl.ACTIONS, 16, critics=2)
    for optimizer in learner.adam.values():
        optimizer.param_groups[0]["lr"] = 1e-2
    before = [x.clone() for x in (*learner.targets.parameters(), *learner.actor.parameters())]

    def error() -> float:
        with torch.no_grad():
            return float((learner.q(learner.critics, rows.obs, rows.action) - rows.reward).square().mean())

    first = error()
    for _ in range(30):
        learner.update(rows)
    assert math.isfinite(error())
    assert published is ModuleListCalQl or error() < 0.3 * first
    moved = zip(before, (*learner.targets.parameters(), *learner.actor.parameters()), strict=True)
    assert not any(torch.equal(old, new) for old, new in moved)


def test_a_peer_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cal_ql, "find_spec", lambda name: None)
    (row,) = cal_ql.measure()
    assert "d3rlpy" in row["note"]


def test_both_sides_of_cal_ql_train_and_act() -> None:
    pytest.importorskip("d3rlpy")
    found = cal_ql.trained(2, 1, width=8, rows=16, episodes=2)
    assert set(found) == {"rlcore", "d3rlpy"}
    assert all(0.0 <= share <= 1.0 for shares in found.values() for share in shares)


def test_texts_with_caches_are_those_without() -> None:
    pytest.importorskip("transformers")
    rows = nash_language.measure(sizes=((2, 4),), rounds=1, width=16, layers=1)
    assert {row["same tokens"] for row in rows if "cache" in row["workload"]} == {"1.0000"}
    assert all(row["tokens/CPU-s"] > 0.0 for row in rows)


def test_games_are_solved_side_by_side_and_one_by_one() -> None:
    rows = nash.measure(games=40, actions=6, large=2000, rounds=1)
    assert all(row["steps/s"] > 0.0 for row in rows)
    reached = [float(row["largest KL"]) for row in rows if "largest KL" in row]
    assert len(reached) == 4
    assert max(reached) <= 1.1 * nash.TOLERANCE
