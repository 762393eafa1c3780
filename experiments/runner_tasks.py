"""MuJoCo's runners with a data set, as the offline and the offline-to-online studies see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import gymnasium
from torch import Tensor

from rlcore.checks import check_numbers
from rlcore.data import Transitions
from rlcore.errors import ConfigError
from rlcore.experiments import locomotion_data
from rlcore.experiments.locomotion_data import Kind
from rlcore.experiments.offline_tasks import OfflineTask
from rlcore.experiments.runner_history import make_robot, spaces_of, time_of
from rlcore.interop.minari import open_minari, read_minari
from rlcore.interop.recording import copies_of, returns
from rlcore.seeding import derive_seed
from rlcore.simulation.policy import Feedback, Policy
from rlcore.training.recorder import Recorder

EPISODE_STEPS = 1000  # Gymnasium's limit for all three
Earned = TypeVar("Earned", float, Tensor)


@dataclass(frozen=True)
class RunnerData:
    """A runner and its data."""

    robot: str = "HalfCheetah"
    """HalfCheetah, Hopper or Walker2d."""
    kind: Kind = "medium-replay"
    """What acted in the data that are made: random, medium, medium-replay or expert."""
    dataset: str = ""
    """A Minari set of this robot on this machine, by id or folder; empty: one is made, and kept in memory only."""
    reference: tuple[float, float] | None = None
    """Returns that score 0 and 1; None: those of random actions and of the expert, as measured or as the set says."""
    making: locomotion_data.Config = field(default_factory=locomotion_data.Config)
    """How data are made; its `robots`, `kinds` and `root` are not used."""


@dataclass(frozen=True)
class Score:
    """(R - R_random) / (R_expert - R_random) of an undiscounted return R: 0 for random actions, 1 for the expert."""

    low: float
    """R_random."""
    high: float
    """R_expert."""

    def __post_init__(self) -> None:
        check_numbers("reference returns", self.low, self.high)
        if not self.high > self.low:
            raise ConfigError(
                f"the return that scores 1 must exceed the one that scores 0, got {self.high} and {self.low}"
            )

    def of(self, earned: Earned) -> Earned:
        """The score of a return, or of many."""
        return (earned - self.low) / (self.high - self.low)


def made_sets(about: RunnerData, kinds: tuple[Kind, ...], seed: int, recorder: Recorder) -> locomotion_data.Sets:
    """The data of one run of SAC, of these kinds."""
    needed: tuple[Kind, ...] = ("medium-replay",)  # asks for the run, without which nothing tells what an expert earns
    making = replace(about.making, robots=(about.robot,), kinds=tuple(dict.fromkeys((*needed, *kinds))))
    return locomotion_data.generate(about.robot, making, seed, recorder)


def runner_tasks(
    about: RunnerData, kinds: tuple[Kind, ...], *, seeds: int, episodes: int, seed: int, recorder: Recorder
) -> list[OfflineTask]:
    """One task per kind of data, all of one robot and of one run of SAC."""
    made = made_sets(about, kinds, seed, recorder)
    if made.high is None:
        raise ConfigError("nothing was trained, so no expert is known; ask for another kind of data than random")
    score = Score(*(about.reference or (made.low, made.high)))
    common: dict[str, Any] = {"seeds": seeds, "episodes": episodes, "seed": seed}
    return [task_with(about.robot, kind, made.rows[kind], score, **common) for kind in kinds]


def runner_task(about: RunnerData, *, seeds: int, episodes: int, seed: int, recorder: Recorder) -> OfflineTask:
    """The task of `about`: with the Minari set it names, or with data that are made."""
    if not about.dataset:
        kinds = (about.kind,)
        return runner_tasks(about, kinds, seeds=seeds, episodes=episodes, seed=seed, recorder=recorder)[0]
    dt, rate = time_of(about.robot)
    rows = read_minari(about.dataset, discount_rate=rate, dt=dt, env=make_robot(about.robot))
    score = Score(*(about.reference or reference_in(about.dataset)))
    return task_with(about.robot, about.dataset, rows, score, seeds=seeds, episodes=episodes, seed=seed)


def reference_in(dataset: str) -> tuple[float, float]:
    """Returns of random and expert that a Minari set says."""
    metadata: Mapping[str, float] = open_minari(dataset).storage.metadata
    if not {"ref_min_score", "ref_max_score"} <= set(metadata):
        raise ConfigError(f"{dataset} does not say what random and expert earn; pass --reference LOW HIGH")
    return float(metadata["ref_min_score"]), float(metadata["ref_max_score"])


def task_with(
    robot: str, kind: str, rows: Transitions, score: Score, *, seeds: int, episodes: int, seed: int
) -> OfflineTask:
    """A robot with these rows, in Gymnasium's own time and rewards."""
    dt, rate = time_of(robot)

    def make() -> gymnasium.Env[Any, Any]:
        return make_robot(robot)

    def scores(policy: Policy) -> Tensor:  # [S]
        found = returns(Feedback(policy.act), make, episodes=seeds * episodes, seed=derive_seed(seed, "judge"))
        return score.of(found).view(episodes, seeds).mean(0)

    return OfflineTask(
        name=f"{robot}, {kind}",
        spaces=spaces_of(robot),
        seeds=seeds,
        horizon=dt * EPISODE_STEPS,
        rows=lambda: rows,
        source=lambda own: copies_of(make, seeds, dt=dt, discount_rate=rate, seed=own),
        score=scores,
        earned=score.of,
        unit=f"score 0 is a return of {score.low:.4g}, 1 of {score.high:.4g}",
    )
