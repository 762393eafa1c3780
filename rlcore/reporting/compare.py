"""Runs beside each other: one table and one figure from their `metrics.csv` files."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray

from rlcore.errors import FolderError, unknown_name
from rlcore.reporting.figures import PALETTE, axis_label, label_lines, new_figure, save, set_titles
from rlcore.reporting.loggers import COLUMNS
from rlcore.reporting.statistics import mean, stratified_bootstrap, summarise
from rlcore.reporting.tables import print_rows

SEED_FOLDER = re.compile(r"seed[-_]?\d+")
NAME = re.compile(r"(?P<label>.+?)[-_](?:seed[-_]?)?\d+(?:-[\d-]+)?")  # <label>-<seed>[-<time>]
GRID_POINTS = 200

Array = NDArray[np.float64]


class Series(NamedTuple):
    """The values of one tag in one run."""

    steps: Array  # [N] environment steps
    simulated: Array  # [N] s
    values: Array  # [N]


@dataclass(frozen=True, eq=False)
class Run:
    """A run folder, read."""

    folder: Path
    label: str
    """What the run's path has in common with those of its other seeds."""
    config: Mapping[str, Any]
    series: Mapping[str, Series]


class Comparison(NamedTuple):
    """The final value of one tag over the seeds of one label."""

    label: str
    seeds: int
    mean: float
    iqm: float
    """Interquartile mean."""
    low: float
    """Lower end of the 95 % bootstrap interval of the mean."""
    high: float
    steps: float
    """Environment steps at the final value, mean over seeds."""
    simulated: float
    """Physical time at the final value [s], mean over seeds."""


def load_runs(folders: Iterable[str | Path]) -> list[Run]:
    """Read every run folder (one that holds `metrics.csv`) at or below the given folders."""
    found: dict[Path, None] = {}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise FolderError(f"no folder at {folder}; give a run's folder, or one that holds runs")
        below = sorted(path.parent for path in folder.rglob("metrics.csv"))
        if not below:
            raise FolderError(f"no run at or below {folder}: none of its folders holds a metrics.csv")
        found |= dict.fromkeys(below)
    labels = unique_labels(list(found))
    return [Run(folder, labels[folder], read_config(folder), read_metrics(folder / "metrics.csv")) for folder in found]


def unique_labels(folders: Sequence[Path]) -> dict[Path, str]:
    """For each run, the last parts of its path without the seed: as many as tell the labels apart.

    The seed is a folder `seed-<n>` anywhere in the path; failing that, the end of the name, `<label>-<n>[-<time>]`.
    """
    keys = {folder: without_seed(folder.resolve().parts) for folder in folders}
    labels: dict[Path, str] = {}
    for folder, key in keys.items():
        others = {other for other in keys.values() if other != key}
        count = next((n for n in range(1, len(key)) if key[-n:] not in {other[-n:] for other in others}), len(key))
        labels[folder] = "/".join(key[-count:])
    return labels


def without_seed(parts: tuple[str, ...]) -> tuple[str, ...]:
    """The parts of a run's path without the one that names its seed."""
    kept = tuple(part for part in parts if not SEED_FOLDER.fullmatch(part))
    name = NAME.fullmatch(parts[-1]) if len(kept) == len(parts) else None
    return kept if name is None else (*kept[:-1], name["label"])


def read_config(folder: Path) -> dict[str, Any]:
    """The settings in `config.json`."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FolderError(f"cannot read {path}: {error.strerror}; is {folder} a run's folder?") from error
    except ValueError as error:
        raise FolderError(f"{path} is damaged: it is not JSON; run the experiment again") from error
    if not isinstance(config, dict):
        raise FolderError(f"{path} must hold one JSON object, got {type(config).__name__}; run the experiment again")
    return config


def read_metrics(path: Path) -> dict[str, Series]:
    """The series of a metrics file by tag; a torn last line is left out."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except OSError as error:
        raise FolderError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise FolderError(f"{path} is damaged: it is not text; run the experiment again") from error
    if not lines or lines[0].strip() != ",".join(COLUMNS):
        raise FolderError(f"{path} must begin with {','.join(COLUMNS)!r}; it is damaged, or not a run's")
    if not lines[-1].endswith("\n"):
        lines.pop()
    rows: dict[str, list[tuple[float, float, float]]] = {}
    for number, fields in enumerate(csv.reader(lines[1:]), start=2):
        try:
            step, simulated, tag, value = fields
            rows.setdefault(tag, []).append((float(step), float(simulated), float(value)))
        except ValueError as error:
            raise FolderError(f"{path} is damaged at line {number}; remove that line, or run it again") from error
    return {tag: Series(*np.array(table, dtype=np.float64).T) for tag, table in rows.items()}


def by_label(runs: Sequence[Run], tag: str) -> dict[str, list[Series]]:
    """The series of a tag, grouped by label; labels that never logged it are left out."""
    groups: dict[str, list[Series]] = {}
    for run in runs:
        if tag in run.series:
            groups.setdefault(run.label, []).append(run.series[tag])
    if not groups:
        raise unknown_name("tag", tag, {name for run in runs for name in run.series})
    return groups


