"""`rlcore bench`: statistics of rounds, the peers' process, missing peers, what is written. No test asserts a time."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rlcore import cli
from rlcore.cli import bench
from rlcore.experiments.benchmark import ensemble, peer_process, pendulum, timing
from rlcore.experiments.benchmark.machine import Machine
from rlcore.experiments.benchmark.peer_process import MissingPeerError, Peer, PeerError, PeerProcess, compare
from rlcore.reporting.throughput import charts, draw

PNG = b"\x89PNG\r\n\x1a\n"


def test_a_table_has_medians_quartiles_and_paired_ratios() -> None:
    rates = {"ours": [10.0, 20.0, 30.0, 40.0, 50.0], "theirs": [5.0, 10.0, 15.0, 20.0, 25.0]}
    ours, theirs = timing.table(rates, "ours", batch=3)
    assert (ours["steps/s"], ours["lower quartile"], ours["upper quartile"]) == (30.0, 20.0, 40.0)
    assert (theirs["ratio"], theirs["ratio low"], theirs["ratio high"]) == (2.0, 2.0, 2.0)  # the drift is both's
    assert theirs["ours is"] == "2x [2, 2]"
    assert ours["batch"] == 3


def test_the_interval_of_a_ratio_covers_it_and_shrinks_with_rounds() -> None:
    noise = torch.randn(400, generator=torch.Generator().manual_seed(0)).mul(0.2).exp().mul(3.0).tolist()

    def width(rounds: int) -> float:
        middle, (low, high) = timing.ratio({"a": noise[:rounds], "b": [1.0] * rounds}, "a", "b")
        assert low <= middle <= high
        return high - low

    assert width(400) < 0.5 * width(20)
    low, high = timing.ratio({"a": noise, "b": [1.0] * 400}, "a", "b")[1]
    assert low < 3.0 < high


def test_a_round_repeats_until_it_has_lasted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(100))
    monkeypatch.setitem(timing.CLOCKS, "cpu", lambda: float(next(now)))
    assert timing.timed(lambda: 7, least=3.0)() == (21, 3.0)


def test_rounds_go_in_turn_after_a_warm_up() -> None:
    order = []

    def named(name: str) -> timing.Work:
        return lambda: order.append(name) or 1  # type: ignore[func-returns-value]

    peer = named("c")
    found = timing.interleave(
        {"a": named("a"), "b": named("b")}, peers={"c": lambda: timing.Timed(peer(), 0.5)}, rounds=2
    )
    assert order == list("abcabcabc")
    assert found["c"] == [2.0, 2.0]


def test_the_limit_is_the_narrower_of_memory_and_arithmetic() -> None:
    machine = Machine("a processor", 2, 24.0, "3.11", "", bandwidth=100.0, gemm=1000.0)
    assert machine.limit(moved=10.0) == 10.0
    assert machine.limit(moved=10.0, operations=500.0) == 2.0
    assert machine.limit() == math.inf


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    """A folder with the real worker and peers that are not there, fail, die, talk too much, or work."""
    (tmp_path / "worker.py").write_bytes(peer_process.WORKER.read_bytes())
    (tmp_path / "fake.py").write_text(
        "import os\n"
        "def work(steps):\n"
        "    print('hello')\n"
        "    return lambda: print('again') or steps\n"
        "def absent():\n"
        "    import no_such_library\n"
        "def failing():\n"
        "    raise ValueError('no luck')\n"
        "def dying():\n"
        "    os.write(2, b'last words\\n')\n"
        "    os._exit(3)\n"
        "WORKLOADS = {'work': work, 'absent': absent, 'failing': failing, 'dying': dying}\n"
        "CHECKS = {'twice': lambda x: [2 * v for v in x]}\n"
        "LIBRARIES = {'work': ('pip',)}\n"
    )
    return tmp_path / "worker.py"


def started(worker: Path) -> PeerProcess:
    return PeerProcess(sys.executable, worker)


def test_the_process_runs_workloads_whatever_they_print(fake: Path) -> None:
    with started(fake) as process:
        turn, key, versions = process.open(Peer("Fake", "fake", "work", {"steps": 5}), least=0.001)
        steps, seconds = turn()
        assert steps >= 5
        assert steps % 5 == 0
        assert seconds >= 0.001
        assert versions.startswith("pip ")
        process.ask(do="close", key=key)
        with pytest.raises(PeerError, match="KeyError"):
            turn()
        assert process.call("fake", "twice", x=[1.0, 2.5]) == [2.0, 5.0]
    assert process.process.returncode == 0


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("absent", MissingPeerError, "no_such_library.*make bench-peers"),
        ("failing", PeerError, "fake: ValueError: no luck"),
        ("dying", PeerError, "has ended: last words"),
        ("unknown", PeerError, "KeyError"),
    ],
)
def test_failures_are_told_apart(fake: Path, name: str, kind: type[Exception], message: str) -> None:
    with started(fake) as process, pytest.raises(kind, match=message):
        process.open(Peer("Fake", "fake", name, {}), least=0.0)


def test_a_missing_peer_is_a_row_with_a_remedy(fake: Path) -> None:
    peers = [Peer("Fake", "fake", "work", {"steps": 5}), Peer("Absent", "fake", "absent", {})]
    with started(fake) as process:
        ours, theirs, absent = compare(process, {"ours": lambda: 1}, peers, "ours", rounds=2, least=0.0, batch=4)
    assert (ours["workload"], theirs["workload"], absent["workload"]) == ("ours", "Fake", "Absent")
    assert theirs["versions"].startswith("pip ")
    assert "make bench-peers" in absent["note"]
    assert "steps/s" not in absent


@pytest.mark.parametrize("name", ["numpy", "gymnasium"])
def test_peers_move_as_ours(name: str) -> None:
    with PeerProcess(sys.executable) as process:
        assert pendulum.check(process, "pendulum", name) < 1e-4


def test_the_c_kernel_moves_as_ours() -> None:
    with PeerProcess(sys.executable) as process:
        try:
            assert pendulum.check(process, "pendulum", "c") < 1e-4
        except MissingPeerError as error:
            pytest.skip(str(error))


def test_the_modules_of_the_loop_are_the_ensemble() -> None:
    """From equal weights both go the same way."""
    together, owner = ensemble.ours(8, 3, compiled=False)
    one_by_one, members = ensemble.loop(8, 3, owner)
    assert together() == one_by_one() == 3
    x, _ = ensemble.data()
    with torch.no_grad():
        found = owner.critics(x.unsqueeze(0))[0]
        expected = torch.stack([member(x) for member in members])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


ROWS: list[dict[str, Any]] = [
    {"what": "a", "limit": 9e3, **row}
    for batch in (64, 1)
    for row in timing.table({"ours": [1e3 * batch, 2e3 * batch], "peer": [1e2, 3e2]}, "ours", batch=batch)
] + [{"what": "a", "workload": "absent", "batch": 1, "note": "not installed; make bench-peers"}]


def test_a_chart_goes_over_batches() -> None:
    (chart,) = charts(ROWS)
    ours, peer, limit = chart.lines
    assert (ours.label, list(ours.x), list(ours.y)) == ("ours", [1.0, 64.0], [1.5e3, 96e3])
    assert (peer.label, limit.label, limit.theory) == ("peer", "limit", True)
    assert not charts([{"benchmark": "b", "command": "x", "seconds": 1.0}])


def test_a_figure_is_a_picture(tmp_path: Path) -> None:
    assert draw(ROWS, tmp_path / "f.png")
    assert (tmp_path / "f.png").read_bytes().startswith(PNG)
    assert not draw([], tmp_path / "g.png")
    assert not (tmp_path / "g.png").exists()


@pytest.mark.parametrize("name", ["vector-env", "vector_env"])
def test_bench_writes_rows_machine_and_figure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    machine = Machine("a processor", 2, 24.0, "3.11", "torch 2", 1e10, 1e11)
    modules = {
        "rlcore.experiments.benchmark.vector_env": SimpleNamespace(measure=lambda: ROWS),
        "rlcore.experiments.benchmark.machine": SimpleNamespace(machine=lambda: machine),
    }
    monkeypatch.setattr(bench, "import_module", modules.__getitem__)
    assert cli.main(["bench", name, "--json", str(tmp_path / "r.json")]) == 0
    written = json.loads((tmp_path / "r.json").read_text())
    assert set(written) == {"date", "machine", "rows"}
    assert written["machine"]["gemm"] == 1e11
    needed = {"benchmark", "workload", "batch", "steps/s", "lower quartile", "upper quartile", "ratio", "ratio low",
              "ratio high", "rounds", "clock", "threads", "device", "load", "limit"}  # fmt: skip
    assert all(needed <= set(row) for row in written["rows"] if "note" not in row)
    assert {row["benchmark"] for row in written["rows"]} == {"vector-env"}
    assert (tmp_path / "r.png").read_bytes().startswith(PNG)
    shown = capsys.readouterr().out
    assert "absent: not installed; make bench-peers" in shown
    assert "a processor" in shown


def test_the_peers_import_nothing_of_ours() -> None:
    for path in peer_process.WORKER.parent.glob("*.py"):
        assert "import rlcore" not in path.read_text()
        assert "from rlcore" not in path.read_text()


def test_the_peers_are_pinned() -> None:
    root = Path(__file__).parents[2]
    pinned = {line.partition("==")[0] for line in (root / "constraints-peers.txt").read_text().splitlines()}
    (wanted,) = [line for line in (root / "Makefile").read_text().splitlines() if line.startswith("PEERS :=")]
    assert set(wanted.split()[2:]) <= pinned
