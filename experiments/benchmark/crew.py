"""Processes that torchrun starts and that do the same work at once, each with one thread, timed by their own clocks.

They wait for requests without using a core, so that crews of one and of several can be timed in turn.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from types import TracebackType
from typing import Any, NamedTuple

from torch.distributed import TCPStore  # type: ignore[attr-defined]

from rlcore.errors import ProcessError

MEMBER = "rlcore.experiments.benchmark.crew_member"
PATIENCE = 900.0
"""Seconds that a request may take, compiling included."""


class Round(NamedTuple):
    """One request, done by all."""

    steps: int
    """Of all processes together."""
    wall: float
    """Of the slowest, since all had begun [s]."""
    cpu: float
    """Processor time of the one that used most [s]: what the round would have lasted with a core for each."""


class Crew:
    """So many processes; a context that ends them."""

    def __init__(self, size: int) -> None:
        self.size, self.asked = size, 0
        self.store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=10))
        self.words = tempfile.TemporaryFile("w+")  # noqa: SIM115, closed with the processes
        start = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={size}", "-m", MEMBER]
        self.launcher = subprocess.Popen(
            [sys.executable, *start, str(self.store.port)],
            env=os.environ | {"OMP_NUM_THREADS": "1", "RLCORE_TIMEOUT": f"{PATIENCE:g}"},
            stdout=self.words,
            stderr=subprocess.STDOUT,
        )

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.launcher.poll() is None:
            self.store.set(f"ask/{self.asked}", json.dumps({"do": "end"}))
            try:
                self.launcher.wait(20)
            except subprocess.TimeoutExpired:
                self.launcher.terminate()  # torchrun ends those that it started
                self.launcher.wait()
        self.words.close()

    def do(self, name: str, times: int = 1, **settings: Any) -> Round:
        """`times` repetitions of a workload of `crew_member`, made at the first request."""
        number, self.asked = self.asked, self.asked + 1
        self.store.set(f"ask/{number}", json.dumps({"do": name, "times": times, "settings": settings}))
        keys, deadline = [f"told/{number}/{rank}" for rank in range(self.size)], time.monotonic() + PATIENCE
        while not self.store.check(keys):
            if self.launcher.poll() is not None or time.monotonic() > deadline:
                self.words.seek(0)
                last = re.findall(r"\w+(?:Error|Exception): .*", self.words.read())[:1]
                raise ProcessError(f"the processes did not finish {name!r}: {''.join(last) or 'no word from them'}")
            time.sleep(0.002)
        told = [json.loads(self.store.get(key)) for key in keys]
        return Round(told[0]["steps"], max(t["wall"] for t in told), max(t["cpu"] for t in told))
