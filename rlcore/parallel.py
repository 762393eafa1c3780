"""Several processes that learn one agent: each owns an equal share of every batch, all own the same parameters.

    gradient = (1 / W) sum over processes of the gradient of the mean over a share

which is the gradient of the mean over the batch, since shares are equal. What is random is drawn alike everywhere and
then shared out, so that W processes take the steps of one, to rounding. Alone, every function here is the identity.
Torch keeps one process group per process; `world()` is how the library reads it.
"""

from __future__ import annotations

import hashlib
import os
import platform
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from rlcore.errors import ConfigError, ProcessError

T = TypeVar("T")
TIMEOUT = 120.0
"""Seconds that a process waits for the others; the environment variable RLCORE_TIMEOUT changes it."""
GRACE = 3.0
"""Seconds in which those who are still there say so after one was lost."""


@dataclass(frozen=True)
class World:
    """This process among those that learn together."""

    rank: int = 0
    size: int = 1

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self.size == 1

    @property
    def leads(self) -> bool:
        """Whether this process logs, saves and prints."""
        return self.rank == 0

    def share(self, count: int, what: str) -> int:
        """How many of `count` are this process's; raises unless all get as many."""
        if count % self.size:
            near = max(1, round(count / self.size)) * self.size
            raise ConfigError(
                f"{what} must be a multiple of the {self.size} processes, got {count}; take {near}, or another number "
                "of processes"
            )
        return count // self.size

    def own(self, x: Tensor, dim: int) -> Tensor:
        """This process's share of a tensor that all have."""
        count = self.share(x.shape[dim], f"dimension {dim}")
        return x if self.alone else x.narrow(dim, self.rank * count, count)

    def average_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each by its mean over the processes: one reduction per dtype, whatever their number."""
        if self.alone:
            return
        for dtype in dict.fromkeys(x.dtype for x in tensors):
            group = [x for x in tensors if x.dtype == dtype]
            flat = torch.cat([x.detach().reshape(-1) for x in group])
            self.collect(lambda flat=flat: dist.all_reduce(flat))
            flat /= self.size
            for x, part in zip(group, torch.split(flat, [x.numel() for x in group]), strict=True):
                x.detach().copy_(part.view_as(x))

    def mean(self, x: Tensor) -> Tensor:
        """The mean over the processes, of the same shape; not differentiated."""
        if self.alone:
            return x
        found = x.detach().clone()
        self.average_([found])
        return found

    def mean_of(self, metrics: Mapping[str, Tensor | float]) -> dict[str, Tensor | float]:
        """Metrics of shares as those of the batch, in one reduction."""
        if self.alone or not metrics:
            return dict(metrics)
        device = next((x.device for x in metrics.values() if isinstance(x, Tensor)), torch.device("cpu"))
        values = [torch.as_tensor(x, dtype=torch.float64, device=device).detach() for x in metrics.values()]
        return dict(zip(metrics, self.mean(torch.stack(values)).unbind(), strict=True))

    def whole(self, x: Tensor, dim: int) -> Tensor:
        """The shares of all processes side by side, in order."""
        if self.alone:
            return x
        mine = x.contiguous()
        wire = mine.to(torch.uint8) if mine.dtype == torch.bool else mine
        parts = [torch.empty_like(wire) for _ in range(self.size)]
        self.collect(lambda: dist.all_gather(parts, wire))
        return torch.cat(parts, dim).to(x.dtype)

    def gather(self, value: T) -> list[T]:
        """What each process has, in order, to all."""
        if self.alone:
            return [value]
        found: list[Any] = [None] * self.size
        self.collect(lambda: dist.all_gather_object(found, value))
        return found

    def to_leader(self, value: T) -> list[T]:
        """What each process has, in order, to the first; the others get nothing."""
        if self.alone:
            return [value]
        found: list[Any] | None = [None] * self.size if self.leads else None
        self.collect(lambda: dist.gather_object(value, found, 0))
        return found or []

    def from_leader(self, value: T) -> T:
        """What the first process has, to all."""
        if self.alone:
            return value
        box: list[Any] = [value if self.leads else None]
        self.collect(lambda: dist.broadcast_object_list(box, 0))
        return box[0]  # type: ignore[no-any-return]

    def as_leader(self, flag: bool) -> bool:
        """The first process's decision."""
        if self.alone:
            return flag
        box = torch.tensor([flag], dtype=torch.uint8)
        self.collect(lambda: dist.broadcast(box, 0))
        return bool(box)

    def check_same(self, facts: Mapping[str, object]) -> None:
        """Raise on all processes unless these are the same everywhere, naming the first that is not."""
        if self.alone:
            return
        for rank, theirs in enumerate(all_facts := self.gather({k: repr(v) for k, v in facts.items()})):
            for name in {**all_facts[0], **theirs}:
                ours, other = all_facts[0].get(name, "nothing"), theirs.get(name, "nothing")
                if ours != other:
                    raise ProcessError(
                        f"all processes must be alike, but {name} is {ours} in process 0 and {other} in process "
                        f"{rank}; start them with one command, from the same code and packages"
                    )

    def collect(self, exchange: Any) -> None:
        """Exchange with the others; a failure says who was lost."""
        try:
            exchange()
        except (RuntimeError, ValueError) as error:
            gone = lost(self)
            who = f"process {', '.join(map(str, gone))} of {self.size} was lost" if gone else "an exchange failed"
            raise ProcessError(f"{who}: {' '.join(str(error).split())[:120]}") from error


