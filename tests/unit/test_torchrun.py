"""The command line under torchrun: every family of agents, a killed process and the resume after it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
SMALL = [*("--paths", "4", "--seconds", "1.6", "--replay.updates", "4", "--replay.rows", "32", "--hidden", "8")]
RUNS = {
    "q-learning": ["ergodic_lqr", "quick", "--seconds", "2", "--paths", "8"],
    "PPO and ORPO": ["orpo_tomato", "quick", "--paths", "4", "--iterations", "2", "--base_paths", "8", "--r", "0.5"],
    "soft actor-critic": ["deep_control", "quick", *SMALL, "--evaluations", "1"],
}


def start(words: list[str], size: int, folder: Path) -> subprocess.Popen[str]:
    """`rlcore` in so many processes; output and errors together."""
    return subprocess.Popen(
        [*TORCHRUN, f"--nproc-per-node={size}", "-m", "--", "rlcore", *words],
        env=os.environ | {"OMP_NUM_THREADS": "1", "RLCORE_TIMEOUT": "120"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
    )


def result(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "seed-0" / "result.json").read_text())
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_torchrun_trains_every_family(name: str, tmp_path: Path) -> None:
    done = start(["run", *RUNS[name], "--out", "two"], 2, tmp_path)
    told, _ = done.communicate(timeout=280)
    assert done.returncode == 0, told
    assert told.count("TensorBoard:") == 1  # the first process reports, the other is silent
    assert result(tmp_path / "two")


@pytest.mark.slow
def test_two_processes_find_what_one_does(tmp_path: Path) -> None:
    for size in (1, 2):
        done = start(["run", *RUNS["q-learning"], "--out", f"of-{size}"], size, tmp_path)
        told, _ = done.communicate(timeout=200)
        assert done.returncode == 0, told
    one, two = (result(tmp_path / f"of-{size}") for size in (1, 2))
    assert set(one) == set(two)
    for tag in (tag for tag in one if not tag.endswith("_sd")):  # a standard deviation is no mean over shares
        assert two[tag] == pytest.approx(one[tag], rel=1e-3), tag


CHECKPOINTED = """
import sys
from rlcore.training.recorder import RunFolder, SaveCheckpoint
from rlcore.cli import main
RunFolder.saver = lambda self, save: SaveCheckpoint(save, every=5, seconds=0.0)
sys.exit(main(sys.argv[1:]))
"""
"""`rlcore` with a checkpoint every five updates, where a run of hours has one every half minute."""


@pytest.mark.slow
def test_a_killed_process_is_named_and_one_process_goes_on_from_the_checkpoint(tmp_path: Path) -> None:
    script = tmp_path / "often.py"
    script.write_text(CHECKPOINTED)
    words = ["run", "ergodic_lqr", "quick", "--paths", "64", "--seconds", "60", "--out", "run"]
    launcher = subprocess.Popen(
        [*TORCHRUN, "--nproc-per-node=2", str(script), *words],
        env=os.environ | {"OMP_NUM_THREADS": "1", "RLCORE_TIMEOUT": "60"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tmp_path,
    )
    deadline = time.monotonic() + 100
    while not list(tmp_path.glob("run/**/latest.pt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(member(launcher.pid, rank=1), signal.SIGKILL)
    told, _ = launcher.communicate(timeout=100)
    assert launcher.returncode != 0
    (line,) = re.findall(r"rlcore: error in process 0: .*", told)
    assert "process 1 of 2 was lost" in line or "the launcher stopped this process" in line  # whichever came first
    assert "continue with: rlcore run --resume run (with any number of processes)" in line
    assert not (tmp_path / "run" / "seed-0" / "result.json").exists()
    done = start(["run", "--resume", "run"], 1, tmp_path)
    told, _ = done.communicate(timeout=200)
    assert done.returncode == 0, told
    whole = start([*words[:-1], "whole"], 1, tmp_path)
    assert whole.wait(200) == 0
    assert result(tmp_path / "run") == pytest.approx(result(tmp_path / "whole"), rel=1e-2)


def member(launcher: int, rank: int) -> int:
    """The process of a rank that this launcher started."""
    for children in Path(f"/proc/{launcher}/task").glob("*/children"):
        for child in children.read_text().split():
            if f"\0RANK={rank}\0" in "\0" + Path(f"/proc/{child}/environ").read_text():
                return int(child)
    raise ProcessLookupError(f"launcher {launcher} has no process of rank {rank}")
