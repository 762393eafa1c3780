"""The experiments that make data sets run in small, write what they say, and make the same again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rlcore.experiments import point_maze_data
from rlcore.interop.minari import read_minari
from rlcore.training.recorder import RunFolder

pytest.importorskip("minari")
pytest.importorskip("h5py")


def test_point_maze_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = replace(
        point_maze_data.PRESETS["quick"], steps=2000, paths=10, mazes=("umaze",), root=str(tmp_path / "sets")
    )
    found = point_maze_data.run(config, 3, RunFolder(tmp_path / "run"))
    assert (tmp_path / "run" / "figures" / "visits.png").stat().st_size > 10_000
    assert "point-maze/umaze-waypoint-2k-seed3-v0" in capsys.readouterr().out
    for kind in config.kinds:
        rows = read_minari(tmp_path / "sets" / f"point-maze/umaze-{kind}-2k-seed3-v0", discount_rate=1.005)
        assert found[f"umaze-{kind}/steps"] == len(rows) == 2000
        assert found[f"umaze-{kind}/episodes"] == int(rows.extras["last"].sum())
    assert point_maze_data.run(config, 3) == found
