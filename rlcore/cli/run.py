"""The verb `run`: an experiment, its settings, its seeds and its folder."""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import fields, replace
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcore.cli.parser import Parser, check_output, write_output
from rlcore.errors import CheckpointError, ConfigError, ProcessError, unknown_name

if TYPE_CHECKING:
    from types import ModuleType


def run_command(argv: Sequence[str]) -> int:
    """Run an experiment over seeds and record it, or resume a recorded run."""
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
    from rlcore.parallel import world

    device = args.device or stored.get("device")
    config = with_device(config, device, experiment)
    seeds = seeds_of(args, stored)
    if folder is None:
        stamp = f"{preset}-{time.strftime('%Y%m%d-%H%M%S')}"
        folder = args.out or Path("runs") / experiment / world().from_leader(stamp)
    about = {"experiment": experiment, "preset": preset, "seeds": seeds, "device": device, "config": config}
    about["settings"] = stored.get("settings", settings)
    results = run_seeds(module, config, seeds, folder, about, resume=args.resume is not None)
    if not world().leads:
        return 0
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
    """The module of an experiment, by its name."""
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
        lines = [line for line in complaint.getvalue().splitlines() if line[:1] not in "╭╰"]  # the frame and its title
        words = "".join(letter for letter in "\n".join(lines) if not "\u2500" <= letter <= "\u257f").split()
        told = [word for word in words if set(word) != {"-"}]
        raise ConfigError(" ".join(told)) from end


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

    from rlcore.parallel import world
    from rlcore.seeding import derive_seed
    from rlcore.training.replica import run_folder

    whole, results = run_folder(folder, about, resume=resume, label=about["experiment"]), []
    for seed in seeds:
        with whole.child(f"seed-{seed}", seed=seed) as recorder:
            result = recorder.result
            if result is not None:
                if world().leads:
                    print(f"seed {seed} is finished; its stored result is used", file=sys.stderr)
            else:
                torch.manual_seed(derive_seed(seed, "global"))  # so that a seed does not depend on those before it
                try:
                    result = recorder.finish(module.run(config, seed, recorder))
                except KeyboardInterrupt:
                    raise KeyboardInterrupt(*recorder.advice(f"rlcore run --resume {folder}")) from None
                except ProcessError as error:
                    kept = any(folder.rglob("checkpoints/latest.pt"))
                    remedy = (
                        f"continue with: rlcore run --resume {folder}" if kept else "nothing was saved yet, run it anew"
                    )
                    raise ProcessError(f"{error}; {remedy} (with any number of processes)") from error
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
