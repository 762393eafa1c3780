"""Offline data of MuJoCo's ant in mazes, as Minari sets: a gait that knows the way, and not always the goal.

rlcore run ant_maze_data quick
rlcore run ant_maze_data paper --mazes large --kinds diverse --root data
rlcore run ant_maze_data quick --walk.search.generations 16

The recipes of D4RL's antmaze with a controller of our own instead of a trained goal-reacher: a trot whose few numbers
were found by search (and can be again) walks along the corridors, with Gaussian noise on its torques. In `fixed` it
goes from the corner in which the evaluation starts to the goal in the far one, in `play` from anywhere to the goal,
in `diverse` it starts anywhere and runs errands, so that few episodes are paid and the way has to be put together
from pieces. Every episode ends at the goal that pays. Some end upside down: nobody helps the ant up.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

import gymnasium

from rlcore.data import Transitions, summary
from rlcore.envs.maze import LAYOUTS, layout
from rlcore.envs.robotics.ant_gait import AntGait
from rlcore.envs.robotics.ant_maze import CELL, DT, LIMITS, AntWaypointPolicy, Errands, make_ant_maze
from rlcore.envs.robotics.extra import require_robotics
from rlcore.experiments.ant_walk import WalkSearch, find_gait, speed, upright
from rlcore.experiments.maze_figures import coverage
from rlcore.experiments.maze_sets import MazeSets, Report, asked, check_paths, check_set
from rlcore.interop.minari_write import About, size_label, write_minari
from rlcore.interop.recording import record
from rlcore.seeding import derive_seed
from rlcore.training.recorder import SILENT, Recorder

Kind = Literal["fixed", "play", "diverse"]
DISCOUNT_RATE = -math.log(0.99) / DT  # 1/s


@dataclass(frozen=True)
class Config(MazeSets):
    """Which sets to make, and how."""

    kinds: tuple[Kind, ...] = ("play", "diverse")
    """fixed: from the start to the goal; play: from anywhere to the goal; diverse: from anywhere to anywhere."""
    copies: int = 20
    """Ants that run at once, each for steps / copies steps."""
    noise: float = 0.2
    """Standard deviation of the noise on the torques, before clipping to [-1, 1]."""
    gait: AntGait = field(default_factory=AntGait)
    """How the ant walks, or where the search for a better gait begins."""
    walk: WalkSearch = field(default_factory=WalkSearch)
    """That search; without a generation there is none."""


PRESETS = {"quick": Config(mazes=("umaze",), steps=14_000, copies=10), "paper": Config()}


def task(maze: str) -> str:
    """The maze in which a policy learned from the set is evaluated: from one corner to the far one."""
    return f"{maze}_far"


def collection(maze: str, kind: Kind) -> str:
    """The maze in which the set is gathered: that of the evaluation, but unless `fixed` from anywhere."""
    drawing = "/".join(LAYOUTS[task(maze)])
    return drawing if kind == "fixed" else drawing.replace("R", ".")


def make_task(maze: str, kind: Kind) -> gymnasium.Env[Any, Any]:
    """One ant as it is recorded, without its errands."""
    return make_ant_maze(collection(maze, kind), LIMITS[maze])


def generate(maze: str, kind: Kind, config: Config, gait: AntGait, seed: int) -> Transitions:
    """The rows of one set in order [N], a pure function of its arguments."""
    check(config, maze, kind)
    walls = layout(task(maze))
    aim = slice(31, 33) if kind == "diverse" else slice(2, 4)
    rows = record(
        AntWaypointPolicy(walls, gait, config.noise, aim),
        lambda: Errands(make_task(maze, kind), walls),
        copies=config.copies,
        steps=-(-config.steps // config.copies),
        dt=DT,
        discount_rate=DISCOUNT_RATE,
        seed=derive_seed(seed, f"{maze}/{kind}"),
    )
    return rows.replace(obs=rows.obs[:, :31].contiguous(), next_obs=rows.next_obs[:, :31].contiguous())


def check(config: Config, maze: str, kind: str) -> None:
    """Raise unless there is such a set."""
    check_set(maze, kind, get_args(Kind))
    check_paths(config.steps, config.copies, "copies")


def describe(rows: Transitions, maze: str) -> dict[str, float]:
    """The figures of the table: `summary`, the share of the floor visited, and of episodes that end upside down."""
    ends = rows.next_obs[rows.extras["last"]]
    over = float((upright(ends[:, 4:]) < 0.0).double().mean())
    return summary(rows) | {"coverage": coverage(rows.obs[:, :2] / CELL, layout(maze)), "upside down": over}


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Find the gait, make the sets, write them, and say what is in them."""
    for maze, kind in (sets := asked(config, config.kinds)):
        check(config, maze, kind)
    require_robotics()
    gait = find_gait(config.gait, config.walk, seed, recorder)
    report = Report(side=CELL)
    report.found["walk/speed"] = speed(gait, config.walk, derive_seed(seed, "judge"))
    print("gait: " + ", ".join(f"{name} {value:.4g}" for name, value in gait.settings().items()), flush=True)
    for maze, kind in sets:
        rows = generate(maze, kind, config, gait, seed)
        name = f"ant-maze/{maze}-{kind}-{size_label(config.steps)}-seed{seed}-v0"
        recipe = asdict(replace(config, mazes=(maze,), kinds=(kind,), root=""))
        about = About(
            dt=DT,
            seed=seed,
            algorithm="trot along shortest paths, with Gaussian noise on the torques",
            description=(__doc__ or "").partition("\n")[0],
            recipe={"experiment": "ant_maze_data"} | recipe | {"gait_found": gait.settings()},
            reference=(0.0, 1.0),
        )
        eval_env = make_ant_maze(task(maze))
        folder = write_minari(rows, name, about, env=make_task(maze, kind), eval_env=eval_env, root=config.root or None)
        report.add(maze, kind, name, rows, describe(rows, maze))
    return report.finish(folder, recorder)
