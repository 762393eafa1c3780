"""The picture of an account: what the backtest says beside what is there, and the weight beside the signal."""

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
    Colour,
    blank,
    box,
    disc,
    paint,
    segment,
    to_bytes,
)

ZERO, REACH = 0.15, 0.7  # height of the line of no gain, and of a gain of 1


def draw_market(paper: float, wealth: float, weight: float, signal: float, size: int = 400) -> NDArray[np.uint8]:
    """Gains on paper (amber) and in truth (green, blue below zero) as bars; weight and signal in [-1, 1] below."""
    picture = blank(size, PAPER)
    for level in (-1.0, -0.5, 0.5, 1.0):
        y = ZERO + REACH * level
        paint(picture, segment(size, (-0.8, y), (0.8, y), 0.006), TRACK)
    bars: tuple[tuple[float, float, Colour], ...] = (
        (-0.35, paper, AMBER),
        (0.35, wealth, GREEN if wealth > 0 else STEEL),
    )
    for x, gain, colour in bars:
        half = 0.5 * REACH * min(abs(gain), 1.1)
        up = 1.0 if gain > 0 else -1.0
        paint(picture, box(size, (x, ZERO + up * half), (0.22, max(half, 0.004)), 0.01), colour)
    paint(picture, segment(size, (-0.8, ZERO), (0.8, ZERO), 0.012), INK)
    paint(picture, segment(size, (-0.8, -0.82), (0.8, -0.82), 0.02), TRACK)
    paint(picture, disc(size, (0.8 * min(max(signal, -1.0), 1.0), -0.82), 0.03), AMBER)
    at = 0.8 * min(max(weight, -1.0), 1.0)
    paint(picture, segment(size, (at, -0.9), (at, -0.74), 0.03), INK)
    return to_bytes(picture)
