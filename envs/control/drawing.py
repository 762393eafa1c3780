"""Antialiased drawing with NumPy alone: signed distances, turned into coverage at the edge of a pixel.

Coordinates are x to the right and y up, from (-1, -1) to (1, 1). A shape is its signed distance to every pixel,
negative inside, in the same unit.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]  # [H, W], or [H, W, 3] for a picture with values in [0, 1]
Colour = tuple[float, float, float]
Point = tuple[float, float]

PAPER: Colour = (0.98, 0.98, 0.97)
TRACK: Colour = (0.88, 0.89, 0.91)
INK: Colour = (0.16, 0.19, 0.24)
STEEL: Colour = (0.27, 0.45, 0.70)
AMBER: Colour = (0.93, 0.55, 0.18)
GREEN: Colour = (0.25, 0.65, 0.43)


@lru_cache(maxsize=4)
def pixels(size: int) -> tuple[Field, Field]:
    """x and y of the centres of the pixels, row 0 on top: [H, W] each."""
    centre = ((np.arange(size) + 0.5) * (2.0 / size) - 1.0).astype(np.float32)
    x, y = np.meshgrid(centre, -centre)
    return x, y


def blank(size: int, colour: Colour) -> Field:
    """A picture of one colour."""
    return np.full((size, size, 3), colour, np.float32)


def disc(size: int, centre: Point, radius: float) -> Field:
    """Signed distance to a disc."""
    x, y = pixels(size)
    distance: Field = (np.hypot(x - centre[0], y - centre[1]) - radius).astype(np.float32)
    return distance


def segment(size: int, start: Point, end: Point, width: float) -> Field:
    """Signed distance to a line with round ends."""
    x, y = pixels(size)
    (ax, ay), (bx, by) = start, end
    dx, dy = bx - ax, by - ay
    along = ((x - ax) * dx + (y - ay) * dy) / max(dx * dx + dy * dy, 1e-12)
    share = np.clip(along, 0.0, 1.0)
    return (np.hypot(x - ax - share * dx, y - ay - share * dy) - 0.5 * width).astype(np.float32)


def ring(size: int, centre: Point, radius: float, width: float) -> Field:
    """Signed distance to a circle drawn with a pen of this width."""
    return (np.abs(disc(size, centre, radius)) - 0.5 * width).astype(np.float32)


def paint(picture: Field, distance: Field, colour: Colour, opacity: float | Field = 1.0) -> None:
    """Lay a colour over the inside of a shape, in place."""
    pixel = 2.0 / picture.shape[0]
    cover = (np.clip(0.5 - distance / pixel, 0.0, 1.0) * opacity)[..., None]
    picture += cover * (np.asarray(colour, np.float32) - picture)


def to_bytes(picture: Field) -> NDArray[np.uint8]:
    """Values in [0, 1] as bytes, rounded."""
    return (np.clip(picture, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


@lru_cache(maxsize=4)
def pendulum_scene(size: int, length: float) -> Field:
    """What does not move: the path of the tip, and a mark where it should come to rest."""
    picture = blank(size, PAPER)
    paint(picture, ring(size, (0.0, 0.0), length, 0.012), TRACK)
    paint(picture, segment(size, (0.0, length + 0.08), (0.0, length + 0.13), 0.022), GREEN)
    paint(picture, ring(size, (0.0, length), 0.085, 0.012), GREEN, 0.55)
    return picture


def draw_pendulum(angle: float, *, trail: float = 0.0, size: int = 400, length: float = 0.74) -> NDArray[np.uint8]:
    """A rod at `angle` [rad] from upright, positive anticlockwise, and a fading arc of `trail` [rad] behind its tip."""
    picture = pendulum_scene(size, length).copy()
    x, y = pixels(size)
    if abs(trail) > 1e-3:
        bearing = np.arctan2(-x, y)  # angle of each pixel, as the rod's
        behind = np.mod(np.sign(trail) * (angle - bearing), 2.0 * np.pi)
        paint(picture, ring(size, (0.0, 0.0), length, 0.05), AMBER, 0.8 * np.clip(1.0 - behind / abs(trail), 0.0, 1.0))
    tip = (-length * float(np.sin(angle)), length * float(np.cos(angle)))
    paint(picture, segment(size, (0.0, 0.0), tip, 0.085), STEEL)
    paint(picture, disc(size, tip, 0.085), AMBER)
    paint(picture, disc(size, (tip[0] - 0.025, tip[1] + 0.028), 0.022), PAPER, 0.55)
    paint(picture, disc(size, (0.0, 0.0), 0.06), INK)
    paint(picture, disc(size, (0.0, 0.0), 0.022), PAPER)
    return to_bytes(picture)


def box(size: int, centre: Point, half: Point, corner: float) -> Field:
    """Signed distance to an upright rectangle of these half sides with round corners."""
    x, y = pixels(size)
    dx, dy = np.abs(x - centre[0]) - (half[0] - corner), np.abs(y - centre[1]) - (half[1] - corner)
    outside = np.hypot(np.maximum(dx, 0.0), np.maximum(dy, 0.0))
    distance: Field = (outside + np.minimum(np.maximum(dx, dy), 0.0) - corner).astype(np.float32)
    return distance


@lru_cache(maxsize=4)
def cart_pole_scene(size: int, end: float) -> Field:
    """What does not move: the rail, its ends and its middle."""
    picture = blank(size, PAPER)
    paint(picture, segment(size, (-1.0, -0.13), (1.0, -0.13), 0.016), TRACK)
    for side in (-end, end):
        paint(picture, segment(size, (side, -0.19), (side, -0.07), 0.022), INK, 0.6)
    paint(picture, segment(size, (0.0, -0.19), (0.0, -0.16), 0.022), GREEN)
    return picture


def draw_cart_pole(position: float, angle: float, *, length: float, rail: float, size: int = 400) -> NDArray[np.uint8]:
    """A cart at `position` [m] on a rail that ends at +-`rail` [m], its rod at `angle` [rad], positive to the right.

    The rail spans the picture, but the rod is never drawn larger than fits above and below it.
    """
    scale = min(0.88 / rail, 0.8 / length)  # of the picture's half width, per metre
    picture = cart_pole_scene(size, rail * scale).copy()
    x = position * scale
    tip = (x + length * scale * float(np.sin(angle)), length * scale * float(np.cos(angle)))
    for wheel in (x - 0.09, x + 0.09):
        paint(picture, disc(size, (wheel, -0.085), 0.042), INK)
    paint(picture, box(size, (x, 0.0), (0.17, 0.075), 0.025), INK)
    paint(picture, segment(size, (x, 0.0), tip, 0.05), STEEL)
    paint(picture, disc(size, tip, 0.045), AMBER)
    paint(picture, disc(size, (x, 0.0), 0.038), PAPER)
    paint(picture, disc(size, (x, 0.0), 0.016), INK)
    return to_bytes(picture)
