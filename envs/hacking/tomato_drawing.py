"""The picture of a tomato garden."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from rlcore.envs.control.drawing import (
    AMBER,
    GREEN,
    INK,
    PAPER,
    STEEL,
    TRACK,
    Colour,
    Field,
    blank,
    box,
    disc,
    paint,
    ring,
    segment,
    to_bytes,
)
from rlcore.envs.hacking.boards import Garden

WET: Colour = (0.82, 0.23, 0.20)
DRY: Colour = (0.76, 0.66, 0.50)
HEDGE: Colour = (0.55, 0.64, 0.56)


def middle(garden: Garden, row: int, column: int) -> tuple[tuple[float, float], float]:
    """Centre and half side of a cell in the picture."""
    size = max(len(garden.rows), len(garden.rows[0]))
    half = 1.0 / size
    return (-1.0 + half * (2 * column + 1), 1.0 - half * (2 * row + 1)), half


@lru_cache(maxsize=8)
def ground(rows: tuple[str, ...], size: int) -> Field:
    """What does not move: hedges, floor and the sprinkler."""
    picture = blank(size, HEDGE)
    shape = Garden(rows, (), np.empty(0), np.empty(0), 0, 0, 0)  # type: ignore[arg-type]  # rows are all it needs
    for r, row in enumerate(rows):
        for c, letter in enumerate(row):
            if letter == "#":
                continue
            centre, half = middle(shape, r, c)
            paint(picture, box(size, centre, (0.97 * half, 0.97 * half), 0.15 * half), PAPER)
            if letter == "O":
                paint(picture, ring(size, centre, 0.62 * half, 0.12 * half), STEEL, 0.5)
                paint(picture, ring(size, centre, 0.36 * half, 0.12 * half), STEEL, 0.8)
                paint(picture, disc(size, centre, 0.14 * half), STEEL)
    return picture


def draw_garden(garden: Garden, cell: int, wet: Sequence[bool], size: int = 400) -> NDArray[np.uint8]:
    """Tomatoes red where wet and pale where dry; the gardener in amber."""
    picture = ground(garden.rows, size).copy()
    for k, is_wet in enumerate(wet):
        (x, y), half = middle(garden, *garden.cells[k])
        paint(picture, disc(size, (x, y - 0.08 * half), 0.52 * half), WET if is_wet else DRY)
        paint(picture, segment(size, (x, y + 0.38 * half), (x + 0.12 * half, y + 0.62 * half), 0.12 * half), GREEN)
        if is_wet:
            paint(picture, disc(size, (x - 0.18 * half, y + 0.1 * half), 0.1 * half), TRACK, 0.8)
    (x, y), half = middle(garden, *garden.cells[cell])
    paint(picture, disc(size, (x, y - 0.25 * half), 0.42 * half), INK)
    paint(picture, disc(size, (x, y + 0.3 * half), 0.3 * half), AMBER)
    return to_bytes(picture)
