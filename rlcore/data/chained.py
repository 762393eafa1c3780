"""A replay buffer that stores each observation once: the next observation of a row is mostly that of the next row."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rlcore.data.batches import Transitions, side_by_side
from rlcore.data.buffer import packed
from rlcore.errors import CheckpointError, ConfigError, ShapeError
from rlcore.parallel import world

FIELDS = ("obs", "action", "reward", "discount", "dt")


class ChainedReplay:
    """As `ReplayBuffer`, for rows that arrive in order from `paths` paths, in about half the memory.

    Row i + paths goes on where row i ended, unless an episode ended there. That is not taken on trust: a next
    observation is dropped only when the row that follows on its path begins with the very same numbers, and kept
    otherwise. Rows in another order cost memory, never correctness.
    """

    def __init__(self, capacity: int, device: torch.device | str = "cpu", *, paths: int = 1, seeds: int = 1) -> None:
        if min(capacity, paths, seeds) < 1:
            raise ConfigError(f"capacity, paths and seeds must be at least 1, got {capacity}, {paths} and {seeds}")
        if capacity % paths or paths % seeds or capacity < 2 * paths:
            raise ConfigError(
                f"capacity must be a multiple of the paths, at least twice, and the paths one of the seeds, got "
                f"{capacity} rows, {paths} paths and {seeds} seeds"
            )
        own = world().share(paths, "the paths of a replay buffer")
        self.capacity, self.paths, self.seeds, self.device = capacity // paths * own, own, seeds, torch.device(device)
        self.columns: dict[str, Tensor] = {}  # each [capacity, ...]
        self.extras: dict[str, Tensor] = {}
        self.slot = torch.full((capacity,), -1, dtype=torch.int32, device=self.device)  # of the kept next obs, or -1
        self.kept = torch.empty(0)  # [slots, d]
        self.free: list[int] = []
        self.cursor = self.size = 0

    def __len__(self) -> int:
        return self.size

    def add(self, batch: Transitions) -> None:
        """Append every row of [N, ...] or [K, B, ...], one row of every path after the other."""
        batch = packed(batch)
        if len(batch) % self.paths:
            raise ShapeError(f"{len(batch)} rows are no whole steps of {self.paths} paths; add a multiple of them")
        if not self.columns:
            self.allocate(batch)
        if set(batch.extras) != set(self.extras) or batch.obs.shape[1:] != self.columns["obs"].shape[1:]:
            raise ShapeError(
                f"rows must look like the first ones, obs {list(self.columns['obs'].shape[1:])} and extras "
                f"{sorted(self.extras)}, got {list(batch.obs.shape[1:])} and {sorted(batch.extras)}"
            )
        for k in range(0, len(batch), self.paths):
            self.add_step(batch[slice(k, k + self.paths)])

    def allocate(self, batch: Transitions) -> None:
        """Storage in the shapes and dtypes of the rows."""

        def like(x: Tensor) -> Tensor:
            return torch.zeros(self.capacity, *x.shape[1:], dtype=x.dtype, device=self.device)

        self.columns = {name: like(getattr(batch, name)) for name in FIELDS}
        self.extras = {name: like(value) for name, value in batch.extras.items()}
        self.kept = torch.zeros(0, *batch.obs.shape[1:], dtype=batch.obs.dtype, device=self.device)

    def add_step(self, step: Transitions) -> None:
        """One row of every path."""
        here = slice(self.cursor, self.cursor + self.paths)
        obs = step.obs.to(self.device)
        if self.size:
            start = (self.cursor - self.paths) % self.capacity
            before = slice(start, start + self.paths)
            goes_on = (self.kept[self.slot[before].long()] == obs).flatten(1).all(1)
            self.release(before, goes_on)
        self.release(here, self.slot[here] >= 0)
        for name in FIELDS:
            self.columns[name][here] = getattr(step, name).to(self.device)
        for name, value in step.extras.items():
            self.extras[name][here] = value.to(self.device)
        self.slot[here] = self.take(self.paths)
        self.kept[self.slot[here].long()] = step.next_obs.to(self.device)
        self.cursor = (self.cursor + self.paths) % self.capacity
        self.size = min(self.size + self.paths, self.capacity)

    def release(self, rows: slice, which: Tensor) -> None:
        """Give back the slots of some of these rows."""
        self.free += self.slot[rows][which].tolist()
        self.slot[rows] = torch.where(which, -1, self.slot[rows])

    def take(self, count: int) -> Tensor:
        """Free slots, of which there are made more by half when there are too few."""
        if len(self.free) < count:
            old = len(self.kept)
            new = max(old + old // 2, old + 2 * count)
            grown = self.kept.new_zeros(new, *self.kept.shape[1:])
            grown[:old] = self.kept
            self.kept, self.free = grown, [*range(new - 1, old - 1, -1), *self.free]
        taken, self.free = self.free[-count:], self.free[:-count]
        return torch.tensor(taken, dtype=torch.int32, device=self.device)

    def rows(self, index: Tensor) -> Transitions:
        """The rows of these numbers, of any shape."""
        slot = self.slot[index].long()
        after = self.columns["obs"][(index + self.paths) % self.capacity]
        last = (slot >= 0).view(*slot.shape, *[1] * (after.dim() - slot.dim()))
        next_obs = torch.where(last, self.kept[slot.clamp(min=0)], after)
        extras = {name: value[index] for name, value in self.extras.items()}
        return Transitions(**{name: self.columns[name][index] for name in FIELDS}, next_obs=next_obs, extras=extras)

    def sample(self, rows: int, *, generator: torch.Generator) -> Transitions:
        """`rows` rows [rows, ...], or [S, rows, ...] of each seed, uniformly with replacement."""
        if self.size == 0:
            raise ConfigError("the replay buffer is empty; gather experience before drawing from it")
        index = torch.randint(
            self.size // self.seeds, (self.seeds, rows), generator=generator, device=generator.device
        ).to(self.device)
        if self.seeds == 1:
            return self.rows(index[0])
        return self.rows(index * self.seeds + torch.arange(self.seeds, device=self.device).unsqueeze(1))

    def samples(self, count: int, rows: int, *, generator: torch.Generator) -> list[Transitions]:
        """As many calls of `sample`."""
        return [self.sample(rows, generator=generator) for _ in range(count)]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        tensors = [*self.columns.values(), *self.extras.values(), self.slot, self.kept]
        return sum(tensor.nbytes for tensor in tensors)

    def state_dict(self) -> dict[str, Any]:
        used = slice(0, self.size)
        return {
            "shape": [self.capacity, self.paths],
            "cursor": self.cursor,
            "size": self.size,
            "columns": {name: value[used].clone() for name, value in self.columns.items()},
            "extras": {name: value[used].clone() for name, value in self.extras.items()},
            "slot": self.slot[used].clone(),
            "kept": self.kept.clone(),
            "free": list(self.free),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["shape"] != [self.capacity, self.paths]:
            raise CheckpointError(
                f"the checkpoint's replay has rows and paths {state['shape']}, this one {[self.capacity, self.paths]}"
            )
        self.cursor, self.size = state["cursor"], state["size"]

        def grow(x: Tensor, fill: int = 0) -> Tensor:
            full = torch.full((self.capacity, *x.shape[1:]), fill, dtype=x.dtype, device=self.device)
            full[: self.size] = x.to(self.device)
            return full

        self.columns = {name: grow(value) for name, value in state["columns"].items()}
        self.extras = {name: grow(value) for name, value in state["extras"].items()}
        self.slot, self.kept, self.free = grow(state["slot"], -1), state["kept"].to(self.device), list(state["free"])

    def load_shares(self, states: Sequence[dict[str, Any]]) -> None:
        """This process's paths of those that another number of processes saved."""
        parts = []
        for state in states:
            twin = copy.copy(self)
            twin.capacity, twin.paths = state["shape"]
            twin.load_state_dict(state)
            if twin.size:
                order = (torch.arange(twin.size, device=self.device) + twin.cursor) % twin.size  # oldest first
                parts.append(twin.rows(order).map(lambda x, n=twin.paths: x.unflatten(0, (-1, n))))  # type: ignore[misc]
        self.cursor, self.size, self.columns, self.free = 0, 0, {}, []
        self.slot = torch.full((self.capacity,), -1, dtype=torch.int32, device=self.device)
        if parts:
            self.add(side_by_side(parts, 1).map(lambda x: world().own(x, 1)).flatten())
