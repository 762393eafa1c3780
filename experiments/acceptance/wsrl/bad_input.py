"""What a user can do wrong, each tried: an error of one line that says what was expected, and nothing is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch

from rlcore.agents.actor_critic import DataSpaces, SacRedq, check_data, publish
from rlcore.agents.actor_critic.hand_over import weights_of
from rlcore.data import Transitions, lengths
from rlcore.errors import RlcoreError
from rlcore.experiments.acceptance.wsrl import small
from rlcore.nn.ensemble import Layers
from rlcore.reporting.acceptance import Measurement, row
from rlcore.seeding import Streams
from rlcore.training.offline import DatasetSource

SYSTEM = "wsrl"


def changed(data: Transitions, name: str, at: int, value: float) -> Transitions:
    """The data with one number of one row replaced."""
    column = getattr(data, name).clone()
    column[at] = value
    return data.replace(**{name: column})


def faults() -> dict[str, tuple[Callable[[], Any], str]]:
    """Each fault: what a user calls, and a word that the message must have."""
    data, giver = small.data_set(), small.pretrained(small.data_set(), updates=1)
    wider = replace(small.ONLINE, networks=replace(small.ONLINE.networks, critic=Layers((24,), layer_norm=True)))
    no_returns = data.replace(extras={})
    unflagged = data.replace(extras={"last": torch.zeros(len(data), dtype=torch.bool)})

    def draw(rows: Transitions) -> DatasetSource:
        return DatasetSource(rows, 32, generator=Streams(0)["data"], seeds=small.SEEDS)

    return {
        "spaces": (lambda: check_data(data, DataSpaces(3, 2)), "the problem has 3 and 2"),
        "a field is missing": (lambda: giver.learn(draw(no_returns), 1), "need 'mc_return'"),
        "NaN": (
            lambda: draw(changed(data, "reward", 7, torch.nan)),
            "reward must be finite, got NaN or infinity in row 7",
        ),
        "outside the box": (lambda: check_data(changed(data, "action", 5, 99.0), small.env().spec), "in row 5"),
        "no flag": (lambda: lengths(unflagged), "cut without a flag"),
        "hand-over": (lambda: SacRedq.warm_start(giver, small.env().spec, wider, seeds=small.SEEDS), "24] here"),
    }


@row(
    SYSTEM, "bad-input", "spaces, fields, NaN, box, flag, hand-over that do not fit: faults without their one line", "0"
)
def faults_are_told() -> Measurement:
    silent = []
    for name, (call, word) in faults().items():
        try:
            call()
        except RlcoreError as error:
            if word in str(error) and "\n" not in str(error):
                continue
        silent.append(name)
    return Measurement("0", ", ".join(silent) or "0", not silent)


@row(
    SYSTEM, "full-disk", "the disk fills up while weights are published: tensors of the last good file that differ", "0"
)
def full_disk() -> Measurement:
    giver, other = (small.pretrained(small.data_set(), updates=count) for count in (1, 2))
    with TemporaryDirectory() as root:
        publish(giver, file := Path(root) / "weights.safetensors")
        told = False
        with patch.object(os, "fsync", side_effect=OSError(28, "No space left on device")):
            try:
                publish(other, file)
            except RlcoreError as error:
                told = "No space left on device" in str(error)
        again = SacRedq.warm_start(file, small.env().spec, small.ONLINE, seeds=small.SEEDS)
        left = [path.name for path in Path(root).iterdir()]
        wrong = small.differing(weights_of(giver), weights_of(again))
    return Measurement("0", f"{wrong}", told and wrong == 0 and left == [file.name])


WITHOUT_A_GPU = """
from rlcore.cli import main
from rlcore.experiments.acceptance import wsrl
from rlcore.reporting.acceptance import ROWS, reason_to_skip
print(sum(reason_to_skip(row, slow=True) != "needs a GPU" for row in ROWS if row.needs == "cuda"), flush=True)
print(main(["run", "wsrl_point_maze", "quick", "--device", "cuda"]))
"""


@row(SYSTEM, "E9", "no GPU: rows for one that are not skipped; exit code of a run that asks for one", "0; 2")
def without_a_gpu() -> Measurement:
    hidden = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    found = subprocess.run([sys.executable, "-c", WITHOUT_A_GPU], capture_output=True, text=True, env=hidden)
    told = found.stderr.strip().splitlines()
    got = "; ".join(found.stdout.split())
    return Measurement("0; 2", got, got == "0; 2" and len(told) == 1)
