"""The batches that flow from sources to agents: frozen, and without a `done` flag to misread.

A step is discounted by a number: discount = exp(-beta dt) * (1 - terminated). `next_obs` is always the true next
observation, before any reset. So a time limit cannot be mistaken for a termination.
Letters: K steps, B paths, N rows; a leading [*] is [N] or [K, B].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor

from rlcore.errors import ShapeError


def _map(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    return {name: function(tensor) for name, tensor in value.items()}


class TensorBatch:
    """What the frozen batch dataclasses share: they map, move and replace as a whole."""

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Apply a function to every tensor, extras included."""
        return type(self)(**{name: _map(value, function) for name, value in vars(self).items()})

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """Move to a device; `dtype` converts floating-point tensors only."""
        return self.map(lambda x: x.to(device=device, dtype=dtype if x.is_floating_point() else None))

    @classmethod
    def unchecked(cls, **values: Any) -> Self:
        """Of all fields, in shapes that are known to be right."""
        found = object.__new__(cls)
        found.__dict__.update(values)
        return found

    def replace(self, **changes: Any) -> Self:
        return replace(self, **changes)  # type: ignore[type-var]


@dataclass(frozen=True)
class Transitions(TensorBatch):
    """One-step experience."""

    obs: Tensor  # [*, d]
    action: Tensor  # [*, m]
    reward: Tensor  # [*] earned in the step; includes the terminal reward where it terminates
    discount: Tensor  # [*] exp(-beta dt) * (1 - terminated)
    next_obs: Tensor  # [*, d] the true next observation, never that of a reset
    dt: Tensor  # [*] s
    extras: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lead = self.reward.shape
        for name in ("obs", "action", "discount", "next_obs", "dt"):
            if getattr(self, name).shape[: len(lead)] != lead:
                raise ShapeError(
                    f"{name} must lead with {list(lead)} as reward does, got {list(getattr(self, name).shape)}"
                )

    def __len__(self) -> int:
        return self.reward.numel()

    def flatten(self) -> Transitions:
        """[K, B, ...] -> [K B, ...]; [N, ...] stays."""
        lead = self.reward.dim()
        return self if lead == 1 else self.map(lambda x: x.flatten(0, lead - 1))

    def __getitem__(self, index: Tensor | slice | int) -> Transitions:
        return self.map(lambda x: x[index])

    def take(self, index: Tensor) -> Transitions:
        """Rows [N] of these numbers, int64 [...] -> [...]; a third of the time of `rows[index]` on a CPU."""
        flat, whole = index.flatten(), index.dim() == 1

        def taken(x: Tensor) -> Tensor:
            found = x.index_select(0, flat)
            return found if whole else found.view(*index.shape, *x.shape[1:])

        return self.unchecked(**{name: _map(value, taken) for name, value in vars(self).items()})

    def unbind(self) -> list[Transitions]:
        """[C, *] -> C batches [*]."""
        names, extras = [name for name in vars(self) if name != "extras"], [*self.extras]
        columns = [getattr(self, name).unbind(0) for name in names] + [x.unbind(0) for x in self.extras.values()]
        k = len(names)
        return [
            self.unchecked(**dict(zip(names, one[:k], strict=True)), extras=dict(zip(extras, one[k:], strict=True)))
            for one in zip(*columns, strict=True)
        ]


def side_by_side(parts: Sequence[Transitions], dim: int) -> Transitions:
    """Batches as one, along a dimension that they lead with."""
    names = ("obs", "action", "reward", "discount", "next_obs", "dt")
    columns = {name: torch.cat([getattr(part, name) for part in parts], dim) for name in names}
    extras = {name: torch.cat([part.extras[name] for part in parts], dim) for name in parts[0].extras}
    return Transitions(**columns, extras=extras)


@dataclass(frozen=True)
class Trajectory(TensorBatch):
    """Whole paths on a common time grid, never reset.

    A path that terminates earlier is absorbed: its state stays, and its reward is 0 from then on. `reward` includes the
    terminal reward in the step that terminates.
    """

    t: Tensor  # [K+1] s
    obs: Tensor  # [K+1, B, d]
    action: Tensor  # [K, B, m]
    reward: Tensor  # [K, B]
    dt: Tensor  # [K] s
    terminated: Tensor  # bool [K, B]: whether the path has ended at or before the end of the step
    extras: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        steps, paths = self.reward.shape
        wanted = {"t": (steps + 1,), "obs": (steps + 1, paths), "action": (steps, paths), "dt": (steps,)}
        for name, lead in {**wanted, "terminated": (steps, paths)}.items():
            if tuple(getattr(self, name).shape[: len(lead)]) != lead:
                raise ShapeError(f"{name} must lead with {list(lead)}, got {list(getattr(self, name).shape)}")

    @property
    def alive(self) -> Tensor:  # bool [K, B]
        """Whether the path was still running at the start of the step."""
        return torch.cat([torch.ones_like(self.terminated[:1]), ~self.terminated[:-1]])

    def transitions(self, discount_rate: float) -> Transitions:
        """The same experience as one-step rows [K, B, ...]; beta in 1/s. Rows after an end are kept, absorbed."""
        dt = self.dt.unsqueeze(1).expand_as(self.reward).to(self.reward.dtype)
        discount = torch.exp(-discount_rate * dt) * ~self.terminated
        extras = {**self.extras, "last": self.terminated}
        return Transitions(self.obs[:-1], self.action, self.reward, discount, self.obs[1:], dt, extras)


@dataclass(frozen=True)
class Comparisons(TensorBatch):
    """Pairwise preferences: whether `first` was preferred to `second` in `context`."""

    context: Tensor  # [N, ...]
    first: Tensor  # [N, ...]
    second: Tensor  # [N, ...]
    preferred: Tensor  # [N] probability, or 0/1, that `first` wins
