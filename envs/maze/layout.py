"""Where the walls of a maze are, and where a ball may begin and should go."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rlcore.errors import ConfigError, unknown_name

Cell = tuple[int, int]  # row from the top, column from the left

_UMAZE = """
#####
#...#
###.#
#...#
#####
"""
_OPEN = """
#######
#.....#
#.....#
#.....#
#######
"""
_MEDIUM = """
########
#..##..#
#..#...#
##...###
#..#...#
#.#..#.#
#...#..#
########
"""
_LARGE = """
############
#....#.....#
#.##.#.#.#.#
#......#...#
#.####.###.#
#..#.#.....#
##.#.#.#.###
#..#...#...#
############
"""
_SOME_MEDIUM: tuple[Cell, ...] = ((2, 6), (5, 1), (6, 5))
_SOME_LARGE: tuple[Cell, ...] = ((1, 6), (3, 5), (3, 10), (5, 2), (7, 4), (7, 6), (7, 9))


def marked(drawing: str, **cells: tuple[Cell, ...]) -> str:
    """The drawing with these letters in these cells."""
    rows = [list(row) for row in drawing.split()]
    for letter, places in cells.items():
        for row, column in places:
            rows[row][column] = letter
    return "\n".join("".join(row) for row in rows)


LAYOUTS: dict[str, tuple[str, ...]] = {
    name: tuple(drawing.split())
    for name, drawing in {
        "umaze": _UMAZE,
        "open": _OPEN,
        "medium": _MEDIUM,
        "large": _LARGE,
        "open_diverse_g": _OPEN.replace(".", "G").replace("G", "R", 1),
        "open_diverse_gr": _OPEN.replace(".", "C"),
        "medium_diverse_g": marked(_MEDIUM, R=((1, 1),), G=_SOME_MEDIUM),
        "medium_diverse_gr": marked(_MEDIUM, C=((1, 1), *_SOME_MEDIUM)),
        "large_diverse_g": marked(_LARGE, R=((1, 1),), G=_SOME_LARGE),
        "large_diverse_gr": marked(_LARGE, C=((1, 1), *_SOME_LARGE)),
        "umaze_far": marked(_UMAZE, R=((1, 1),), G=((3, 1),)),
        "medium_far": marked(_MEDIUM, R=((1, 1),), G=((6, 6),)),
        "large_far": marked(_LARGE, R=((1, 1),), G=((7, 10),)),
    }.items()
}
"""Rows by name. The last three go from one corner to the far one; all others are Gymnasium-Robotics'."""


@dataclass(frozen=True)
class Layout:
    """Square cells of 1 m around the origin: x to the right, y up, row 0 on top.

    '#' is a wall, '.' is free, 'R' a start, 'G' a goal, 'C' both. Without any letter every free cell is both; where
    only starts or only goals are marked, every unmarked free cell is the other.
    """

    rows: tuple[str, ...]

    def __post_init__(self) -> None:
        rows = self.rows
        if not rows or any(len(row) != len(rows[0]) for row in rows) or set("".join(rows)) - set("#.RGC"):
            raise ConfigError(f"a maze needs rows of one length made of '#.RGC', got {'/'.join(rows)!r}")
        border = rows[0] + rows[-1] + "".join(row[0] + row[-1] for row in rows)
        if set(border) != {"#"}:
            raise ConfigError(f"a maze must be closed by walls '#' all around, got {'/'.join(rows)!r}")
        if not self.goals or any(set(self.starts) <= {goal} for goal in self.goals):
            raise ConfigError(f"a maze needs a goal, and a start apart from each goal, got {'/'.join(rows)!r}")

    @cached_property
    def walls(self) -> NDArray[np.bool_]:  # [H, W]
        return np.array([[letter == "#" for letter in row] for row in self.rows])

    def cells(self, letters: str) -> tuple[Cell, ...]:
        """The cells marked with any of these letters, row by row."""
        return tuple((i, j) for i, row in enumerate(self.rows) for j, letter in enumerate(row) if letter in letters)

    @cached_property
    def starts(self) -> tuple[Cell, ...]:
        return self.cells("RC") or self.cells(".")

    @cached_property
    def goals(self) -> tuple[Cell, ...]:
        return self.cells("GC") or self.cells(".")

    def centre(self, cell: Cell) -> tuple[float, float]:  # (x, y) m
        height, width = self.walls.shape
        return cell[1] + 0.5 - 0.5 * width, 0.5 * height - cell[0] - 0.5


def layout(maze: str) -> Layout:
    """The layout of this name, or the one that is drawn: rows joined by '/'."""
    if not isinstance(maze, str):
        raise ConfigError(f"maze must be a name or a drawing, got {maze!r}; known: {', '.join(LAYOUTS)}")
    if maze in LAYOUTS:
        return Layout(LAYOUTS[maze])
    if "/" not in maze:
        raise unknown_name("maze", maze, LAYOUTS)
    return Layout(tuple(maze.split("/")))
