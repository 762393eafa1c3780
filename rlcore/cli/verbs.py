"""The verbs `list`, `compare` and `verify`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from rlcore.cli.parser import Parser, check_output, write_output
from rlcore.errors import UnknownNameError, unknown_name

if TYPE_CHECKING:
    from types import ModuleType

SYSTEMS = ("foundation", "martingale", "integral-rl", "wsrl", "nash", "orpo", "hot-loop")


def list_command(argv: Sequence[str]) -> int:
    """Print the environments, agents and experiments."""
    from rlcore.reporting.listing import agents, environments, experiments

    Parser("list", "", "Environments, agents and experiments, each with one line.").read(argv)
    groups = {"environments": environments(), "agents": agents(), "experiments": experiments()}
    width = max((len(name) for entries in groups.values() for name in entries), default=0)
    for title, entries in groups.items():
        print(f"{title}:" if entries else f"{title}: none yet")
        for name, summary in entries.items():
            print(f"  {name:{width}}  {summary}")
    return 0


def compare_command(argv: Sequence[str]) -> int:
    """One table and one figure over recorded runs."""
    parser = Parser("compare", "RUN... [options]", "One table and one figure over recorded runs.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders, or folders that hold runs")
    parser.add_argument("--tag", default="eval/return", help="the metric to compare (default: %(default)s)")
    parser.add_argument("--out", type=Path, metavar="FILE.png", help="where to draw the figure")
    parser.add_argument("--optimum", type=float, metavar="NUMBER", help="a known optimum, drawn across the figure")
    parser.add_argument(
        "--x", choices=("simulated", "steps"), default="simulated", help="physical time or environment steps"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the table as JSON")
    args = parser.read(argv)
    check_output(args.out, args.json)
    from rlcore.reporting.compare import compare, load_runs, plot_comparison, print_comparison

    runs = load_runs(args.runs)
    table = compare(runs, args.tag)
    print_comparison(table, args.tag)
    if args.out is not None:
        plot_comparison(runs, args.tag, args.out, args.optimum, args.x)
        print(f"\nfigure: {args.out}")
    write_output(args.json, [{"tag": args.tag} | line._asdict() for line in table])
    return 0


def verify_command(argv: Sequence[str]) -> int:
    """Compute the acceptance table; 1 if a row fails."""
    parser = Parser("verify", "[SYSTEM] [options]", "The acceptance table, each row computed afresh.")
    parser.add_argument("system", nargs="?", help=f"one of {', '.join(SYSTEMS)} (default: all)")
    parser.add_argument("--rows", metavar="ID,...", help="only these rows")
    parser.add_argument("--slow", action="store_true", help="the slow rows too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the table as JSON")
    args = parser.read(argv)
    check_output(args.json)
    if args.system is not None and args.system not in SYSTEMS:
        raise unknown_name("system", args.system, SYSTEMS)
    from rlcore.reporting.acceptance import ROWS, print_table, run_rows

    chosen = SYSTEMS if args.system is None else (args.system,)
    found = [name for name in chosen if optional_module(f"rlcore.experiments.acceptance.{name.replace('-', '_')}")]
    if not found:
        raise UnknownNameError(
            f"no acceptance rows are written yet for {', '.join(chosen)}; see `rlcore verify --help`"
        )
    ids = None if args.rows is None else [name.strip() for name in args.rows.split(",") if name.strip()]
    rows = [row for name in found for row in ROWS if row.system == name]
    results = run_rows(
        rows, ids=ids, slow=args.slow, on_row=lambda r: print(f"{r.row.id}", file=sys.stderr, flush=True)
    )
    print_table(results)
    write_output(args.json, [result.to_json() for result in results])
    return int(any(result.failed for result in results))


def optional_module(name: str) -> ModuleType | None:
    """The module, or None if it is not written yet; an error inside it is not hidden."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            return None
        raise
