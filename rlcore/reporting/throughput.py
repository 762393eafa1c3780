"""The figure of a benchmark: rates against the batch, one pair of axes for each problem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlcore.reporting.lines import Chart, Line, plot_charts

RATE = "steps/s"


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> bool:
    """Write the figure; False if no row has both a rate and a batch."""
    found = charts(rows)
    if found:
        plot_charts(found, path)
    return bool(found)


def charts(rows: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """One chart for each problem, one line with quartiles for each workload, and the machine's limit if it is known."""
    problems: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if RATE in row and "batch" in row:
            problems.setdefault(str(row.get("what") or row["benchmark"]), []).append(row)
    found = []
    for what, members in problems.items():
        names = dict.fromkeys(str(row["workload"]) for row in members)
        lines = [line_of(name, [row for row in members if row["workload"] == name]) for name in names]
        limits = {float(row["batch"]): float(row["limit"]) for row in members if "limit" in row}
        if limits:
            lines.append(Line("limit", list(limits), list(limits.values()), theory=True))
        unit = f"{members[0].get('unit', 'steps')} per {'CPU ' if members[0].get('clock') == 'cpu' else ''}second"
        axis = str(members[0].get("axis", "batch"))
        found.append(Chart(what, "median and quartiles over rounds", axis, f"{unit} [1/s]", lines))
    return found


def line_of(name: str, rows: Sequence[Mapping[str, Any]]) -> Line:
    """The rates of one workload, by batch."""
    ordered = sorted(rows, key=lambda row: float(row["batch"]))
    x, y, low, high = (
        [float(row.get(key, row[RATE])) for row in ordered]
        for key in ("batch", RATE, "lower quartile", "upper quartile")
    )
    return Line(name, x, y, low, high)
