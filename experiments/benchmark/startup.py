"""Start-up: `import rlcore`, `import rlcore.envs` and `rlcore list`, beside torch's own import."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from typing import Any

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import rlcore": ["-c", "import rlcore"],
    "import rlcore.envs": ["-c", "import rlcore.envs"],
    "rlcore list": ["-c", "import sys, rlcore.cli; sys.exit(rlcore.cli.main(['list']))"],
    "import torch": ["-c", "import torch"],
    "import torch, rlcore.training": ["-c", "import torch, rlcore.training"],
}


def measure(rounds: int = 7) -> list[dict[str, Any]]:
    """Seconds of wall time as a process of its own, taken in turn after one warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for number in range(rounds + 1):
        for name, arguments in COMMANDS.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            if number:
                seconds[name].append(time.perf_counter() - began)
    return [
        {"command": name, "seconds": statistics.median(values), "lowest": min(values), "highest": max(values)}
        for name, values in seconds.items()
    ]
