"""A ring of transitions, one preallocated tensor per field."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rlcore.data.batches import Transitions
from rlcore.errors import CheckpointError, ConfigError, ShapeError


class ReplayBuffer:
    """Keeps the newest `capacity` rows and draws from them uniformly with replacement.

    Storage is allocated at the first `add`, in the shapes and dtypes of its rows.
    """

    def __init__(self, capacity: int, device: torch.device | str = "cpu") -> None:
        if capacity < 1:
            raise ConfigError(f"capacity must be at least 1 row, got {capacity}")
        self.capacity = capacity
        self.device = torch.device(device)
        self.rows: Transitions | None = None
        self.cursor = 0  # where the next row goes
        self.size = 0  # rows that hold data

    def __len__(self) -> int:
        return self.size

    def add(self, batch: Transitions) -> None:
        """Append every row of [N, ...] or [K, B, ...], oldest first, over the oldest ones once full."""
        batch = batch.flatten()
        if len(batch) > self.capacity:
            batch = batch[-self.capacity :]
        if self.rows is None:
            self.rows = batch.map(lambda x: torch.zeros(self.capacity, *x.shape[1:], dtype=x.dtype, device=self.device))
        if set(batch.extras) != set(self.rows.extras) or batch.obs.shape[1:] != self.rows.obs.shape[1:]:
            raise ShapeError(
                f"rows must look like the first ones, obs {list(self.rows.obs.shape[1:])} and "
                f"extras {sorted(self.rows.extras)}, "
                f"got obs {list(batch.obs.shape[1:])} and extras {sorted(batch.extras)}; use a buffer of their own"
            )
        where = (torch.arange(len(batch), device=self.device) + self.cursor) % self.capacity
        for name in ("obs", "action", "reward", "discount", "next_obs", "dt"):
            getattr(self.rows, name)[where] = getattr(batch, name).to(self.device)
        for name, value in batch.extras.items():
            self.rows.extras[name][where] = value.to(self.device)
        self.cursor = (self.cursor + len(batch)) % self.capacity
        self.size = min(self.size + len(batch), self.capacity)

    def sample(self, rows: int, *, generator: torch.Generator) -> Transitions:
        """`rows` rows, uniformly with replacement."""
        if self.rows is None or self.size == 0:
            raise ConfigError("the replay buffer is empty; gather experience before drawing from it")
        index = torch.randint(self.size, (rows,), generator=generator, device=generator.device).to(self.device)
        return self.rows[index]

    def state_dict(self) -> dict[str, Any]:
        rows: dict[str, Any] = {}
        if self.rows is not None:
            used = self.rows[slice(0, self.size)]
            rows = {name: getattr(used, name) for name in ("obs", "action", "reward", "discount", "next_obs", "dt")}
            rows["extras"] = dict(used.extras)
        return {"capacity": self.capacity, "cursor": self.cursor, "size": self.size, "rows": rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["capacity"] != self.capacity:
            raise CheckpointError(f"the checkpoint's replay holds {state['capacity']} rows, this one {self.capacity}")
        self.cursor, self.size, self.rows = state["cursor"], state["size"], None
        if state["rows"]:
            saved = Transitions(**state["rows"])

            def grow(x: Tensor) -> Tensor:
                full = torch.zeros(self.capacity, *x.shape[1:], dtype=x.dtype, device=self.device)
                full[: self.size] = x.to(self.device)
                return full

            self.rows = saved.map(grow)
