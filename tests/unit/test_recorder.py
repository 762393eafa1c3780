"""Run folders: what they hold, what they refuse, and the callbacks around the loop."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rlcore.errors import CheckpointError, ConfigError, FolderError, NumericsError
from rlcore.training import Agent, Phase, Source, Tick
from rlcore.training.callbacks import Every, Progress, StopWhen
from rlcore.training.files import check_same, plain
from rlcore.training.recorder import SILENT, Recorder, RunFolder


@dataclass(frozen=True)
class Config:
    rate: float = 0.1
    shape: tuple[int, ...] = (1, 2)


class Counter(Source[int]):
    def next(self, policy: object) -> int:
        self.count(10, 1.0)
        return self.steps


class Still(Agent[int]):
    def __init__(self, bad_from: int = 1 << 30) -> None:
        super().__init__()
        self.bad_from = bad_from
        self.register_buffer("seen", torch.zeros(()))

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        return obs

    def update(self, batch: int) -> Mapping[str, float]:
        self.seen += 1.0
        return {"train/steps": math.nan if batch >= self.bad_from else float(batch)}


def train(recorder: Recorder, agent: Still | None = None, iterations: int = 10, **more: object) -> dict[str, float]:
    agent = agent or Still()
    return recorder.train(agent, [Phase("p", Counter(), iterations, agent.update)], log_every=4, **more)  # type: ignore[arg-type]


def test_a_run_folder_holds_everything(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run", Config(), silent=True) as recorder:
        recorder.hparams({"rate": 0.1})
        result = recorder.finish(train(recorder, evaluate=lambda: {"eval/return": 2.0}, evaluate_every=5))
        recorder.figure_path("curve.png").write_bytes(b"")
    assert result == {"train/steps": 100.0, "eval/return": 2.0}
    assert json.loads((tmp_path / "run/config.json").read_text()) == {"rate": 0.1, "shape": [1, 2]}
    assert "torch" in json.loads((tmp_path / "run/versions.json").read_text())
    assert json.loads((tmp_path / "run/result.json").read_text()) == result
    rows = [line.split(",") for line in (tmp_path / "run/metrics.csv").read_text().splitlines()]
    assert [row[0] for row in rows if row[2] == "train/steps"] == ["40", "80", "100"]
    assert [row[:2] for row in rows if row[2] == "eval/return"] == [["50", "5.0"], ["100", "10.0"]]
    assert list((tmp_path / "run").glob("events.*"))
    assert (tmp_path / "run/checkpoints/latest.pt").exists()


def test_the_silent_recorder_gives_the_same_result() -> None:
    assert train(SILENT, evaluate=lambda: {"eval/return": 2.0}) == {"train/steps": 100.0, "eval/return": 2.0}
    assert SILENT.figure_path("x") is None


def test_nothing_is_created_before_there_is_something_to_record(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run", Config()).child("part").close()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("below", ["file/run", "file"])
def test_an_unwritable_folder_is_refused(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match="not a writable folder"):
        RunFolder(tmp_path / below, Config())


def test_an_occupied_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(FolderError, match="not empty"):
        RunFolder(tmp_path, Config())
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_one_recorder_trains_once(tmp_path: Path) -> None:
    recorder = RunFolder(tmp_path / "run", Config(), silent=True)
    train(recorder)
    with pytest.raises(ConfigError, match="child"):
        train(recorder)
    assert train(recorder.child("second")) == {"train/steps": 100.0}


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    train(RunFolder(tmp_path / "run", Config(), silent=True))
    agent = Still()
    again = RunFolder(tmp_path / "run", Config(), silent=True, resume=True)
    assert train(again, agent) == {"train/steps": 100.0}
    assert agent.seen == 10.0


def test_other_phases_are_refused(tmp_path: Path) -> None:
    train(RunFolder(tmp_path / "run", Config(), silent=True))
    with pytest.raises(CheckpointError, match="phases"):
        train(RunFolder(tmp_path / "run", Config(), silent=True, resume=True), iterations=11)


def test_resume_needs_a_run(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no run to resume"):
        RunFolder(tmp_path, Config(), resume=True)


def test_not_finite_stops_with_iteration_and_quantity(tmp_path: Path) -> None:
    recorder = RunFolder(tmp_path / "run", Config(), silent=True, checkpoint_every=1)
    with pytest.raises(NumericsError, match=r"train/steps became nan at iteration 7 of 10"):
        train(recorder, Still(bad_from=70))


def test_a_callback_stops_the_run_and_the_end_is_recorded(tmp_path: Path) -> None:
    seen: list[int] = []
    stop = StopWhen(lambda tick: tick.iteration == 6)
    recorder = RunFolder(tmp_path / "run", Config(), silent=True)
    result = train(
        recorder,
        evaluate=lambda: {"eval/return": 1.0},
        callbacks=[stop, Every(4, lambda tick: seen.append(tick.iteration))],
    )
    assert result == {"train/steps": 60.0, "eval/return": 1.0}
    assert seen == [4]
    assert "60,6.0,eval/return" in (tmp_path / "run/metrics.csv").read_text()


def test_progress_prints_plain_lines_when_piped() -> None:
    file = io.StringIO()
    progress = Progress("toy", "eval/return", values=lambda: {"eval/return": 0.5}, seconds=0.0, file=file)
    train(SILENT, callbacks=[lambda tick: progress(tick)])
    lines = file.getvalue().splitlines()
    assert len(lines) == 10
    assert lines[-1].startswith("toy 10/10, done in ")
    assert "steps/s" in lines[-1]
    assert lines[-1].endswith("eval/return 0.5")


def test_progress_draws_a_bar_on_a_terminal() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    file = Terminal()
    progress = Progress("toy", "train/steps", file=file)

    def callback(tick: Tick) -> None:
        progress(tick)

    train(SILENT, callbacks=[callback])
    assert "10/10" in file.getvalue()
    assert progress.bar is None


def test_evaluation_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    train(SILENT, evaluate=lambda: {"eval/x": float(torch.rand(()))}, evaluate_every=1)
    assert torch.equal(torch.rand(3), expected)


def test_plain_is_strict_json() -> None:
    assert json.dumps(plain({"a": math.inf, "b": Path("x"), "c": (1, True, None), "d": torch.float32}), allow_nan=False)


def test_check_same_names_the_first_difference() -> None:
    check_same({"a": {"b": [1]}}, {"a": {"b": [1]}}, Path("x"))
    with pytest.raises(CheckpointError, match=r"a\.b = 1, this run has 'nothing'"):
        check_same({"a": {"b": 1}}, {"a": {}}, Path("x"))