def compare(runs: Sequence[Run], tag: str) -> list[Comparison]:
    """Aggregate the final value of `tag` over the seeds of each label."""
    table = []
    for label, group in by_label(runs, tag).items():
        s = summarise([series.values[-1] for series in group])
        steps, simulated = (float(np.mean([series[k][-1] for series in group])) for k in (0, 1))
        table.append(Comparison(label, s.n, s.mean, s.iqm, s.low, s.high, steps, simulated))
    return table


def print_comparison(table: Sequence[Comparison], tag: str, file: TextIO | None = None) -> None:
    """Print what `compare` returned."""
    headers = ("run", "seeds", f"{tag} mean", "IQM", "95 % interval of the mean", "steps", "simulated [s]")
    rows = [
        (
            c.label,
            str(c.seeds),
            f"{c.mean:.5g}",
            f"{c.iqm:.5g}",
            f"[{c.low:.5g}, {c.high:.5g}]" if c.seeds > 1 else "one seed",
            f"{c.steps:.0f}",
            f"{c.simulated:.5g}",
        )
        for c in table
    ]
    print_rows(headers, rows, file)


class Curve(NamedTuple):
    """The mean over seeds and its 95 % bootstrap interval along an axis."""

    x: Array  # [G]
    mean: Array  # [G]
    low: Array  # [G]
    high: Array  # [G]
    seeds: int


def mean_curve(group: Sequence[Series], x: Literal["simulated", "steps"]) -> Curve:
    """Average over seeds where all of them have values, linearly between logged points."""
    places = [getattr(series, x) for series in group]
    low, high = max(p[0] for p in places), min(p[-1] for p in places)
    grid = np.unique(np.concatenate(places))
    grid = grid[(grid >= low) & (grid <= high)]
    if len(grid) == 0:  # the seeds do not overlap: only their ends can be compared
        grid = np.array([high])
    elif len(grid) > GRID_POINTS:
        grid = np.linspace(low, high, GRID_POINTS)
    table = np.stack([np.interp(grid, p, series.values) for p, series in zip(places, group, strict=True)])  # [seeds, G]
    bands = np.array([stratified_bootstrap(column, mean) for column in table.T])  # [G, 2]
    return Curve(grid, table.mean(0), bands[:, 0], bands[:, 1], len(group))


def plot_comparison(
    runs: Sequence[Run],
    tag: str,
    path: str | Path,
    optimum: float | None = None,
    x: Literal["simulated", "steps"] = "simulated",
    title: str | None = None,
) -> None:
    """Draw the mean of `tag` over seeds for each label, with its interval and the known optimum; PNG, PDF and CSV."""
    curves = {label: mean_curve(group, x) for label, group in by_label(runs, tag).items()}
    figure, (axes,) = new_figure(1)
    set_titles(axes, title or axis_label(tag).split(" [")[0].capitalize(), seeds_line(curves), x, tag)
    draw_curves(figure, axes, curves, optimum)
    save(figure, Path(path))
    write_curves(curves, x, Path(path).with_suffix(".csv"))


class Panel(NamedTuple):
    """One pair of axes of a figure with several."""

    title: str
    runs: Sequence[Run]
    tag: str
    optimum: float | None


def plot_panels(panels: Sequence[Panel], path: str | Path, x: Literal["simulated", "steps"] = "simulated") -> None:
    """Draw several comparisons side by side; PNG, PDF and one CSV per panel."""
    figure, every = new_figure(len(panels))
    for number, (panel, axes) in enumerate(zip(panels, every, strict=True)):
        curves = {label: mean_curve(group, x) for label, group in by_label(panel.runs, panel.tag).items()}
        set_titles(axes, panel.title, seeds_line(curves), x, panel.tag)
        axes.locator_params(axis="x", nbins=5)  # numbers of six digits must not touch
        draw_curves(figure, axes, curves, panel.optimum)
        write_curves(curves, x, Path(path).with_name(f"{Path(path).stem}-{number + 1}.csv"))
    save(figure, Path(path))


def seeds_line(curves: Mapping[str, Curve]) -> str:
    """How many seeds, and what the band means."""
    counts = sorted({curve.seeds for curve in curves.values()})
    seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    many = counts[-1] > 1
    return f"mean of {seeds} seeds, band: 95 % bootstrap interval of the mean" if many else "one seed, no interval"


def draw_curves(figure: Any, axes: Any, curves: Mapping[str, Curve], optimum: float | None) -> None:
    """Lines with bands, the dashed optimum, and their names at the right."""
    labels = []
    for number, (label, curve) in enumerate(curves.items()):
        colour = PALETTE[number % len(PALETTE)]
        axes.plot(curve.x, curve.mean, color=colour, marker="o" if len(curve.x) == 1 else None)
        if curve.seeds > 1:
            axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.18, linewidth=0)
        labels.append((float(curve.mean[-1]), label, colour))
    if optimum is not None:
        axes.axhline(optimum, color="#222222", linestyle=(0, (4, 3)), linewidth=1.2)
        labels.append((optimum, f"optimum {optimum:.4g}", "#222222"))
    axes.set_xlim(left=min(0.0, *(float(curve.x[0]) for curve in curves.values())))
    label_lines(figure, axes, labels)


def write_curves(curves: Mapping[str, Curve], x: str, path: Path) -> None:
    """Save the drawn numbers beside the figure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["label", x, "mean", "low", "high", "seeds"])
        for label, c in curves.items():
            for row in zip(c.x, c.mean, c.low, c.high, strict=True):
                writer.writerow([label, *(repr(float(number)) for number in row), c.seeds])
