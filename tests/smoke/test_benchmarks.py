"""Benchmarks in miniature: both sides compute the same, and what is timed does arrive."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable

import pytest
import torch

from rlcore.experiments.benchmark import (
    cal_ql,
    clstd,
    martingale_updates,
    nash,
    nash_language,
    pieces,
    q_learning,
    quadrature,
    runge_kutta,
    sac,
    wsrl,
)
from rlcore.experiments.benchmark.machine import Machine
from rlcore.experiments.benchmark.module_lists import ModuleListCalQl, ModuleListWsrl
from rlcore.experiments.benchmark.peer_process import MissingPeerError, PeerProcess
from rlcore.experiments.benchmark.timing import Work
from rlcore.functional.returns import traced_sum
from rlcore.simulation import Feedback, begin, rollout


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
    rows = quadrature.measure(nodes=[200], windows=[100], rounds=1)
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


@pytest.mark.parametrize("make", [kind[1] for kind in martingale_updates.KINDS], ids=lambda make: make.__name__)
def test_the_updates_that_are_timed_go_on(make: Callable[[int, bool], Work]) -> None:
    work = make(8, False)
    assert [work() > 0 for _ in range(3)] == [True] * 3


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
    rows = nash.measure(games=[40], actions=6, large=2000, rounds=1)
    assert all(row["steps/s"] > 0.0 for row in rows)
    reached = [float(row["largest KL"]) for row in rows if "largest KL" in row]
    assert len(reached) == 4
    assert max(reached) <= 1.1 * nash.TOLERANCE


@pytest.mark.parametrize("piece", pieces.PIECES, ids=lambda piece: piece.what.split(",")[0])
def test_pieces_run_beside_their_peers(monkeypatch: pytest.MonkeyPatch, piece: pieces.Piece) -> None:
    monkeypatch.setattr(pieces, "machine", lambda: Machine("", 1, 1.0, "", "", bandwidth=1e10, gemm=1e11))
    monkeypatch.setattr(pieces, "STORED", 500)
    rows = pieces.rows(piece, 16, 1, compiled=False)
    replayed = piece.what.startswith("draws from a replay")  # whose quickest way stands first
    assert rows[0]["workload"] == ("rlcore, 16 batches at once" if replayed else "rlcore")
    assert len(rows) >= 2
    assert all(row["steps/s"] > 0.0 and row["limit"] > 0.0 for row in rows)


def test_the_loop_over_steps_finds_the_same_advantages() -> None:
    delta = torch.randn(pieces.STEPS, 3, generator=torch.Generator().manual_seed(0))
    discount, dt, last = torch.full_like(delta, 0.99), torch.full_like(delta, 0.05), delta > 1.0
    expected = pieces.loop(delta, discount, last, math.exp(-0.05 / 0.4), torch.zeros_like)
    torch.testing.assert_close(traced_sum(delta, discount, dt, last, 0.4), expected)


def test_runge_kutta_keeps_the_energy_and_is_that_of_the_peer() -> None:
    """theta'^2 / 2 + 15 cos(theta) to the order of the rule, and the peer's states if it is installed."""
    start = begin(runge_kutta.Free(), 32, seed=0)
    (angle, speed), (last_angle, last_speed) = (
        x.unbind(1)
        for x in (
            start.env.x,
            rollout(runge_kutta.Free(), Feedback(lambda x: 0.0 * x[:, :1]), start, runge_kutta.STEPS)[1].env.x,
        )
    )
    before, after = (
        w**2 / 2 + runge_kutta.PULL * torch.cos(th) for th, w in ((angle, speed), (last_angle, last_speed))
    )
    assert float((angle - last_angle).abs().max()) > 1.0
    torch.testing.assert_close(after, before, rtol=0.0, atol=0.02)
    with PeerProcess() as process:
        try:
            assert runge_kutta.check(process) < runge_kutta.SAME
        except MissingPeerError:
            pytest.skip("torchdiffeq is not installed")
