"""A run killed at any moment and resumed ends with the same bits as an undisturbed one."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from rlcore.errors import CheckpointError
from rlcore.training import Agent, Phase, run
from rlcore.training.checkpoint import read_state

SCRIPT = Path(__file__).with_name("toy_run.py")


def load_toy() -> ModuleType:
    spec = importlib.util.spec_from_file_location("toy_run", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["toy_run"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


toy = load_toy()


def record(folder: Path) -> list[str]:
    lines = (folder / "metrics.csv").read_text().splitlines()
    return [line for line in lines if "time/fps" not in line and "time/wall" not in line]


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def final_state(folder: Path) -> dict[str, Any]:
    state = read_state(folder / "checkpoints" / "latest.pt")
    return {key: value for key, value in state.items() if key != "metrics_bytes"}  # wall times differ in length


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    toy.go(folder, toy.Config(pause=1e-3), 3, resume=False)
    return folder


def test_killed_and_resumed_is_bit_equal(undisturbed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = [sys.executable, str(SCRIPT), str(folder), "7", "0"]  # kills, seed of their moments
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.stdout.count("killed after a checkpoint") >= 2, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "exit 0", done.stdout + done.stderr
    assert record(folder) == record(undisturbed)
    assert same(final_state(folder), final_state(undisturbed))
    assert (folder / "result.json").read_text() == (undisturbed / "result.json").read_text()


def test_recording_and_evaluation_change_nothing(undisturbed: Path) -> None:
    torch.manual_seed(3)
    silent = toy.run(toy.Config(), 3)
    assert silent["weights"] == toy.go(undisturbed, toy.Config(pause=1e-3), 3, resume=True)["weights"]
    torch.manual_seed(3)
    streams = toy.Streams(3)
    agent, rows = toy.Toy(toy.Config(), streams), toy.Rows()
    replay = toy.ReplaySource(toy.ReplayBuffer(100), 8, generator=streams["replay"], feed=rows, draws_per_feed=3)
    run(agent, [Phase("a", rows, 20, agent.update), Phase("b", replay, 300, agent.update)])
    assert sum(float(p.detach().double().sum()) for p in agent.parameters()) == silent["weights"]
    assert isinstance(agent, Agent)


def test_resume_of_a_finished_run_leaves_its_record(undisturbed: Path) -> None:
    before = (undisturbed / "metrics.csv").read_bytes()
    toy.go(undisturbed, toy.Config(pause=1e-3), 3, resume=True)
    assert (undisturbed / "metrics.csv").read_bytes() == before


def test_resume_with_another_config_names_the_field(undisturbed: Path) -> None:
    files = {path: path.read_bytes() for path in undisturbed.rglob("*") if path.is_file()}
    other = toy.Config(agent=toy.Nested(lr=0.5), pause=1e-3)
    with pytest.raises(CheckpointError, match=r"agent\.lr = 0\.01, this run has 0\.5"):
        toy.go(undisturbed, other, 3, resume=True)
    assert files == {path: path.read_bytes() for path in undisturbed.rglob("*") if path.is_file()}
