"""Where data sets have been in their mazes: how much of the floor, and a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rlcore.data import Transitions
from rlcore.envs.maze import Layout
from rlcore.reporting.figures import new_figure, save, set_titles

PER_CELL = 4  # squares along the side of a cell


def visits(position: Tensor, maze: Layout) -> NDArray[np.float64]:  # [N, 2] -> [4 H, 4 W]
    """How often each square was visited, row 0 on top."""
    height, width = maze.walls.shape
    x, y = position.double().cpu().numpy().T
    box = ((-0.5 * height, 0.5 * height), (-0.5 * width, 0.5 * width))
    count: NDArray[np.float64] = np.histogram2d(-y, x, bins=(PER_CELL * height, PER_CELL * width), range=box)[0]
    return count


def coverage(position: Tensor, maze: Layout) -> float:
    """Share of the squares of the free cells that were visited."""
    free = np.kron(~maze.walls, np.ones((PER_CELL, PER_CELL), bool))
    return float((visits(position, maze)[free] > 0).mean())


def draw_visits(sets: Mapping[str, tuple[Transitions, Layout]], path: Path, *, side: float = 1.0) -> None:
    """One panel per data set: the logarithm of the visits to each square, and where a reward was paid.

    Cells have this side [m].
    """
    figure, panels = new_figure(len(sets))
    figure.set_size_inches(4.2 * len(sets), 4.2)
    for axes, (name, (rows, maze)) in zip(panels, sets.items(), strict=True):
        height, width = maze.walls.shape
        box = tuple(0.5 * side * end for end in (-width, width, -height, height))
        axes.imshow(np.where(maze.walls, 0.55, np.nan), cmap="Greys", vmin=0, vmax=1, extent=box)
        count = visits(rows.obs[:, :2] / side, maze)
        axes.imshow(np.log10(np.where(count > 0, count, np.nan)), cmap="Blues", vmin=-1, extent=box, zorder=1)
        paid = rows.next_obs[rows.reward > 0.0][:300, :2].cpu().numpy()
        axes.plot(*paid.T, ".", color="#D55E00", markersize=3)
        set_titles(axes, name, f"visits of {len(rows):,} rows, log scale; dots: arrivals", "x [m]", "y [m]")
        axes.grid(False)
    save(figure, path)
