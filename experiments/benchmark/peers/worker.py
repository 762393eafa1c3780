"""The process that runs the peers: one JSON object per line in, one per line out.

    {"do": "open", "module": "pendulum", "name": "jax", "settings": {...}}  ->  {"key": 0, "versions": "jax 0.10.2"}
    {"do": "run", "key": 0, "least": 0.1}                                   ->  {"steps": 204800, "seconds": 0.1021}
    {"do": "close", "key": 0}                                               ->  {}
    {"do": "call", "module": "pendulum", "name": "jax", "settings": {...}}  ->  {"value": ...}, from the module's CHECKS

A workload that cannot be made here answers {"missing": why}, any other failure {"error": why}. `run` repeats until
`least` CPU seconds of this process, all its threads together, have passed. The process stays on one core, as libraries
choose their number of threads by the cores they see.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

Work = Callable[[], int]
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    "JAX_PLATFORMS": "cpu",
}


def main() -> None:
    """Answer until the input ends. What libraries print goes to standard error: standard output is the protocol's."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    os.environ.update(ONE_THREAD)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    opened: dict[int, Work] = {}
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line), opened)), file=answers, flush=True)


def answer(asked: dict[str, Any], opened: dict[int, Work]) -> dict[str, Any]:
    """What to reply to one request."""
    try:
        match asked["do"]:
            case "open":
                module = importlib.import_module(asked["module"])
                made = module.WORKLOADS[asked["name"]](**asked["settings"])
                key = max(opened, default=-1) + 1
                opened[key] = made
                libraries = module.LIBRARIES.get(asked["name"], ())
                return {"key": key, "versions": ", ".join(f"{name} {version(name)}" for name in libraries)}
            case "run":
                return run(opened[asked["key"]], asked["least"])
            case "close":
                del opened[asked["key"]]
                return {}
            case "call":
                module = importlib.import_module(asked["module"])
                return {"value": module.CHECKS[asked["name"]](**asked["settings"])}
            case other:
                return {"error": f"no request is called {other!r}"}
    except (ModuleNotFoundError, FileNotFoundError) as error:  # a library, or a compiler
        return {"missing": str(error)}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def run(work: Work, least: float) -> dict[str, Any]:
    """One round."""
    began, steps, spent = time.process_time(), 0, 0.0
    while not steps or spent < least:
        steps += work()
        spent = time.process_time() - began
    return {"steps": steps, "seconds": max(spent, 1e-9)}


if __name__ == "__main__":
    main()
