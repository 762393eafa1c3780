"""A data set that is made once and then lies in a file, so that nobody keeps it in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from rlcore.data import Transitions

FIELDS = ("obs", "action", "reward", "discount", "next_obs", "dt")


@dataclass(frozen=True)
class OnDisk:
    """Rows in order that are made at the first call and read from a file at every other."""

    make: Callable[[], Transitions]
    path: Path

    def __call__(self) -> Transitions:
        if not self.path.exists():
            rows = self.make()
            torch.save({name: getattr(rows, name) for name in FIELDS} | {"last": rows.extras["last"]}, self.path)
        stored = torch.load(self.path, weights_only=True)
        return Transitions(**{name: stored[name] for name in FIELDS}, extras={"last": stored["last"]})
