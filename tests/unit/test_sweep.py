"""A sweep: what its words mean, and that a cell whose worker dies is tried again."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from rlcore.cli import main
from rlcore.cli.sweep import Cell, cells_of, run_cells, seeds_of, sweep_command, table_of
from rlcore.errors import ConfigError, ProcessError, UnknownNameError


def test_seeds() -> None:
    assert seeds_of("0..4") == seeds_of("5") == [0, 1, 2, 3, 4]
    assert seeds_of("7..8") == [7, 8]
    for text in ("4..1", "a", "-1", "1.."):
        with pytest.raises(ConfigError, match="a range such as"):
            seeds_of(text)


def test_cells_are_all_combinations_and_are_checked_first(tmp_path: Path) -> None:
    cells = cells_of("ergodic_lq", "quick", ["rate=0.1,0.2", "paths=8"], [0, 1], tmp_path)
    assert [(dict(cell.settings)["rate"], cell.seed) for cell in cells] == [
        ("0.1", 0),
        ("0.1", 1),
        ("0.2", 0),
        ("0.2", 1),
    ]
    assert len({cell.folder for cell in cells}) == 4
    assert cells[0].words[:3] == ["run", "ergodic_lq", "quick"]
    Path(cells[0].folder).mkdir(parents=True)
    (Path(cells[0].folder) / "config.json").write_text("{}")
    assert cells[0].words == ["run", "--resume", cells[0].folder]
    with pytest.raises(ConfigError, match="rate"):
        cells_of("ergodic_lq", "quick", ["rate=fast"], [0], tmp_path)
    with pytest.raises(UnknownNameError, match="ergodic_lq"):
        cells_of("ergodic_lqq", "quick", [], [0], tmp_path)


def test_the_table_sums_up_over_seeds() -> None:
    cells = [Cell("e", "quick", (("rate", "1"),), k, "") for k in range(3)]
    (row,) = table_of(cells, [({"x": 1.0}, ""), ({"x": 3.0}, ""), ({}, "lost")])
    assert row["seeds"] == 2
    assert row["results"]["x"]["mean"] == 2.0


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9"])
def test_a_cluster_that_does_not_answer_is_said(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray", reason="needs the extra sweep")
    out = tmp_path / "sweep"
    assert main(["sweep", "ergodic_lq", "quick", "agents=q-learning", "--out", str(out), "--address", address]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"rlcore: error: no Ray cluster answers at {address}")
    assert not out.exists()


def test_a_port_that_says_nothing_is_said_within_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="needs the extra sweep")
    monkeypatch.setattr("rlcore.cli.sweep.ANSWER", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(ProcessError, match="takes connections and says nothing"):
            sweep_command(["ergodic_lq", "agents=q-learning", "--address", f"127.0.0.1:{silent.getsockname()[1]}"])


def die_once(cell: Cell) -> tuple[dict[str, float], str]:
    """Kills its own worker the first time."""
    mark = Path(cell.folder)
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"seed": float(cell.seed)}, ""


@pytest.mark.slow
def test_a_cell_whose_worker_is_killed_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="needs the extra sweep")
    import cloudpickle

    import rlcore.cli.sweep as module

    monkeypatch.setattr(module, "work", die_once)
    cloudpickle.register_pickle_by_value(__import__("sys").modules[__name__])
    cells = [Cell("e", "quick", (), k, str(tmp_path / f"mark-{k}")) for k in range(2)]
    assert run_cells(cells, None, 1.0, 0.0, 3) == [({"seed": 0.0}, ""), ({"seed": 1.0}, "")]


def die_in_training(cell: Cell) -> tuple[dict[str, float], str]:
    """The real work, but its worker is killed once a checkpoint is there."""
    import rlcore.training.recorder as recorder
    from rlcore.cli.sweep import work

    save, mark = recorder.RunFolder.save, Path(cell.folder + ".killed")

    def save_and_die(self: recorder.RunFolder, state: dict[str, Any]) -> None:
        save(self, state)
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    recorder.RunFolder.save = save_and_die  # type: ignore[method-assign]
    recorder.RunFolder.saver = lambda self, save: recorder.SaveCheckpoint(save, every=20, seconds=0.0)  # type: ignore
    return work(cell)


@pytest.mark.slow
def test_a_cell_whose_worker_is_killed_goes_on_from_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="needs the extra sweep")
    import cloudpickle

    import rlcore.cli.sweep as module

    (cell,) = cells_of("ergodic_lqr", "quick", ["seconds=5", "paths=8"], [3], tmp_path / "sweep")
    expected = module.work(cell._replace(folder=str(tmp_path / "alone")))
    assert not expected[1]
    monkeypatch.setattr(module, "work", die_in_training)
    cloudpickle.register_pickle_by_value(__import__("sys").modules[__name__])
    (found,) = run_cells([cell], None, 1.0, 0.0, 3)
    assert Path(cell.folder + ".killed").exists()
    assert found == expected  # bit for bit
