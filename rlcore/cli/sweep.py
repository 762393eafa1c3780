"""The verb `sweep`: an experiment over settings and seeds, many at a time, on this machine or a Ray cluster.

Each cell is what `rlcore run` does with these settings and this seed, in a folder of its own; a cell whose worker dies
is tried again and goes on from its checkpoint, and so does a sweep that is started again with the same folder.
"""

from __future__ import annotations

import io
import itertools
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

from rlcore.cli.parser import Parser, check_output, write_output
from rlcore.cli.run import experiment_module, with_settings
from rlcore.errors import ConfigError, MissingExtraError, ProcessError, unknown_name

ANSWER = 30.0  # seconds that a cluster has to answer, the start of Python and Ray included
SHOWN = 6  # results in the table unless chosen


class Cell(NamedTuple):
    """One run of a sweep."""

    experiment: str
    preset: str
    settings: tuple[tuple[str, str], ...]
    seed: int
    folder: str

    @property
    def words(self) -> list[str]:
        """What `rlcore` is told; a folder that is there already is resumed."""
        if (Path(self.folder) / "config.json").exists():
            return ["run", "--resume", self.folder]
        settings = [word for name, value in self.settings for word in (f"--{name}", value)]
        return ["run", self.experiment, self.preset, "--seed", str(self.seed), "--out", self.folder, *settings]


def sweep_command(argv: Sequence[str]) -> int:
    """Run an experiment over settings and seeds in parallel; 1 if a cell failed."""
    parser = Parser("sweep", "EXPERIMENT [PRESET] [key=a,b,c ...] [options]", "Settings and seeds, many at a time.")
    parser.add_argument(
        "words", nargs="+", metavar="WORD", help="experiment, preset, and settings such as rate=0.1,0.3"
    )
    parser.add_argument("--seeds", default="0", metavar="A..B", help="seeds A to B, or how many from 0 on (default: 1)")
    parser.add_argument("--address", metavar="HOST:PORT", help="a running Ray cluster, or auto (default: this machine)")
    parser.add_argument("--cpus", type=float, default=1.0, help="CPUs of one run (default: %(default)s)")
    parser.add_argument("--gpus", type=float, default=0.0, help="GPUs of one run, such as 0.25 (default: %(default)s)")
    parser.add_argument("--retries", type=int, default=3, help="tries again after a lost worker (default: %(default)s)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the folder of all runs; an old one goes on")
    parser.add_argument("--tag", action="append", metavar="NAME", help="a result to show; may be repeated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the table as JSON")
    args = parser.read(argv)
    check_output(args.json)
    names = [word for word in args.words if "=" not in word]
    if not 1 <= len(names) <= 2 or args.retries < 0:
        raise ConfigError(f"name one experiment and at most one preset, and retries >= 0, got {names}, {args.retries}")
    experiment, preset = names[0], names[1] if len(names) > 1 else "quick"
    out = args.out or Path("runs") / experiment / f"sweep-{time.strftime('%Y%m%d-%H%M%S')}"
    cells = cells_of(experiment, preset, [word for word in args.words if "=" in word], seeds_of(args.seeds), out)
    found = run_cells(cells, args.address, args.cpus, args.gpus, args.retries)
    rows = table_of(cells, found)
    show(rows, args.tag)
    print(f"\nfolder:      {out}\nTensorBoard: tensorboard --logdir {out}")
    write_output(args.json, rows)
    failed = [(cell, told) for cell, (_, told) in zip(cells, found, strict=True) if told]
    for cell, told in failed:
        print(f"rlcore: failed: {cell.folder}: {told}", file=sys.stderr)
    return int(bool(failed))


def seeds_of(text: str) -> list[int]:
    """`0..4` is 0, 1, 2, 3, 4, and so is `5`; `0` alone is seed 0."""
    first, dots, last = text.partition("..")
    if not first.isdigit() or (dots and not (last.isdigit() and int(first) <= int(last))):
        raise ConfigError(f"--seeds must be a number of seeds or a range such as 0..4, got {text!r}")
    return list(range(int(first), int(last) + 1)) if dots else list(range(max(1, int(first))))


def cells_of(experiment: str, preset: str, grid: Sequence[str], seeds: Sequence[int], out: Path) -> list[Cell]:
    """Every combination of the settings, checked, with every seed."""
    module = experiment_module(experiment)
    if preset not in module.PRESETS:
        raise unknown_name(f"preset of {experiment}", preset, module.PRESETS)
    axes = [[(key, value) for value in values.split(",")] for key, _, values in (word.partition("=") for word in grid)]
    if len({axis[0][0] for axis in axes}) < len(axes):
        raise ConfigError(f"each setting must be given once, as key=a,b,c, got {' '.join(grid)}")
    found = []
    for settings in itertools.product(*axes):
        words = [word for key, value in settings for word in (f"--{key}", value)]
        with_settings(module.PRESETS[preset], words, f"rlcore run {experiment}")
        name = ",".join(f"{key}={value}".replace(os.sep, "_") for key, value in settings) or preset
        found += [Cell(experiment, preset, settings, k, str((out / name / f"run-{k}").absolute())) for k in seeds]
    return found


