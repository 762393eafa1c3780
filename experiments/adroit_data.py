"""Offline data of the Adroit hand, as Minari sets: a door and a pen, with a binary reward and a noisy controller.

rlcore run adroit_data quick
rlcore run adroit_data paper --tasks pen --noise 0.3 --root data
rlcore run adroit_data quick --tasks door --search.search.generations 20 --search.from-scratch

D4RL's hand data were recorded from people and cannot be made again. Here planned movements with Gaussian noise on all
joints do the tasks sometimes: one that a search found turns the latch of the door mostly and opens it rarely, and from
a library of random ones the one that suits its aim turns the pen. Rewards are -1 per step and 0 at success, which ends
the episode.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

from rlcore.data import Transitions, summary
from rlcore.envs.robotics.adroit import DT, SIZES, TASKS, Clocked, make_adroit
from rlcore.envs.robotics.extra import require_robotics
from rlcore.errors import ConfigError, unknown_name
from rlcore.experiments.adroit_search import HandSearch, behaviour
from rlcore.interop.minari_write import About, check_root, size_label, write_minari
from rlcore.interop.recording import record
from rlcore.reporting.tables import print_rows
from rlcore.seeding import derive_seed
from rlcore.training.recorder import SILENT, Recorder

DISCOUNT_RATE = -math.log(0.99) / DT  # 1/s


@dataclass(frozen=True)
class Config:
    """Which sets to make."""

    tasks: tuple[str, ...] = ("door", "pen")
    """Of door and pen."""
    steps: int = 1_000_000
    """Rows of each set, rounded up to whole steps of all hands."""
    copies: int = 20
    """Hands that run at once, each for steps / copies steps."""
    noise: float = 0.2
    """Standard deviation of the noise on the action, before clipping to [-1, 1]."""
    search: HandSearch = field(default_factory=HandSearch)
    """For the movements behind the data."""
    root: str = ""
    """Folder to write to; empty: Minari's own."""


PRESETS = {"quick": Config(steps=10_000, copies=10), "paper": Config()}


def check(config: Config, task: str) -> None:
    """Raise unless there is such a set."""
    if task not in TASKS:
        raise unknown_name("Adroit task", task, TASKS)
    if min(config.steps, config.copies) < 1 or config.copies > config.steps:
        raise ConfigError(f"need steps >= copies >= 1, got {config.steps} and {config.copies}")


def generate(task: str, config: Config, seed: int, recorder: Recorder = SILENT) -> Transitions:
    """The rows of one set in order [N], a pure function of its arguments."""
    check(config, task)
    rows = record(
        behaviour(task, config.search, config.noise, seed, recorder),
        lambda: Clocked(make_adroit(task)),
        copies=config.copies,
        steps=-(-config.steps // config.copies),
        dt=DT,
        discount_rate=DISCOUNT_RATE,
        seed=derive_seed(seed, task),
    )
    width = SIZES[task][0]
    return rows.replace(obs=rows.obs[:, :width].contiguous(), next_obs=rows.next_obs[:, :width].contiguous())


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Find the controllers, make the sets, write them, and say what is in them."""
    for task in config.tasks:
        check(config, task)
    if not config.tasks:
        raise ConfigError("give at least one task")
    require_robotics()
    check_root(config.root or None)
    found: dict[str, float] = {}
    table: list[Sequence[str]] = []
    for task in config.tasks:
        rows = generate(task, config, seed, recorder.child(task, label=task))
        name = f"adroit/{task}-{size_label(config.steps)}-seed{seed}-v0"
        recipe = asdict(replace(config, tasks=(task,), root=""))
        about = About(
            dt=DT,
            seed=seed,
            algorithm="planned movements found by search, with Gaussian noise on the action",
            description=f"Adroit hand, {task}, -1 per step until done.",
            recipe={"experiment": "adroit_data"} | recipe,
            reference=(-float(TASKS[task][1]), 0.0),
        )
        folder = write_minari(rows, name, about, env=make_adroit(task), root=config.root or None)
        print(f"made {name}", flush=True)
        figures = summary(rows)
        found |= {f"{task}/{key}": value for key, value in figures.items()}
        table.append([name, *(f"{value:.4g}" for value in figures.values())])
    print_rows(["data set", *figures], table)
    print(f"in {folder.parents[1]}")
    return recorder.finish(found)
