"""The verb `bench`: throughput beside the peers installed, as a table, as JSON and as a figure."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from rlcore.cli.parser import Parser, check_output, write_output
from rlcore.errors import unknown_name

ONLY_IN_JSON = {"ratio", "ratio low", "ratio high", "rounds", "load", "device", "note"}
"""What a table has no room for; notes stand below it."""


def bench_command(argv: Sequence[str]) -> int:
    """Measure throughput beside the peers installed."""
    from rlcore.reporting.listing import benchmarks

    words = "[NAME] [--json FILE] [--figure FILE]"
    parser = Parser("bench", words, "Throughput beside the peers installed, in one run.")
    parser.add_argument("name", nargs="?", help="one benchmark (default: all); `make bench-peers` installs the peers")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the rows and the machine as JSON")
    parser.add_argument(
        "--figure", type=Path, metavar="FILE.png", help="where to draw rates by batch (default: beside the JSON)"
    )
    args = parser.read(argv)
    check_output(args.json, args.figure)
    known = {name.replace("_", "-"): summary for name, summary in benchmarks().items()}
    name = None if args.name is None else args.name.replace("_", "-")
    if name is not None and name not in known:
        raise unknown_name("benchmark", args.name, known)
    rows = [row for one in (known if name is None else [name]) for row in measured(one, known[one])]
    machine = import_module("rlcore.experiments.benchmark.machine").machine()._asdict()
    show(rows, machine)
    write_output(args.json, {"date": datetime.now(UTC).isoformat("T", "seconds"), "machine": machine, "rows": rows})
    figure = args.figure or (None if args.json is None else args.json.with_suffix(".png"))
    if figure is not None:
        from rlcore.reporting.throughput import draw

        drawn = draw(rows, figure)
        print(f"figure: {figure}" if drawn else "no figure: no row has a rate and a batch")
    return 0


def measured(name: str, summary: str) -> list[dict[str, Any]]:
    """The rows of one benchmark."""
    print(f"{name}: {summary}", file=sys.stderr, flush=True)
    module = import_module(f"rlcore.experiments.benchmark.{name.replace('-', '_')}")
    return [{"benchmark": name} | dict(row) for row in module.measure()]


def show(rows: Sequence[dict[str, Any]], machine: dict[str, Any]) -> None:
    """A table of what was measured, what is missing, and the machine."""
    from rlcore.reporting.tables import print_rows

    columns = [c for c in dict.fromkeys(column for row in rows for column in row) if c not in ONLY_IN_JSON]
    print_rows(columns, [[shown(row.get(column, "")) for column in columns] for row in rows])
    for note in dict.fromkeys(f"{row['workload']}: {row['note']}" for row in rows if row.get("note")):
        print(note)
    print("machine: " + ", ".join(f"{key} {shown(value)}" for key, value in machine.items()))


def shown(value: object) -> str:
    """Numbers with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
