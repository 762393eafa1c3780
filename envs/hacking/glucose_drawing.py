"""The picture of a patient's last four hours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rlcore.envs.control.drawing import (
    AMBER,
    GREEN,
    INK,
    PAPER,
    STEEL,
    TRACK,
    blank,
    box,
    disc,
    paint,
    segment,
    to_bytes,
)

FLOOR, CEILING = -0.3, 0.92  # of the curve, in the picture
TOP = 400.0  # [mg/dL]


def draw_glucose(glucose: NDArray[np.float64], infusion: NDArray[np.float64], size: int = 400) -> NDArray[np.uint8]:
    """Glucose [mg/dL] and infusions as a share of the largest, both oldest first: a curve over its band, and bars."""

    def height(value: float) -> float:
        return FLOOR + (CEILING - FLOOR) * min(max(value, 0.0), TOP) / TOP

    picture = blank(size, PAPER)
    low, high = height(70.0), height(180.0)
    paint(picture, box(size, (0.0, 0.5 * (low + high)), (0.92, 0.5 * (high - low)), 0.02), GREEN, 0.16)
    for level in (0.0, 100.0, 200.0, 300.0, 400.0):
        paint(picture, segment(size, (-0.92, height(level)), (0.92, height(level)), 0.006), TRACK)
    x = np.linspace(-0.88, 0.88, len(glucose))
    half = 0.4 * float(x[1] - x[0])
    for at, share in zip(x, infusion, strict=True):
        tall = 0.5 * 0.45 * min(max(float(share), 0.0), 1.0)
        if tall > 0.002:
            paint(picture, box(size, (float(at), -0.9 + tall), (half, tall), 0.002), STEEL)
    paint(picture, segment(size, (-0.92, -0.905), (0.92, -0.905), 0.01), INK)
    y = [height(float(value)) for value in glucose]
    for k in range(len(y) - 1):
        paint(picture, segment(size, (float(x[k]), y[k]), (float(x[k + 1]), y[k + 1]), 0.024), INK)
    inside = 70.0 <= float(glucose[-1]) <= 180.0
    paint(picture, disc(size, (float(x[-1]), y[-1]), 0.04), GREEN if inside else AMBER)
    return to_bytes(picture)
