"""The picture of a ball in a maze."""

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
    Field,
    blank,
    disc,
    paint,
    pixels,
    segment,
    to_bytes,
)
from rlcore.envs.control.drawing import ring as circle


@lru_cache(maxsize=8)
def scene(rows: tuple[str, ...], size: int) -> Field:
    """What does not move: the walls, and the floor with a dot in the middle of each cell."""
    picture = blank(size, TRACK)
    height, width = len(rows), len(rows[0])
    x, y = pixels(size)
    column, row = ((axis * 0.5 * max(height, width) + 0.5 * n) for axis, n in ((x, width), (-y, height)))
    solid = np.array([[letter == "#" for letter in line] for line in rows])
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    wall = solid[np.clip(row, 0, height - 1).astype(int), np.clip(column, 0, width - 1).astype(int)]
    picture[inside & ~wall] = PAPER
    picture[inside & wall] = np.asarray(INK) * 0.35 + np.asarray(STEEL) * 0.25 + 0.35
    dot = np.hypot(column - np.floor(column) - 0.5, row - np.floor(row) - 0.5) - 0.03
    paint(picture, np.where(inside & ~wall, dot * 2.0 / max(height, width), 1.0), TRACK)
    return picture


def draw_maze(
    rows: tuple[str, ...], x: Sequence[float], radius: float, goal_radius: float, size: int = 400
) -> NDArray[np.uint8]:
    """The state (position, velocity, goal) [m, m/s, m] in a maze of 1 m cells around the origin; row 0 on top."""
    scale = 2.0 / max(len(rows), len(rows[0]))  # of the picture's half width, per metre
    px, py, vx, vy, gx, gy = (scale * value for value in x)
    picture = scene(rows, size).copy()
    paint(picture, disc(size, (gx, gy), scale * goal_radius), GREEN, 0.18)
    paint(picture, circle(size, (gx, gy), scale * goal_radius, 0.012), GREEN)
    paint(picture, disc(size, (gx, gy), 0.02), GREEN)
    paint(picture, segment(size, (px, py), (px + 0.1 * vx, py + 0.1 * vy), 0.018), AMBER, 0.8)
    paint(picture, disc(size, (px, py), max(scale * radius, 0.02)), AMBER)
    return to_bytes(picture)
