"""Peers in an environment of their own, timed in turn with ours: a process that is spoken to by lines of JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import torch

from rlcore.errors import RlcoreError
from rlcore.experiments.benchmark.timing import Timed, Work, interleave, table

WORKER = Path(__file__).parent / "peers" / "worker.py"
ENVIRONMENT = Path(__file__).parents[2] / ".venv-peers" / "bin" / "python"
REMEDY = "install the peers with `make bench-peers`, or name their Python in RLCORE_PEERS"


class PeerError(RlcoreError):
    """A peer failed."""


class MissingPeerError(PeerError):
    """A peer is not installed."""


class Peer(NamedTuple):
    """A workload of the peers' environment: `name` in a module of `peers`, made with these settings."""

    label: str
    module: str
    name: str
    settings: Mapping[str, Any]


def peers_python() -> str:
    """RLCORE_PEERS if set, what `make bench-peers` made if it is there, else the Python that runs this."""
    named = os.environ.get("RLCORE_PEERS")
    return named or (str(ENVIRONMENT) if ENVIRONMENT.exists() else sys.executable)


class PeerProcess:
    """The worker; a context that ends it."""

    def __init__(self, python: str | None = None, worker: Path = WORKER) -> None:
        self.words = tempfile.TemporaryFile("w+")  # noqa: SIM115, closed with the process
        self.process = subprocess.Popen(
            [python or peers_python(), str(worker)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.words,
            text=True,
        )

    def __enter__(self) -> PeerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        if error is not None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.words.close()

    def ask(self, **request: Any) -> dict[str, Any]:
        """The answer to one request."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            self.words.seek(0)
            last = self.words.read().strip().splitlines()[-1:]
            raise PeerError(f"the peers' process has ended: {''.join(last) or 'without a word'}; {REMEDY}")
        answer: dict[str, Any] = json.loads(line)
        if "missing" in answer:
            raise MissingPeerError(f"{answer['missing']}; {REMEDY}")
        if "error" in answer:
            raise PeerError(f"a peer failed in {request.get('module', 'a round')}: {answer['error']}")
        return answer

    def open(self, peer: Peer, least: float) -> tuple[Callable[[], Timed], int, str]:
        """Rounds of a peer's workload, its key and the versions of what it uses."""
        found = self.ask(do="open", module=peer.module, name=peer.name, settings=dict(peer.settings))

        def one_round() -> Timed:
            spent = self.ask(do="run", key=found["key"], least=least)
            return Timed(spent["steps"], spent["seconds"])

        return one_round, found["key"], found["versions"]

    def call(self, module: str, name: str, **settings: Any) -> Any:
        """The value of one of a module's checks."""
        return self.ask(do="call", module=module, name=name, settings=settings)["value"]


def compare(
    process: PeerProcess,
    ours: Mapping[str, Work],
    peers: Sequence[Peer],
    best: str,
    *,
    rounds: int = 7,
    least: float = 0.1,
    **about: Any,
) -> list[dict[str, Any]]:
    """Rows of our workloads and of every peer that is installed, round by round in turn; missing ones say so."""
    turns, keys, missing = {}, [], []
    versions = dict.fromkeys(ours, f"torch {torch.__version__}")
    for peer in peers:
        try:
            turns[peer.label], key, versions[peer.label] = process.open(peer, least)
            keys.append(key)
        except MissingPeerError as error:
            missing.append({"workload": peer.label, **about, "note": str(error)})
    rates = interleave(ours, peers=turns, rounds=rounds, least=least)
    for key in keys:
        process.ask(do="close", key=key)
    rows = table(rates, best, **about)
    return [row | {"versions": versions[row["workload"]]} for row in rows] + missing
