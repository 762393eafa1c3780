"""Rows of consecutive steps by run, side by side and in pieces."""

from __future__ import annotations

from torch import Tensor

from rlcore.data import Transitions
from rlcore.errors import ConfigError, ShapeError


def check_rows(batch: Transitions) -> None:
    """Raise unless these are consecutive rows."""
    if batch.reward.dim() != 2 or "last" not in batch.extras:
        raise ShapeError(
            f"expected consecutive rows [K, B] with extras['last'], got {list(batch.reward.shape)}; use RolloutSource"
        )


def apart(x: Tensor, seeds: int) -> Tensor:  # [K, B, ...] -> [K, S, B / S, ...]
    """Rows by run, row b belonging to run b mod S."""
    if x.shape[1] % seeds:
        raise ShapeError(f"{x.shape[1]} paths cannot be shared out over {seeds} runs; give a multiple of them")
    return x.reshape(len(x), -1, seeds, *x.shape[2:]).transpose(1, 2)


def together(x: Tensor) -> Tensor:  # [S, N, ...] -> [N S, ...]
    """The inverse for one step."""
    return x.transpose(0, 1).flatten(0, 1)


def merged(x: Tensor) -> Tensor:  # [K, S, n, ...] -> [S, K n, ...]
    """All steps of a run side by side."""
    return x.transpose(0, 1).flatten(1, 2)


def split(x: Tensor, steps: int) -> Tensor:  # [S, K n, ...] -> [K, S, n, ...]
    """The inverse."""
    return x.reshape(len(x), steps, -1, *x.shape[2:]).transpose(0, 1)


def segments(x: Tensor, length: int) -> Tensor:  # [K, S, n, ...] -> [L, S, K / L n, ...]
    """Sequences of L consecutive steps side by side."""
    if len(x) % length:
        raise ConfigError(f"sequence must divide the {len(x)} steps of a batch, got {length}")
    pieces = x.reshape(-1, length, *x.shape[1:]).transpose(0, 1)  # [L, K / L, S, n, ...]
    return pieces.transpose(1, 2).flatten(2, 3)


def divisor(count: int, most: int) -> int:
    """The largest divisor of a count that is not above `most`, or 1."""
    return next(k for k in range(max(1, min(count, most)), 0, -1) if count % k == 0)
