"""The command line: list, run, compare, verify, bench. Each verb imports what it needs and no more."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from rlcore.cli.bench import bench_command
from rlcore.cli.run import run_command
from rlcore.cli.sweep import sweep_command
from rlcore.cli.verbs import compare_command, list_command, verify_command
from rlcore.errors import DataWarning, RlcoreError, unknown_name

USAGE = """usage: rlcore VERB ...

  list                                   environments, agents and experiments, each with one line
  run EXPERIMENT [quick|paper] [...]     run an experiment over seeds and record it
  compare RUN... [--tag TAG] [...]       one table and one figure over recorded runs
  verify [SYSTEM] [--rows A,B] [--slow]  the acceptance table; exit code 0 only when every row holds
  bench [NAME] [--json F] [--figure F]   throughput beside the peers installed, in one run
  sweep EXPERIMENT key=a,b [...]         settings and seeds, many at a time, here or on a Ray cluster

`rlcore VERB --help` says more."""

VERBS: dict[str, Callable[[Sequence[str]], int]] = {
    "list": list_command,
    "run": run_command,
    "compare": compare_command,
    "verify": verify_command,
    "bench": bench_command,
    "sweep": sweep_command,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns 0, 1 (an acceptance row fails), 2 (a mistake of the user) or 130 (Ctrl-C)."""
    words = list(sys.argv[1:] if argv is None else argv)
    with warnings.catch_warnings():
        warnings.showwarning = one_line(warnings.showwarning)
        return answer(words)


def one_line(show: Callable[..., None]) -> Callable[..., None]:
    """A `warnings.showwarning` that says ours without the line of code that raised them."""

    def shown(message: Warning | str, category: type[Warning], *place: Any) -> None:
        if issubclass(category, DataWarning):
            print(f"rlcore: warning: {message}", file=sys.stderr)
        else:
            show(message, category, *place)

    return shown


def answer(words: list[str]) -> int:
    """The exit code of one command."""
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
        if os.environ.get("WORLD_SIZE", "1") == "1":
            return VERBS[words[0]](words[1:])
        return among_processes(words)
    except RlcoreError as error:
        where = f" in process {os.environ['RANK']}" if os.environ.get("WORLD_SIZE", "1") != "1" else ""
        print(f"rlcore: error{where}: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        return 2
    except KeyboardInterrupt as interrupt:
        print(f"rlcore: interrupted{''.join(f'; {text}' for text in interrupt.args)}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone
        sys.stderr.close()
        return 0


def among_processes(words: list[str]) -> int:
    """One command in every process that torchrun started: `run` shares the work, the rest is for the first alone."""
    if words[0] != "run":
        return VERBS[words[0]](words[1:]) if os.environ.get("RANK") == "0" else 0
    from rlcore.parallel import joined

    with joined():
        return run_command(words[1:])
