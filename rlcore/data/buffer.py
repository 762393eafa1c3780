"""A ring of transitions, one preallocated tensor per field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from rlcore.data.batches import Transitions, side_by_side
from rlcore.errors import CheckpointError, ConfigError, ShapeError
from rlcore.parallel import world


class Replay(Protocol):
    """What a replay source asks of its buffer."""

    def add(self, batch: Transitions) -> None: ...
    def sample(self, rows: int, *, generator: torch.Generator) -> Transitions: ...
    def samples(self, count: int, rows: int, *, generator: torch.Generator) -> list[Transitions]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any], /) -> None: ...
    def load_shares(self, states: Sequence[dict[str, Any]], /) -> None: ...


def packed(batch: Transitions) -> Transitions:
    """Rows [N, ...] as a replay keeps them: no float64, which is twice the memory for digits that no network sees."""
    return batch.flatten().map(lambda x: x.float() if x.dtype == torch.float64 else x)


class ReplayBuffer:
    """Keeps the newest `capacity` rows and draws from them uniformly with replacement.

    Storage is allocated at the first `add`, one tensor per field on the buffer's device, where rows are drawn too;
    float64 is kept as float32, other dtypes as they come. With several `seeds`, independent
    runs share the ring: row i of all ever added belongs to seed i mod S, and each draws from its own. Several processes
    have a ring each, of their share of the capacity.
    """

    def __init__(self, capacity: int, device: torch.device | str = "cpu", *, seeds: int = 1) -> None:
        if min(capacity, seeds) < 1:
            raise ConfigError(f"capacity must be at least 1 row, and seeds 1, got {capacity} and {seeds}")
        if capacity % seeds:
            raise ConfigError(f"capacity must be a multiple of the {seeds} seeds, got {capacity} rows")
        self.capacity, self.seeds = -(-capacity // (seeds * world().size)) * seeds, seeds
        self.device = torch.device(device)
        self.rows: Transitions | None = None
        self.cursor = 0  # where the next row goes
        self.size = 0  # rows that hold data

    def __len__(self) -> int:
        return self.size

    def add(self, batch: Transitions) -> None:
        """Append every row of [N, ...] or [K, B, ...], oldest first, over the oldest ones once full."""
        batch = packed(batch)
        if len(batch) % self.seeds:
            raise ShapeError(f"{len(batch)} rows cannot be shared out over {self.seeds} seeds; add a multiple of them")
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
        """`rows` rows [rows, ...], or [S, rows, ...] of each seed, uniformly with replacement."""
        return self.draw((self.seeds, rows), generator)

    def samples(self, count: int, rows: int, *, generator: torch.Generator) -> list[Transitions]:
        """As many calls of `sample` by one of each operation; on a CPU they draw the same rows."""
        return self.draw((count, self.seeds, rows), generator).unbind()

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Transitions:
        """Rows [..., S, N], or [..., N] where there is one seed."""
        if self.rows is None or self.size == 0:
            raise ConfigError("the replay buffer is empty; gather experience before drawing from it")
        index = torch.randint(self.size // self.seeds, shape, generator=generator, device=generator.device)
        index = index.to(self.device)
        if self.seeds == 1:
            return self.rows.take(index.squeeze(-2))
        return self.rows.take(index * self.seeds + torch.arange(self.seeds, device=self.device).unsqueeze(1))

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
            saved = packed(Transitions(**state["rows"]))

            def grow(x: Tensor) -> Tensor:
                full = torch.zeros(self.capacity, *x.shape[1:], dtype=x.dtype, device=self.device)
                full[: self.size] = x.to(self.device)
                return full

            self.rows = saved.map(grow)

    def load_shares(self, states: Sequence[dict[str, Any]]) -> None:
        """This process's share of the rings that another number of processes saved; ages stay in order."""
        self.cursor, self.size, self.rows = 0, 0, None
        parts = []
        for state in states:
            if state["rows"]:
                order = (torch.arange(state["size"]) + state["cursor"]) % state["size"]  # oldest first
                rows = Transitions(**state["rows"]).take(order)
                parts.append(rows.map(lambda x: x.unflatten(0, (-1, 1, self.seeds))))  # type: ignore[no-untyped-call]
        if not parts:
            return
        every = side_by_side(parts, 1).map(lambda x: x.flatten(0, 1))  # [G, S, ...] one row of every seed at a time
        here, groups = world(), sum(part.reward.shape[0] for part in parts)
        self.add(every[slice(groups % here.size + here.rank, None, here.size)].flatten())  # all get as many
