"""The command line: list, run, compare, verify, bench. Each verb imports what it needs and no more."""

from __future__ import annotations

import argparse
import io
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import fields, replace
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rlcore.errors import CheckpointError, ConfigError, FolderError, RlcoreError, UnknownNameError, unknown_name

if TYPE_CHECKING:
    from types import ModuleType

USAGE = """usage: rlcore VERB ...

  list                                   environments, agents and experiments, each with one line
  run EXPERIMENT [quick|paper] [...]     run an experiment over seeds and record it
  compare RUN... [--tag TAG] [...]       one table and one figure over recorded runs
  verify [SYSTEM] [--rows A,B] [--slow]  the acceptance table; exit code 0 only when every row holds
  bench [NAME]                           throughput beside the peers installed

`rlcore VERB --help` says more."""

SYSTEMS = ("foundation", "martingale", "integral-rl", "wsrl", "nash", "orpo", "hot-loop")


class Parser(argparse.ArgumentParser):
    """An argparse parser whose complaints are `ConfigError`s and whose unknown options come with a suggestion."""

    def __init__(self, verb: str, words: str, description: str) -> None:
        usage = f"rlcore {verb} {words}".strip()
        super().__init__(f"rlcore {verb}", usage, description, allow_abbrev=False, add_help=verb != "run")

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see `{self.prog} --help`")

    def options(self) -> list[str]:
        return [name for action in self._actions for name in action.option_strings if name.startswith("--")]

    def read(self, argv: Sequence[str]) -> argparse.Namespace:
        """Parse all of `argv`."""
        known, rest = self.parse_known_args(argv)
        if rest:
            raise unknown_name(f"option of `{self.prog}`", rest[0].partition("=")[0], self.options())
        return known


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns 0, 1 (an acceptance row fails), 2 (a mistake of the user) or 130 (Ctrl-C)."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if not words or words[0] in ("-h", "--help", "help"):
            print(USAGE)
            return 0
        if words[0] == "--version":
            from rlcore import __version__

            print(__version__)
            return 0
        if words[0] not in VERBS:
            raise unknown_name("verb", words[0], VERBS)
        return VERBS[words[0]](words[1:])
    except RlcoreError as error:
        print(f"rlcore: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        print(f"rlcore: interrupted{''.join(f'; {text}' for text in interrupt.args)}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone
        sys.stderr.close()
        return 0


def list_command(argv: Sequence[str]) -> int:
    from rlcore.reporting.listing import agents, environments, experiments

    Parser("list", "", "Environments, agents and experiments, each with one line.").read(argv)
    groups = {"environments": environments(), "agents": agents(), "experiments": experiments()}
    width = max((len(name) for entries in groups.values() for name in entries), default=0)
    for title, entries in groups.items():
        print(f"{title}:" if entries else f"{title}: none yet")
        for name, summary in entries.items():
            print(f"  {name:{width}}  {summary}")
    return 0


def run_command(argv: Sequence[str]) -> int:
    parser = Parser("run", "[EXPERIMENT] [PRESET] [options] [--SETTING VALUE ...]", "Run an experiment and record it.")
    parser.add_argument("--seeds", type=int, metavar="N", help="how many seeds (default: 1)")
    parser.add_argument("--seed", type=int, metavar="K", help="the first seed (default: 0)")
    parser.add_argument("--device", help="cpu, cuda or cuda:0 (default: what the experiment's settings say)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="a new folder (default: runs/EXPERIMENT/PRESET-TIME)")
    parser.add_argument("--resume", type=Path, metavar="RUN", help="the folder of a run that was stopped")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results as JSON")
    words = [*takewhile(lambda word: not word.startswith("-"), argv)]
    wants_help = "-h" in argv or "--help" in argv
    if wants_help:
        print(parser.format_help())
        if not words:
            return 0
    args, settings = parser.parse_known_args([word for word in argv[len(words) :] if word not in ("-h", "--help")])
    check_output(args.json)
    if len(words) > 2 or not (words or args.resume):
        raise ConfigError(
            f"name one experiment and at most one preset before the options, got {words}; see `rlcore list`"
        )
    if args.resume is not None and args.out is not None:
        raise ConfigError("--out names a new folder and --resume an old one; give one of the two")
    folder, stored = (None, {}) if args.resume is None else stored_run(args.resume)
    experiment = words[0] if words else str(stored["experiment"])
    preset = words[1] if len(words) > 1 else str(stored.get("preset", "quick"))
    module = experiment_module(experiment)
    if preset not in module.PRESETS:
        raise unknown_name(f"preset of {experiment}", preset, module.PRESETS)
    settings = [*stored.get("settings", []), *settings]
    config = with_settings(module.PRESETS[preset], ["--help"] if wants_help else settings, f"rlcore run {experiment}")
    device = args.device or stored.get("device")
    config = with_device(config, device, experiment)
    seeds = seeds_of(args, stored)
    if folder is None:
        folder = args.out or Path("runs") / experiment / f"{preset}-{time.strftime('%Y%m%d-%H%M%S')}"
    about = {"experiment": experiment, "preset": preset, "seeds": seeds, "device": device, "config": config}
    about["settings"] = stored.get("settings", settings)
    results = run_seeds(module, config, seeds, folder, about, resume=args.resume is not None)
    report(results, folder)
    rows = [
        {"experiment": experiment, "preset": preset, "seed": k, "result": r}
        for k, r in zip(seeds, results, strict=True)
    ]
    write_output(args.json, [row | {"folder": str(folder / f"seed-{row['seed']}")} for row in rows])
    return 0


def stored_run(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The run at `folder`, or the one that `folder` is a part of, and what defines it."""
    from rlcore.training.files import read_json

    if (folder.parent / "config.json").exists() and "part" in read_json(folder / "config.json"):
        return stored_run(folder.parent)
    about = read_json(folder / "config.json")
    if not isinstance(about, dict) or not {"experiment", "preset", "seeds", "config"} <= set(about):
        raise CheckpointError(f"{folder} was not made by `rlcore run`; resume it from the program that made it")
    return folder, about


def experiment_module(name: str) -> ModuleType:
    from rlcore.reporting.listing import experiments

    if name not in (known := experiments()):
        raise unknown_name("experiment", name, known)
    return import_module(f"rlcore.experiments.{name}")


def with_settings(default: Any, settings: Sequence[str], prog: str) -> Any:
    """The config with dotted overrides such as `--agent.lr 1e-3`; tyro's complaints become one line."""
    import tyro

    complaint = io.StringIO()
    try:
        with redirect_stderr(complaint):
            return tyro.cli(type(default), default=default, args=list(settings), prog=prog)
    except SystemExit as end:
        if not end.code:
            raise
        words = (
            "".join(letter for letter in complaint.getvalue() if not "\u2500" <= letter <= "\u257f")
            .replace("--" * 8, "")
            .split()
        )
        raise ConfigError(" ".join(words)) from end


def with_device(config: Any, device: str | None, experiment: str) -> Any:
    """The config with its `device`, checked."""
    has_field = any(field.name == "device" for field in fields(config))
    if device is None and not has_field:
        return config
    from rlcore.checks import check_device

    chosen = str(check_device(device or config.device))
    if has_field:
        return replace(config, device=chosen)
    if chosen != "cpu":
        raise ConfigError(f"experiment {experiment!r} runs on the CPU only, got --device {device}; leave it out")
    return config


def seeds_of(args: argparse.Namespace, stored: dict[str, Any]) -> list[int]:
    """`--seeds 3 --seed 10` means 10, 11, 12; without either, those of the run that is resumed, or 0."""
    if args.seed is None and args.seeds is None:
        return list(stored.get("seeds", [0]))
    first, count = args.seed or 0, 1 if args.seeds is None else args.seeds
    if first < 0 or count < 1:
        raise ConfigError(f"need --seed >= 0 and --seeds >= 1, got {first} and {count}")
    return list(range(first, first + count))


def run_seeds(
    module: ModuleType, config: Any, seeds: Sequence[int], folder: Path, about: dict[str, Any], *, resume: bool
) -> list[dict[str, float]]:
    """Run the experiment once per seed, each in its folder; finished seeds are not run again."""
    import torch

    from rlcore.seeding import derive_seed
    from rlcore.training.recorder import RunFolder

    whole, results = RunFolder(folder, about, resume=resume, label=about["experiment"]), []
    for seed in seeds:
        with whole.child(f"seed-{seed}", seed=seed) as recorder:
            result = recorder.result
            if result is not None:
                print(f"seed {seed} is finished; its stored result is used", file=sys.stderr)
            else:
                torch.manual_seed(derive_seed(seed, "global"))  # so that a seed does not depend on those before it
                try:
                    result = recorder.finish(module.run(config, seed, recorder))
                except KeyboardInterrupt:
                    raise KeyboardInterrupt(*recorder.advice(f"rlcore run --resume {folder}")) from None
            results.append(result)
    return results


def report(results: Sequence[dict[str, float]], folder: Path) -> None:
    """Print the result table, where the run is, and how to look at it."""
    from rlcore.reporting.statistics import summarise
    from rlcore.reporting.tables import print_rows

    if len(results) == 1:
        print_rows(("result", "value"), [(name, f"{value:.6g}") for name, value in results[0].items()])
    else:
        rows = []
        for name in results[0]:
            s = summarise([result[name] for result in results if name in result])
            rows.append((name, f"{s.mean:.6g}", f"{s.iqm:.6g}", f"[{s.low:.6g}, {s.high:.6g}]", str(s.n)))
        print_rows(("result", "mean", "IQM", "95 % interval of the mean", "seeds"), rows)
    print(f"\nfolder:      {folder}\nTensorBoard: tensorboard --logdir {folder}")


def compare_command(argv: Sequence[str]) -> int:
    parser = Parser("compare", "RUN... [options]", "One table and one figure over recorded runs.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders, or folders that hold runs")
    parser.add_argument("--tag", default="eval/return", help="the metric to compare (default: %(default)s)")
    parser.add_argument("--out", type=Path, metavar="FILE.png", help="where to draw the figure")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the table as JSON")
    args = parser.read(argv)
    check_output(args.out, args.json)
    from rlcore.reporting.compare import compare, load_runs, plot_comparison, print_comparison

    runs = load_runs(args.runs)
    table = compare(runs, args.tag)
    print_comparison(table, args.tag)
    if args.out is not None:
        plot_comparison(runs, args.tag, args.out)
        print(f"\nfigure: {args.out}")
    write_output(args.json, [{"tag": args.tag} | line._asdict() for line in table])
    return 0


def verify_command(argv: Sequence[str]) -> int:
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


def bench_command(argv: Sequence[str]) -> int:
    from rlcore.reporting.listing import benchmarks
    from rlcore.reporting.tables import print_rows

    parser = Parser("bench", "[NAME] [--json FILE]", "Throughput beside the peers installed, in one run.")
    parser.add_argument("name", nargs="?", help="one benchmark (default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures as JSON")
    args = parser.read(argv)
    check_output(args.json)
    known = benchmarks()
    if args.name is not None and args.name not in known:
        raise unknown_name("benchmark", args.name, known)
    figures: list[dict[str, Any]] = []
    for name in known if args.name is None else [args.name]:
        print(f"{name}: {known[name]}", file=sys.stderr, flush=True)
        module = import_module(f"rlcore.experiments.benchmark.{name}")
        figures += [{"benchmark": name} | dict(row) for row in module.measure()]
    columns = list(dict.fromkeys(column for row in figures for column in row))
    print_rows(columns, [[shown(row.get(column, "")) for column in columns] for row in figures])
    write_output(args.json, figures)
    return 0


def shown(value: object) -> str:
    """Numbers with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def optional_module(name: str) -> ModuleType | None:
    """The module, or None if it is not written yet; an error inside it is not hidden."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            return None
        raise


def check_output(*paths: Path | None) -> None:
    """Refuse, before any work is done, a file that could not be written after it."""
    for path in paths:
        if path is not None and (path.is_dir() or not os.access(path.absolute().parent, os.W_OK)):
            raise FolderError(f"cannot write {path}: its folder is missing or not writable, or it is a folder itself")


def write_output(path: Path | None, value: Any) -> None:
    if path is not None:
        from rlcore.training.files import plain, write_json

        write_json(path, plain(value))


VERBS: dict[str, Callable[[Sequence[str]], int]] = {
    "list": list_command,
    "run": run_command,
    "compare": compare_command,
    "verify": verify_command,
    "bench": bench_command,
}
