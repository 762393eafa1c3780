"""The picture of a town in an epidemic: one dot a person."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rlcore.envs.control.drawing import AMBER, GREEN, INK, PAPER, STEEL, TRACK, Colour, blank, box, paint, to_bytes

RED: Colour = (0.78, 0.22, 0.20)
COLOURS = (STEEL, AMBER, RED, GREEN, INK)
COLUMNS = 25


def draw_pandemic(counts: Sequence[float], stage: int, size: int = 400) -> NDArray[np.uint8]:
    """People who are susceptible, infected, critical, recovered, dead, as squares in that order; above, the stage."""
    picture = blank(size, PAPER)
    for level in range(4):
        centre = (-0.45 + 0.3 * level, 0.86)
        paint(picture, box(size, centre, (0.13, 0.05), 0.02), AMBER if level < stage else TRACK)
    who = np.repeat(np.arange(5), np.round(counts).astype(int))
    rows = -(-len(who) // COLUMNS)
    side = min(1.84 / COLUMNS, 1.62 / max(rows, 1))
    x = -0.92 + side * (np.arange(len(who)) % COLUMNS + 0.5) * (1.84 / COLUMNS / side)
    y = 0.7 - side * (np.arange(len(who)) // COLUMNS + 0.5)
    pixel = 2.0 / size
    for kind, across, up in zip(who, x, y, strict=True):
        left, right = (round((across + edge * 0.36 * side + 1.0) / pixel) for edge in (-1, 1))
        top, bottom = (round((1.0 - up - edge * 0.36 * side) / pixel) for edge in (1, -1))
        picture[top:bottom, left:right] = COLOURS[kind]
    return to_bytes(picture)
