"""What all makers of maze data have in common: which sets to make, what is refused, the table and the picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rlcore.data import Transitions
from rlcore.envs.maze import LAYOUTS, Layout, layout
from rlcore.errors import ConfigError, unknown_name
from rlcore.experiments.maze_figures import draw_visits
from rlcore.interop.minari_write import check_root
from rlcore.reporting.tables import print_rows
from rlcore.training.recorder import Recorder

MAZES = ("umaze", "medium", "large")
Kind = TypeVar("Kind", bound=str)
DRAWN = 100_000  # rows of a set that are drawn


@dataclass(frozen=True)
class MazeSets:
    """Which sets to make."""

    mazes: tuple[str, ...] = MAZES
    """Of umaze, medium and large."""
    steps: int = 1_000_000
    """Rows of each set, rounded up to whole steps of all paths."""
    root: str = ""
    """Folder to write to; empty: Minari's own."""


def check_set(maze: str, kind: str, kinds: Sequence[str]) -> None:
    """Raise unless there is such a set."""
    if f"{maze}_far" not in LAYOUTS:
        raise unknown_name("maze", maze, MAZES)
    if kind not in kinds:
        raise unknown_name("kind of data", kind, kinds)


def check_paths(steps: int, paths: int, name: str) -> None:
    """Raise unless every one of the paths makes a step at least; `name` is what the setting is called."""
    if min(steps, paths) < 1 or paths > steps:
        raise ConfigError(f"need steps >= {name} >= 1, got {steps} and {paths}")


def asked(sets: MazeSets, kinds: Sequence[Kind]) -> list[tuple[str, Kind]]:
    """The sets to make as maze and kind; raises unless there is one, and a folder to write it to."""
    if not sets.mazes or not kinds:
        raise ConfigError("give at least one maze and one kind of data")
    check_root(sets.root or None)
    return [(maze, kind) for maze in sets.mazes for kind in kinds]


class Report:
    """Collects what is in the sets of a run; `side` is the side of a cell [m]."""

    def __init__(self, side: float = 1.0) -> None:
        self.side, self.found = side, dict[str, float]()
        self.table: list[Sequence[str]] = []
        self.drawn: dict[str, tuple[Transitions, Layout]] = {}
        self.columns: list[str] = ["data set"]

    def add(self, maze: str, kind: str, name: str, rows: Transitions, figures: Mapping[str, float]) -> None:
        """One set more, called `name`."""
        print(f"made {name}", flush=True)
        self.columns = ["data set", *figures]
        self.drawn[f"{maze} {kind}"] = (rows[:DRAWN], layout(f"{maze}_far"))
        self.found |= {f"{maze}-{kind}/{key}": value for key, value in figures.items()}
        self.table.append([name, *(f"{value:.4g}" for value in figures.values())])

    def finish(self, folder: Path, recorder: Recorder) -> dict[str, float]:
        """Draw and print; returns every figure. `folder` is that of the last set."""
        if (path := recorder.figure_path("visits")) is not None:
            draw_visits(self.drawn, path, side=self.side)
        print_rows(self.columns, self.table)
        print(f"in {folder.parents[1]}")
        return recorder.finish(self.found)
