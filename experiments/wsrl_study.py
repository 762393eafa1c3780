"""What the offline-to-online studies have in common: pre-train once, go on in every arm, measure, draw, sum up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rlcore.agents.actor_critic import Cql, CqlConfig, Iql, IqlConfig, SacConfig, check_data
from rlcore.agents.actor_critic.diagnostics import diagnose
from rlcore.data import Transitions
from rlcore.experiments.offline_tasks import OfflineTask
from rlcore.experiments.wsrl_arms import Arm, Beside, Giver, arm_called, learner, phases_of
from rlcore.parallel import world
from rlcore.reporting.lines import Chart, Line, plot_charts
from rlcore.reporting.statistics import mean, stratified_bootstrap
from rlcore.seeding import Streams
from rlcore.simulation.policy import Policy
from rlcore.training import Phase
from rlcore.training.curve import Curve, dense_early
from rlcore.training.offline import DatasetSource
from rlcore.training.recorder import Recorder

HELD_OUT = 512  # rows kept to watch the critics by


@dataclass(frozen=True)
class Study:
    """Settings of every study, at published sizes; a step is one control interval of one path."""

    seeds: int = 5
    """Independent runs, side by side in one batch."""
    offline_updates: int = 100_000
    """Updates of the offline agent."""
    offline: CqlConfig = field(default_factory=lambda: CqlConfig(SacConfig(compiled=True, target_actions=10)))
    """The offline agent: CQL, or Cal-QL if it calibrates."""
    online: SacConfig = field(default_factory=lambda: SacConfig(compiled=True, critic_steps=4))
    """Soft actor-critic."""
    implicit: IqlConfig = field(default_factory=lambda: IqlConfig(expectile=0.9, inverse_temperature=10.0))
    """Implicit Q-learning, for the arm that begins and goes on with it."""
    minibatch: int = 256
    """Rows of a critic update."""
    warm_ups: tuple[int, ...] = (0, 5000)
    """K of each arm of WSRL, steps per seed."""
    beside: tuple[Beside, ...] = ("RLPD",)
    """Arms beside them, with the longest of these warm-ups."""
    steps: int = 200_000
    """Online steps per seed after the warm-up."""
    early: tuple[int, int] = (2000, 50_000)
    """A measurement every so many steps, up to so many."""
    late: int = 20_000
    """A measurement every so many steps from there on."""
    onset: tuple[int, int] = (5, 100)
    """Q and TD error every so many steps, up to so many: a collapse begins within them."""
    episodes: int = 20
    """Episodes per seed and measurement."""


class Curves(NamedTuple):
    """What was measured at these steps."""

    steps: list[int]
    values: dict[str, Tensor]  # each [T, S]


Found = Mapping[str, Curves]


def arms_of(study: Study) -> dict[str, Arm]:
    """Every arm by its name; those beside WSRL have the longest warm-up."""
    arms = {f"K = {warm_up}": Arm(warm_up) for warm_up in study.warm_ups}
    return arms | {name: arm_called(name, max(study.warm_ups, default=0)) for name in study.beside}


def pretrain(
    task: OfflineTask, study: Study, seed: int, recorder: Recorder, *, implicit: bool = False
) -> tuple[Giver, Transitions]:
    """The offline agent after its updates, and a few of the rows to watch it by; the data end with this function.

    Several processes must be able to share out the paths of all seeds, which is looked at before anything is made.
    """
    world().share(task.seeds, "the seeds of a study, whose paths are shared out,")
    data, streams = task.data(), Streams(seed)
    check_data(data, task.spaces)
    agent: Giver
    if implicit:
        agent = Iql(task.spaces, study.implicit, seed=seed, seeds=task.seeds)
    else:
        agent = Cql(task.spaces, study.offline, seed=seed, seeds=task.seeds)
    source = DatasetSource(data, study.minibatch, generator=streams["offline"], seeds=task.seeds, counted=True)
    recorder.train(
        agent,
        [Phase("offline", source, study.offline_updates, agent.update)],
        evaluate=lambda: {"eval/score": float(task.score(agent).mean())},
        evaluate_every=max(1, study.offline_updates // 5),
        main_metric="eval/score",
        keep={"streams": streams},
    )
    return agent, DatasetSource(data, HELD_OUT, generator=streams["held out"]).next(agent)


def fine_tune(
    arm: Arm, giver: Giver, held_out: Transitions, task: OfflineTask, study: Study, seed: int, recorder: Recorder
) -> Found:
    """What is measured along one arm from just after the hand-over on: `score` rarely, `critics` at the onset too."""
    streams = Streams(seed)
    agent = learner(arm, giver, task, study.offline, study.online, seed=seed)

    def score(_: Policy) -> Mapping[str, Tensor]:
        return {"score": task.score(agent)}

    def critics(_: Policy) -> Mapping[str, Tensor]:
        return diagnose(agent, held_out)

    seldom, (often, until), logger = dense_early(*study.early, study.late), study.onset, recorder.logger()
    curves = {
        "score": Curve(score, seldom, phase="online", logger=logger),
        "critics": Curve(
            critics, lambda k: (k <= until and k % often == 0) or seldom(k), phase="online", logger=logger
        ),
    }
    first = {name: curve.function(agent) for name, curve in curves.items()}
    sizes = {"steps": study.steps, "minibatch": study.minibatch, "updates": study.online.critic_steps}
    phases = phases_of(arm, agent, giver, task, **sizes, streams=streams)
    recorder.train(agent, phases, callbacks=list(curves.values()), keep={**curves, "streams": streams})
    return {
        name: Curves(
            [0, *curve.iterations], {key: torch.cat([first[name][key][None], v]) for key, v in curve.values.items()}
        )
        for name, curve in curves.items()
    }


def compare(task: OfflineTask, study: Study, seed: int, recorder: Recorder) -> dict[str, Found]:
    """Pre-train once, then fine-tune every arm: what `fine_tune` measures, by the arm's name."""
    givers: dict[bool, tuple[Giver, Transitions]] = {}
    found: dict[str, Found] = {}
    for name, arm in arms_of(study).items():
        if arm.implicit not in givers:
            part = recorder.child("offline-iql" if arm.implicit else "offline")
            givers[arm.implicit] = pretrain(task, study, seed, part, implicit=arm.implicit)
        found[name] = fine_tune(arm, *givers[arm.implicit], task, study, seed, recorder.child(name.replace(" ", "")))
    return found