def work(cell: Cell) -> tuple[dict[str, float], str]:
    """One run, in whatever process this is: its result, or what went wrong."""
    from rlcore.cli import main
    from rlcore.training.files import read_json

    told = io.StringIO()
    with redirect_stderr(told), redirect_stdout(io.StringIO()):
        code = main(cell.words)
    if code:
        return {}, (told.getvalue().strip().splitlines() or [f"exit code {code}"])[-1]
    return read_json(Path(cell.folder) / f"seed-{cell.seed}" / "result.json"), ""


def run_cells(
    cells: Sequence[Cell], address: str | None, cpus: float, gpus: float, retries: int
) -> list[tuple[dict[str, float], str]]:
    """Results of all cells, in order, by Ray."""
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("a sweep needs Ray; install it with: pip install 'rlcore-lab[sweep]'") from error
    connect(ray, address)
    try:
        task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=retries)(work)
        waiting = {task.remote(cell): k for k, cell in enumerate(cells)}
        found: list[tuple[dict[str, float], str]] = [({}, "not run")] * len(cells)
        while waiting:
            (ready,), _ = ray.wait(list(waiting), num_returns=1)
            k = waiting.pop(ready)
            try:
                found[k] = ray.get(ready)
            except ray.exceptions.RayError as error:
                found[k] = {}, " ".join(str(error).split())[-300:]
            state = "failed" if found[k][1] else "done"
            print(f"{len(cells) - len(waiting)}/{len(cells)} {cells[k].folder} {state}", file=sys.stderr, flush=True)
    finally:
        ray.shutdown()
    return found


def connect(ray: Any, address: str | None) -> None:
    """Start Ray here, or join the cluster at an address, within bounded time."""
    try:
        if address is not None:
            probe(address)
        quiet = {"include_dashboard": False} if address is None else {}
        os.environ.setdefault("RAY_worker_niceness", "0")  # else its workers starve beside anything else
        ray.init(address=address, log_to_driver=False, logging_level="error", **quiet)
    except (OSError, ConnectionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ProcessError(
            f"no Ray cluster answers at {address or 'this machine'} within {ANSWER:g} s ({reason}); check the address "
            "with `ray status`, or leave --address out to use this machine"
        ) from error


def probe(address: str) -> None:
    """Raise unless something takes connections at HOST:PORT and a process of its own can join it there.

    Ray asks an address that takes connections and then says nothing again and again, for minutes.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), 10.0).close()
    words = f"import ray; ray.init(address={address!r}, log_to_driver=False, logging_level='error')"
    try:
        done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, timeout=ANSWER)
    except subprocess.TimeoutExpired as error:
        raise ConnectionError("it takes connections and says nothing") from error
    if done.returncode:
        raise ConnectionError((done.stderr.strip().splitlines() or ["no word from it"])[-1])


def table_of(cells: Sequence[Cell], found: Sequence[tuple[dict[str, float], str]]) -> list[dict[str, Any]]:
    """One row per combination: settings, seeds that finished, and their results summed up."""
    from rlcore.reporting.statistics import summarise

    rows = []
    for settings in dict.fromkeys(cell.settings for cell in cells):
        results = [r for cell, (r, told) in zip(cells, found, strict=True) if cell.settings == settings and not told]
        names = dict.fromkeys(name for result in results for name in result)
        summed = {name: summarise([r[name] for r in results if name in r])._asdict() for name in names}
        rows.append({"settings": dict(settings), "seeds": len(results), "results": summed})
    return rows


def show(rows: Sequence[dict[str, Any]], tags: Sequence[str] | None) -> None:
    """Print the table, with the results that were asked for, or the first few."""
    from rlcore.reporting.tables import print_rows

    known = list(dict.fromkeys(name for row in rows for name in row["results"]))
    for tag in tags or ():
        if tag not in known:
            raise unknown_name("result", tag, known)
    keys = list(dict.fromkeys(key for row in rows for key in row["settings"]))
    chosen = list(tags or known[:SHOWN])

    def cell(row: dict[str, Any], name: str) -> str:
        s = row["results"].get(name)
        if s is None:
            return ""
        return f"{s['mean']:.5g}" if row["seeds"] < 2 else f"{s['mean']:.5g} [{s['low']:.5g}, {s['high']:.5g}]"

    lines = [
        [*(row["settings"].get(k, "") for k in keys), str(row["seeds"]), *(cell(row, n) for n in chosen)]
        for row in rows
    ]
    print_rows([*keys, "seeds", *chosen], lines)
    if len(known) > len(chosen):
        print(f"more results: {', '.join(name for name in known if name not in chosen)}; choose with --tag")
