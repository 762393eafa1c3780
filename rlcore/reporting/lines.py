"""Figures of one number against another, such as an error against dt: lines, intervals, theory; PNG, PDF and CSV."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from rlcore.reporting.figures import INK, MUTED, PALETTE, label_lines, new_figure, save, set_titles

MARKER = 4.0  # points

STROKES: tuple[dict[str, Any], ...] = (
    {"linestyle": "-", "marker": "o"},
    {"linestyle": (0, (5, 1.5)), "marker": "s", "markerfacecolor": "white"},
    {"linestyle": (0, (1, 1.2)), "marker": "^"},
)
"""Of the lines that share a colour: the first seven of a chart, the next seven, and so on."""


@dataclass(frozen=True)
class Line:
    """One curve."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    """Lower end of the interval at each point; None draws no interval."""
    high: Sequence[float] | None = None
    theory: bool = False
    """Drawn thin, dashed and grey: what is known, beside what was measured."""


@dataclass(frozen=True)
class Chart:
    """One pair of axes."""

    title: str
    subtitle: str
    x: str
    y: str
    lines: Sequence[Line]
    log_x: bool = True
    log_y: bool = True
    known: float | None = None
    """A known value, drawn across."""


def plot_charts(charts: Sequence[Chart], path: str | Path) -> None:
    """Draw the charts side by side and write their numbers to a CSV file beside the picture."""
    figure, every = new_figure(len(charts))
    for chart, axes in zip(charts, every, strict=True):
        set_titles(axes, chart.title, chart.subtitle, chart.x, chart.y)
        axes.margins(x=0.03)
        if chart.log_x:
            axes.set_xscale("log")
        else:
            axes.locator_params(axis="x", nbins=6)  # room for numbers of steps
        if chart.log_y:
            axes.set_yscale("log")
        draw_lines(figure, axes, chart)
    save(figure, Path(path))
    write_lines(charts, Path(path).with_suffix(".csv"))


def draw_lines(figure: Any, axes: Any, chart: Chart) -> None:
    """The lines, their intervals, the known value, and the names at the right end of each."""
    labels, looks, drawn = [], product(STROKES, PALETTE), []
    for line in chart.lines:
        style, colour = ({"linestyle": (0, (2, 2)), "linewidth": 1.1}, MUTED) if line.theory else next(looks)
        drawn += axes.plot(line.x, line.y, color=colour, markersize=MARKER, **style)
        if line.low is not None and line.high is not None:
            axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.18, linewidth=0)
        rightmost = max(range(len(line.x)), key=lambda i: line.x[i])
        labels.append((float(line.y[rightmost]), line.label, colour))
    if chart.known is not None:
        axes.axhline(chart.known, color=INK, linestyle=(0, (4, 3)), linewidth=1.2)
        labels.append((chart.known, f"known {chart.known:.4g}", INK))
    label_lines(figure, axes, labels)
    show_hidden(axes, [artist for line, artist in zip(chart.lines, drawn, strict=True) if not line.theory])


def show_hidden(axes: Any, drawn: Sequence[Any]) -> None:
    """Give a line that later ones cover larger markers, so that it shows as rings around theirs."""
    places = [axes.transData.transform(artist.get_xydata()) for artist in drawn]  # each [N, 2] in pixels
    for i, place in enumerate(places):
        covers = [other for other in places[i + 1 :] if other.shape == place.shape]
        count = sum(bool(abs(other - place).max() < MARKER) for other in covers)
        drawn[i].set_markersize(MARKER * (1 + count))


def write_lines(charts: Sequence[Chart], path: Path) -> None:
    """The drawn numbers, one row per point."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["chart", "line", "x", "y", "low", "high"])
        for chart in charts:
            for line in chart.lines:
                for i, (x, y) in enumerate(zip(line.x, line.y, strict=True)):
                    ends = ["", ""] if line.low is None or line.high is None else [line.low[i], line.high[i]]
                    writer.writerow([chart.title, line.label, *(repr(float(v)) for v in (x, y)), *ends])
            if chart.known is not None:
                writer.writerow([chart.title, "known", "", repr(float(chart.known)), "", ""])