def line(label: str, curves: Curves, name: str) -> Line:
    """Mean over seeds with its bootstrap interval, over steps."""
    table = curves.values[name].double().numpy()  # [T, S]
    ends = [stratified_bootstrap(row, mean) for row in table]
    return Line(label, curves.steps, table.mean(1).tolist(), [end.low for end in ends], [end.high for end in ends])


def draw(found: Mapping[str, Found], score: Chart, path: Path) -> None:
    """The score over online steps after the warm-up; Q and the TD error on the data. `score` holds what is known."""
    rows = f"{HELD_OUT} rows, held out for this only"
    panels = {
        ("score", "score"): score,
        ("critics", "q"): Chart("Q on offline rows", rows, score.x, "Q", (), log_x=False, log_y=False),
        ("critics", "td_error"): Chart("TD error on offline rows", rows, score.x, "squared TD error", (), log_x=False),
    }
    filled = [
        replace(chart, lines=[*(line(arm, curves[kind], name) for arm, curves in found.items()), *chart.lines])
        for (kind, name), chart in panels.items()
    ]
    plot_charts(filled, path)


def summary(found: Mapping[str, Found]) -> dict[str, float]:
    """The figures of every arm: before, the lowest, at the end; and how far Q fell and the TD error rose."""
    numbers: dict[str, float] = {}
    for arm, curves in found.items():
        score = curves["score"].values["score"].double().mean(1)
        q, error = (curves["critics"].values[name].double().mean(1) for name in ("q", "td_error"))
        numbers |= {
            f"{arm}/before": float(score[0]),
            f"{arm}/lowest": float(score[1:].min()),
            f"{arm}/end": float(score[-3:].mean()),
            f"{arm}/mean": float(score[1:].mean()),
            f"{arm}/q_fall": float(q[0] - q.min()),
            f"{arm}/td_error_rise": float(error[1:].max() / error[0]),
        }
    return {name: value for name, value in numbers.items() if np.isfinite(value)}
