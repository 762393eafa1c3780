"""The one style of all figures: quiet axes, lines labelled at their ends, colours for the colour-blind too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlcore.errors import FolderError

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
"""Okabe and Ito, "Color universal design", 2008, without its yellow."""

INK, MUTED, GRID = "#222222", "#666666", "#e3e3e3"

STYLE: Any = {
    "font.size": 10,
    "font.family": "sans-serif",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "white",
    "pdf.fonttype": 42,
}

UNITS = {
    "eval/return": "return",
    "eval/average_reward": "average reward [1/s]",
    "eval/gap": "gap to the optimum",
    "data/log10_share": "log10 of the share",
    "time/fps": "environment steps per second [1/s]",
    "simulated": "simulated time [s]",
    "steps": "environment steps",
}


def axis_label(name: str) -> str:
    """What to write at an axis that shows a tag: its name with its unit, or the tag's last part in words.

    What has its unit in brackets already, such as "speed [rad/s]", stays.
    """
    if "[" in name:
        return name
    return UNITS.get(name, name.rsplit("/", 1)[-1].replace("_", " "))


def new_figure(panels: int, *, solid: bool = False) -> tuple[Any, list[Any]]:
    """A figure and its axes in rows of up to four, in the common style; draws to files only, never to a screen.

    `solid` asks for axes in three dimensions.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        rows = -(-panels // 4)
        columns = -(-panels // rows)
        figure = Figure(figsize=(7.2 if panels == 1 else 6.4 * columns, 4.2 * rows), layout="constrained")
        FigureCanvasAgg(figure)
        projection = {"projection": "3d"} if solid else None
        every = list(figure.subplots(rows, columns, squeeze=False, subplot_kw=projection).flat)
        for spare in every[panels:]:
            spare.remove()
        return figure, every[:panels]


def set_titles(axes: Any, title: str, subtitle: str, x: str, y: str) -> None:
    """A title, a line of smaller print under it, and the names of both axes."""
    axes.set_xlabel(axis_label(x))
    axes.set_ylabel(axis_label(y))
    place: Any = {"xycoords": "axes fraction", "textcoords": "offset points"}
    axes.annotate(title, (0, 1), (0, 22), weight="bold", size=12, color=INK, **place)
    axes.annotate(subtitle, (0, 1), (0, 8), size=9, color=MUTED, **place)
    axes.margins(x=0.0)


def label_lines(figure: Any, axes: Any, labels: Sequence[tuple[float, str, str]]) -> None:
    """Write (height, text, colour) right of the axes, each at its height, pushed apart where they would overlap."""
    figure.canvas.draw()
    left = axes.get_xlim()[0]
    pixels = axes.get_window_extent().height
    gap = 14.0 * figure.dpi / 72.0 / pixels  # one line of text, in axes heights
    order = sorted(range(len(labels)), key=lambda i: labels[i][0])
    to_axes = axes.transData - axes.transAxes  # whatever the scale of the axis
    places = [min(1.0, max(0.0, float(to_axes.transform((left, labels[i][0]))[1]))) for i in order]
    for k in range(1, len(places)):
        places[k] = max(places[k], places[k - 1] + gap)
    if places:
        places[-1] = min(places[-1], 1.0)
    for k in range(len(places) - 2, -1, -1):
        places[k] = min(places[k], places[k + 1] - gap)
    for i, place in zip(order, places, strict=True):
        _, text, colour = labels[i]
        where: Any = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "center"}
        axes.annotate(text, (1, place), (6, 0), color=colour, **where)


def save(figure: Any, path: Path) -> None:
    """Write `path` as PNG and as PDF."""
    import matplotlib

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with matplotlib.rc_context(STYLE):
            figure.savefig(path.with_suffix(".png"), dpi=160)
            figure.savefig(path.with_suffix(".pdf"), metadata={"CreationDate": None})
    except OSError as error:
        raise FolderError(f"cannot write the figure {path}: {error.strerror}; choose another folder") from error