ALONE = World()
_current = ALONE


def world() -> World:
    """This process among the others; alone unless `joined` is in force."""
    return _current


@contextmanager
def joined(backend: str | None = None, *, init_method: str = "env://") -> Iterator[World]:
    """The processes that torchrun, or any launcher that sets RANK and WORLD_SIZE, started; alone without one."""
    global _current
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if size == 1 or not _current.alone:
        yield _current
        return
    seconds = float(os.environ.get("RLCORE_TIMEOUT", TIMEOUT))
    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    place = int(os.environ.get("LOCAL_RANK", "0"))
    if cards > place:
        torch.cuda.set_device(place)  # so that the device 'cuda' is this process's own
    try:
        dist.init_process_group(
            backend or ("cpu:gloo,cuda:nccl" if cards > place else "gloo"),
            init_method=init_method,
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=seconds),
        )
    except (RuntimeError, ValueError) as error:
        where = f"{os.environ.get('MASTER_ADDR', '?')}:{os.environ.get('MASTER_PORT', '?')}"
        place_of = where if init_method == "env://" else init_method
        raise ProcessError(
            f"process {rank} found no group of {size} at {place_of} within {seconds:g} s: check that address, that all "
            "processes were started, and the firewall"
        ) from error
    before = signal.signal(signal.SIGTERM, stopped)
    try:
        _current = World(rank, size)
        _current.check_same(
            {"torch": torch.__version__, "python": platform.python_version(), "the code of rlcore": fingerprint()}
        )
        yield _current
    finally:
        _current = ALONE
        signal.signal(signal.SIGTERM, before)
        dist.destroy_process_group()


def stopped(*_: object) -> NoReturn:
    """What a launcher's signal to stop does: it sends one when another process has ended."""
    raise ProcessError("the launcher stopped this process, because another one ended or it was told to")


def lost(here: World) -> list[int]:
    """Processes that do not answer any more; none if even that cannot be found out."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a launcher that saw it too must not cut this short
    try:
        store = dist.distributed_c10d._get_default_store()
        store.set(f"rlcore/alive/{here.rank}", "1")
        deadline = time.monotonic() + GRACE
        missing = list(range(here.size))
        while missing and time.monotonic() < deadline:
            missing = [rank for rank in missing if not store.check([f"rlcore/alive/{rank}"])]
            time.sleep(0.05)
    except (RuntimeError, ValueError):
        return [0] if here.rank else []  # the first process keeps the store, unless the launcher does
    finally:
        signal.signal(signal.SIGTERM, before)
    return missing


def fingerprint() -> str:
    """A short hash of the code of this package."""
    root, digest = Path(__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]
