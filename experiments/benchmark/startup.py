"""Start-up: imports and `rlcore list` beside torch's own import; the first compiled rollout, cold and warm."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import rlcore": ["-c", "import rlcore"],
    "import rlcore.envs": ["-c", "import rlcore.envs"],
    "rlcore list": ["-c", "import sys, rlcore.cli; sys.exit(rlcore.cli.main(['list']))"],
    "import torch": ["-c", "import torch"],
    "import torch, rlcore.training": ["-c", "import torch, rlcore.training"],
}
FIRST = """
from rlcore.envs import make
from rlcore.simulation import UniformPolicy, begin, rollout_with_reset
env = make("rlcore/Pendulum-v0")
rollout_with_reset(env, UniformPolicy(-2.0, 2.0, noise_dim=1), begin(env, 1024, seed=0), 32, mode="MODE")
"""
"""A rollout with random torques, from the start of Python to its end."""
TARGETS = {"first compiled rollout, nothing on disk": 20.0, "first compiled rollout, code on disk": 6.0}
"""Seconds."""


class Spent(NamedTuple):
    """Seconds of one process and those that it started."""

    wall: float
    cpu: float


def once(arguments: list[str], environment: Mapping[str, str] | None = None) -> Spent:
    """Run Python with these arguments."""

    def used() -> float:
        told = resource.getrusage(resource.RUSAGE_CHILDREN)
        return told.ru_utime + told.ru_stime

    wall, cpu = time.perf_counter(), used()
    subprocess.run(
        [sys.executable, *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    return Spent(time.perf_counter() - wall, used() - cpu)


def row(name: str, spent: list[Spent]) -> dict[str, Any]:
    """Medians, and the range of the wall."""
    walls = [one.wall for one in spent]
    told = {"command": name, "seconds": statistics.median(walls), "lowest": min(walls), "highest": max(walls)}
    told |= {"cpu seconds": statistics.median(one.cpu for one in spent), "rounds": len(spent)}
    return told | ({"target": TARGETS[name]} if name in TARGETS else {})


def in_turn(calls: Mapping[str, Callable[[], Spent]], rounds: int) -> list[dict[str, Any]]:
    """Each of them once that does not count, then in turn."""
    for call in calls.values():
        call()
    found = [{name: call() for name, call in calls.items()} for _ in range(rounds)]
    return [row(name, [one[name] for one in found]) for name in calls]


def first_rollouts(rounds: int) -> list[dict[str, Any]]:
    """An eager one, a compiled one with the code of an earlier process, and one with an empty folder for it each.

    The rounds are few: a compiled one takes tens of seconds where the machine is busy.
    """
    script = {mode: ["-c", FIRST.replace("MODE", mode)] for mode in ("eager", "compiled")}
    with tempfile.TemporaryDirectory() as folder:

        def with_code(place: str) -> Spent:
            return once(script["compiled"], os.environ | {"TORCHINDUCTOR_CACHE_DIR": place})

        def cold() -> Spent:
            with tempfile.TemporaryDirectory() as empty:
                return with_code(empty)

        there, not_there = reversed(TARGETS)
        calls = {"first eager rollout": lambda: once(script["eager"]), there: lambda: with_code(folder)}
        found = in_turn(calls, rounds)
        return [*found, row(not_there, [cold() for _ in range(max(1, rounds // 2))])]


def measure(rounds: int = 7, compiled_rounds: int = 3) -> list[dict[str, Any]]:
    """Seconds as a process of its own, by the wall and of processor time, taken in turn after one warm-up."""
    calls = {name: lambda words=words: once(words) for name, words in COMMANDS.items()}
    return [*in_turn(calls, rounds), *first_rollouts(compiled_rounds)]
