"""The experiments that make data sets run in small, write what they say, and make the same again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlcore.data import lengths
from rlcore.errors import NumericsError, RlcoreError
from rlcore.experiments import locomotion_data, point_maze_data, runner_history
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


@pytest.fixture
def robotics() -> None:
    pytest.importorskip("mujoco")
    pytest.importorskip("imageio")


SMALL = replace(locomotion_data.PRESETS["quick"], steps=600, training_steps=260, warm_up=200, evaluate_every=130)


@pytest.mark.usefixtures("robotics")
def test_random_runners(tmp_path: Path) -> None:
    config = replace(SMALL, robots=("HalfCheetah", "Hopper", "Walker2d"), kinds=("random",), root=str(tmp_path))
    found = locomotion_data.run(config, 0)
    for robot, (d, m) in {"HalfCheetah": (17, 6), "Hopper": (11, 3), "Walker2d": (17, 6)}.items():
        rows = read_minari(tmp_path / f"locomotion/{robot.lower()}-random-600-seed0-v0", discount_rate=0.1)
        assert (len(rows), rows.obs.shape[1], rows.action.shape[1]) == (600, d, m)
        assert float(rows.action.abs().mean()) == pytest.approx(0.5, abs=0.03), "uniform in [-1, 1]"
        assert found[f"{robot}-random/terminated"] == (0.0 if robot == "HalfCheetah" else pytest.approx(0.9, abs=0.1))
    assert locomotion_data.run(config, 0) == found, "the same again, bit for bit, or the folders were refused"


@pytest.mark.usefixtures("robotics")
def test_learned_runners(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kind is what it says, whatever little the policies learned: the returns are given here."""
    returns = iter([1.0, 2.0, 5.0, 6.0])  # random, then three moments of the run
    for module in (runner_history, locomotion_data):
        monkeypatch.setattr(module, "earned", lambda *_: next(returns))
    made = locomotion_data.generate("Hopper", SMALL, seed=1)
    assert (made.low, made.high) == (1.0, 5.0)
    assert set(made.rows) == set(SMALL.kinds)
    for kind, rows in made.rows.items():
        assert sum(lengths(rows)) == len(rows) == (260 if kind == "medium-replay" else 600)


@pytest.mark.usefixtures("robotics")
def test_a_run_that_learned_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (runner_history, locomotion_data):
        monkeypatch.setattr(module, "earned", lambda *_: 1.0)
    with pytest.raises(NumericsError, match="train longer"):
        locomotion_data.generate("Hopper", SMALL, seed=1)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"robots": ("Hoper",)}, "did you mean 'Hopper'"),
        ({"kinds": ("expertise",)}, "did you mean 'expert'"),
        ({"steps": 0}, "steps >= copies"),
        ({"warm_up": 10_000}, "warm_up < training_steps"),
        ({"medium_share": 1.0}, "between 0 and 1"),
    ],
)
def test_bad_settings_of_runners(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(RlcoreError, match=message):
        locomotion_data.run(replace(SMALL, **setting), 0)
