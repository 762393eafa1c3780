"""Runs of several processes: continued with another number of them, ended by a lost one, refused when they differ."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import rlcore
from rlcore.training.checkpoint import read_state

HERE = Path(__file__).parent


def environment(rank: int, size: int, port: int = 0) -> dict[str, str]:
    told = {"RANK": rank, "WORLD_SIZE": size, "RLCORE_TIMEOUT": 60, "OMP_NUM_THREADS": 1, "MASTER_PORT": port}
    return os.environ | {name: str(value) for name, value in told.items()} | {"MASTER_ADDR": "127.0.0.1"}


def free_port() -> int:
    with socket.socket() as box:
        box.bind(("127.0.0.1", 0))
        return int(box.getsockname()[1])


def start(folder: Path, rank: int, port: int, *settings: str) -> subprocess.Popen[str]:
    """One of two processes of a run that would go on for hours."""
    words = [sys.executable, "-m", "rlcore", "run", "ergodic_lq", "quick", "--agents", "q-learning"]
    return subprocess.Popen(
        [*words, "--seconds", "1e6", "--paths", "8", "--out", str(folder), *settings],
        env=environment(rank, 2, port),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        cwd=folder.parent,
    )


def test_a_run_goes_on_with_another_number_of_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))
    import interrupted

    def two(name: str, stop: int) -> list[subprocess.Popen[bytes]]:
        words = [sys.executable, str(HERE / "interrupted.py"), str(tmp_path / "run"), str(tmp_path / name), str(stop)]
        processes = [subprocess.Popen(words, env=environment(rank, 2)) for rank in range(2)]
        assert [process.wait(60) for process in processes] == [0, 0]
        return processes

    two("first", 2)
    stored = read_state(tmp_path / "run" / "checkpoints" / "latest.pt")
    assert len(stored["sources"]) == 2
    assert stored["sources"][1][1]["x"].shape == (4, 2)
    assert interrupted.part(tmp_path / "run", 4, resume=True) is None
    stored = read_state(tmp_path / "run" / "checkpoints" / "latest.pt")
    assert len(stored["sources"]) == 1
    assert stored["sources"][0][1]["x"].shape == (8, 2)
    assert stored["sources"][0][0]["buffer"]["size"] == 16
    two("last", 0)
    for rank in range(2):
        found = torch.load(tmp_path / f"last-{rank}.pt")
        for ours, expected in zip(found, interrupted.alone(), strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)


def test_a_lost_process_ends_the_run_with_a_message(tmp_path: Path) -> None:
    port = free_port()
    processes = [start(tmp_path / "run", rank, port) for rank in range(2)]
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("run/**/metrics.csv")) and time.monotonic() < deadline:
        time.sleep(0.1)
    processes[1].send_signal(signal.SIGKILL)
    _, told = processes[0].communicate(timeout=60)
    processes[1].wait(10)
    line = told.strip().splitlines()[-1]
    assert processes[0].returncode == 2
    assert line.startswith("rlcore: error in process 0: process 1 of 2 was lost")
    assert "nothing was saved yet, run it anew" in line


def test_different_settings_are_said_at_the_start(tmp_path: Path) -> None:
    port = free_port()
    processes = [start(tmp_path / "run", rank, port, "--rate", f"0.{rank + 1}") for rank in range(2)]
    told = [process.communicate(timeout=60)[1].strip().splitlines()[-1] for process in processes]
    assert [process.returncode for process in processes] == [2, 2]
    assert all("the setting config.rate is 0.1 in process 0 and 0.2 in process 1" in line for line in told)
    assert not (tmp_path / "run").exists()


def test_the_package_runs_as_a_module() -> None:
    words = [sys.executable, "-m", "rlcore", "--version"]
    assert subprocess.run(words, capture_output=True, text=True).stdout.strip() == rlcore.__version__
