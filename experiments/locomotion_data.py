"""Offline data of MuJoCo's runners, as Minari sets: random, medium, medium-replay and expert, from one run of SAC each.

rlcore run locomotion_data quick
rlcore run locomotion_data paper --robots Hopper
rlcore run locomotion_data paper --kinds random

The recipes of D4RL on Gymnasium's v5 robots, with our own soft actor-critic: `random` acts uniformly; `expert` is the
policy at the end of the run; `medium` the first one whose return, measured every so often, has gone a third of the way
from random to expert; `medium-replay` every step of the run until then. Policies act with their noise. The returns of
random and expert stand in the metadata, so that scores can be normalised; they are of these robots and this run, not
D4RL's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal, get_args

from rlcore.agents.actor_critic import SAC, SacConfig
from rlcore.agents.actor_critic.wsrl import FineTuning
from rlcore.data import Transitions, summary
from rlcore.errors import ConfigError, NumericsError, unknown_name
from rlcore.experiments.runner_history import ROBOTS, earned, make_robot, play, spaces_of, time_of, train
from rlcore.interop.minari_write import About, check_root, size_label, write_minari
from rlcore.reporting.tables import print_rows
from rlcore.seeding import derive_seed
from rlcore.simulation.policy import Policy, UniformPolicy
from rlcore.training.recorder import SILENT, Recorder

Kind = Literal["random", "medium", "medium-replay", "expert"]


@dataclass(frozen=True)
class Sets:
    """What one robot gives."""

    rows: dict[str, Transitions]
    """By kind."""
    low: float
    """Mean return of random actions."""
    high: float | None
    """Mean return of the last policy; None where nothing learned."""


@dataclass(frozen=True)
class Config:
    """Which sets to make, and how long the policies behind them learn."""

    robots: tuple[str, ...] = ("HalfCheetah", "Hopper", "Walker2d")
    """Of HalfCheetah, Hopper and Walker2d."""
    kinds: tuple[Kind, ...] = ("random", "medium", "medium-replay", "expert")
    """What acted."""
    steps: int = 1_000_000
    """Rows of each set but medium-replay, rounded up to whole steps of all copies."""
    copies: int = 10
    """Copies of the robot that run at once while a set is recorded."""
    training_steps: int = 1_000_000
    """Steps of the run of SAC, one update after each."""
    warm_up: int = 10_000
    """Steps before the first update."""
    evaluate_every: int = 10_000
    """Steps between two evaluations; medium is one of them."""
    medium_share: float = 1.0 / 3.0
    """How far from random to expert the return of medium is."""
    learner: SacConfig = SAC
    """Soft actor-critic."""
    root: str = ""
    """Folder to write to; empty: Minari's own."""


PRESETS = {
    "quick": Config(robots=("Hopper",), steps=4000, copies=4, training_steps=6000, warm_up=1000, evaluate_every=1000),
    "paper": Config(),
}


def check(config: Config) -> None:
    """Raise on settings out of their range."""
    for robot in config.robots:
        if robot not in ROBOTS:
            raise unknown_name("robot", robot, ROBOTS)
    for kind in config.kinds:
        if kind not in get_args(Kind):
            raise unknown_name("kind of data", kind, get_args(Kind))
    if not config.robots or not config.kinds:
        raise ConfigError("give at least one robot and one kind of data")
    if min(config.steps, config.copies, config.evaluate_every) < 1 or config.copies > config.steps:
        raise ConfigError("need steps >= copies >= 1 and evaluate_every >= 1")
    if not 0 <= config.warm_up < config.training_steps:
        raise ConfigError(f"need 0 <= warm_up < training_steps, got {config.warm_up} and {config.training_steps}")
    if not 0.0 < config.medium_share < 1.0:
        raise ConfigError(f"medium_share must lie between 0 and 1, got {config.medium_share}")


def generate(robot: str, config: Config, seed: int, recorder: Recorder = SILENT) -> Sets:
    """The sets of one robot, rows in order, with the mean returns of random and, if anything learns, of expert."""
    check(config)
    uniform = UniformPolicy(-1.0, 1.0, spaces_of(robot).action_dim)

    def record(policy: Policy, kind: str) -> Transitions:
        steps = -(-config.steps // config.copies)
        return play(policy, robot, config.copies, steps, derive_seed(seed, f"{robot}/{kind}"))

    low = earned(uniform, robot, derive_seed(seed, f"{robot}/low"))
    sets: dict[str, Transitions] = {}
    if "random" in config.kinds:
        sets["random"] = record(uniform, "random")
    if set(config.kinds) == {"random"}:
        return Sets(sets, low, None)
    lengths = FineTuning(warm_up=config.warm_up, steps=config.training_steps - config.warm_up, rows=256)
    history = train(robot, config.learner, lengths, config.evaluate_every, seed, recorder)
    returns = [moment["return"] for moment in history.kept]
    high = returns[-1]
    if not high > low:
        raise NumericsError(
            f"{robot} earns {high:.4g} after {config.training_steps} steps, random actions {low:.4g}; train longer"
        )
    medium = next(i for i, value in enumerate(returns) if value >= low + config.medium_share * (high - low))
    if "medium" in config.kinds:
        sets["medium"] = record(history.at(medium), "medium")
    if "medium-replay" in config.kinds:
        sets["medium-replay"] = history.rows_until(medium)
    if "expert" in config.kinds:
        sets["expert"] = record(history.at(-1), "expert")
    return Sets(sets, low, high)


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Make the sets of each robot, write them, and say what is in them."""
    check(config)
    check_root(config.root or None)
    found: dict[str, float] = {}
    table: list[Sequence[str]] = []
    for robot in config.robots:
        made = generate(robot, config, seed, recorder.child(robot, label=robot))
        found[f"{robot}/random_return"] = made.low
        if made.high is not None:
            found[f"{robot}/expert_return"] = made.high
        for kind, rows in made.rows.items():
            name = f"locomotion/{robot.lower()}-{kind}-{size_label(len(rows))}-seed{seed}-v0"
            about = About(
                dt=time_of(robot)[0],
                seed=seed,
                algorithm="uniform actions" if kind == "random" else "soft actor-critic (rlcore SacRedq, SAC settings)",
                description=f"{robot}-v5, {kind}, by the recipe of D4RL.",
                recipe={"experiment": "locomotion_data"} | asdict(replace(config, robots=(robot,), root="")),
                reference=None if made.high is None else (made.low, made.high),
            )
            folder = write_minari(rows, name, about, env=make_robot(robot), root=config.root or None)
            print(f"made {name}", flush=True)
            figures = summary(rows)
            found |= {f"{robot}-{kind}/{key}": value for key, value in figures.items()}
            table.append([name, *(f"{value:.4g}" for value in figures.values())])
    print_rows(["data set", *figures], table)
    print(f"in {folder.parents[1]}")
    return recorder.finish(found)
