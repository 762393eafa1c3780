"""The picture of a highway with an on-ramp."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rlcore.envs.control.drawing import (
    AMBER,
    INK,
    PAPER,
    STEEL,
    TRACK,
    Colour,
    blank,
    disc,
    paint,
    segment,
    to_bytes,
)
from rlcore.envs.control.drawing import ring as circle
from rlcore.envs.hacking.traffic_model import EXIT, HIGHWAY_IN, LENGTH, LIMIT, RAMP, RAMP_IN

SCALE = 1.9 / (EXIT - HIGHWAY_IN)  # of the picture's half width, per metre
LEVEL, SLOPE = 0.15, 0.55  # height of the highway, and how much lower the ramp is per half width


def place(position: float, branch: float) -> tuple[float, float]:
    """Where a point of the road lies in the picture."""
    x = -0.95 + SCALE * (position - HIGHWAY_IN)
    below = SLOPE * SCALE * max(-position, 0.0) if branch == RAMP else 0.0
    return x, LEVEL - below


def draw_traffic(
    position: NDArray[np.float64],
    speed: NDArray[np.float64],
    kind: NDArray[np.float64],
    branch: NDArray[np.float64],
    size: int = 400,
) -> NDArray[np.uint8]:
    """Cars, slow ones amber and fast ones blue, the controlled ones with a ring."""
    picture = blank(size, PAPER)
    for start, lane in ((RAMP_IN, RAMP), (HIGHWAY_IN, 0.0)):
        paint(picture, segment(size, place(start, lane), place(0.0, lane), 0.09), TRACK)
    paint(picture, segment(size, place(0.0, 0.0), place(EXIT, 0.0), 0.09), TRACK)
    for p, v, what, lane in zip(position, speed, kind, branch, strict=True):
        if what == 0.0:
            continue
        share = min(float(v) / (0.4 * LIMIT), 1.0)
        colour: Colour = tuple(a + share * (b - a) for a, b in zip(AMBER, STEEL, strict=True))  # type: ignore[assignment]
        front, back = place(float(p), float(lane)), place(float(p) - LENGTH, float(lane))
        paint(picture, segment(size, back, front, 0.04), colour)
        if what == 2.0:
            middle = (0.5 * (front[0] + back[0]), 0.5 * (front[1] + back[1]))
            paint(picture, circle(size, middle, 0.055, 0.012), INK)
            paint(picture, disc(size, middle, 0.012), INK)
    return to_bytes(picture)
