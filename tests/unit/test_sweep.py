"""A sweep: what its words mean, and that a cell whose worker dies is tried again."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

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


def test_a_cluster_that_does_not_answer_is_said() -> None:
    pytest.importorskip("ray", reason="needs the extra sweep")
    with pytest.raises(ProcessError, match="no Ray cluster answers at 127"):
        sweep_command(["ergodic_lq", "quick", "agents=q-learning", "--address", "127.0.0.1:9"])


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
