"""Spaces of boxes as vectors: dictionaries and tuples flattened as by Gymnasium, many rows at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict, Tuple
from numpy.typing import NDArray

from rlcore.errors import ConfigError

Array = NDArray[Any]


def flat(space: Any, rows: Any) -> Array:  # -> [N, d]
    """N rows of a space of boxes, its parts one after another in the order of the space."""
    if isinstance(space, Dict):
        return np.concatenate([flat(part, rows[key]) for key, part in space.spaces.items()], axis=1)
    if isinstance(space, Tuple):
        return np.concatenate([flat(part, value) for part, value in zip(space.spaces, rows, strict=True)], axis=1)
    array = np.asarray(rows)
    return array.reshape(len(array), -1)


def size(space: Any, what: str, error: type[Exception] = ConfigError) -> int:
    """d, the numbers in one element; raises if the space called `what` is not made of boxes."""
    if isinstance(space, Dict | Tuple):
        parts = space.spaces.values() if isinstance(space, Dict) else space.spaces
        return sum(size(part, what, error) for part in parts)
    if not isinstance(space, Box):
        raise error(f"{what} must be a Box, or a Dict or Tuple of boxes, got {space}")
    return int(np.prod(space.shape))


def box_ends(space: Any, what: str, error: type[Exception] = ConfigError) -> tuple[Array, Array]:
    """Lower and upper ends of a Box, flat [m]; raises if the space called `what` is none."""
    if not isinstance(space, Box):
        raise error(f"{what} must be a Box, got {space}")
    return space.low.reshape(-1), space.high.reshape(-1)
