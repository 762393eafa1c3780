"""What the experiments with sampled duels share: training with exact looks on the way, and charts over draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rlcore.agents.nash import NashContextual
from rlcore.checks import check_integer
from rlcore.errors import ConfigError
from rlcore.reporting.lines import Chart, Line
from rlcore.training import DuelSource, Phase
from rlcore.training.curve import Curve
from rlcore.training.recorder import Recorder

FLOOR = 1e-9
"""Gaps below it are single precision, and are not drawn."""

Measure = Callable[[], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Course:
    """What was measured after some of the updates of one or more agents."""

    updates: Sequence[int]  # [T]
    values: Mapping[str, Tensor]  # each [draws, T]


def train(
    agent: NashContextual, source: DuelSource, iterations: int, looks: int, measure: Measure, recorder: Recorder
) -> tuple[Course, dict[str, float]]:
    """Take `iterations` batches and measure [contexts] at `looks` of them: means, maxima, and the last of them."""
    every = max(1, iterations // looks)
    curve = Curve(lambda _: measure(), lambda k: k % every == 0, phase="duels")

    def worst() -> dict[str, float]:
        return {f"eval/worst_{name}": float(value.max()) for name, value in measure().items()}

    phases = [Phase("duels", source, iterations, agent.update)]
    recorder.train(agent, phases, evaluate=worst, evaluate_every=every, main_metric="eval/worst_gap",
                   callbacks=[curve], keep={"curve": curve})  # fmt: skip
    found = curve.values  # each [T, contexts]
    values = {f"mean_{name}": rows.mean(-1).unsqueeze(0) for name, rows in found.items()}
    values |= {f"worst_{name}": rows.amax(-1).unsqueeze(0) for name, rows in found.items()}
    last = {f"eval/{name}": float(rows[0, -1]) for name, rows in values.items()}
    return Course(curve.iterations, values), recorder.finish(last | {"duels": float(source.steps)})


def together(courses: Sequence[Course]) -> Course:
    """The draws of one agent side by side."""
    names = courses[0].values
    return Course(courses[0].updates, {name: torch.cat([c.values[name] for c in courses]) for name in names})


def line(label: str, course: Course, name: str) -> Line:
    """Medians over draws, with the whole range where there are several, down to the floor."""
    rows = course.values[name]  # [draws, T]
    kept = [k for k in range(rows.shape[1]) if float(rows[:, k].min()) > FLOOR]
    x, y = [float(course.updates[k]) for k in kept], rows.quantile(0.5, 0)[kept].tolist()
    if len(rows) == 1:
        return Line(label, x, y)
    return Line(label, x, y, rows.amin(0)[kept].tolist(), rows.amax(0)[kept].tolist())


def summary(course: Course) -> dict[str, float]:
    """Medians over draws at the end, and the worst draw."""
    found = {f"eval/{name}": float(rows[:, -1].quantile(0.5)) for name, rows in course.values.items()}
    return found | {f"eval/{name}, worst draw": float(rows[:, -1].max()) for name, rows in course.values.items()}


def chart(title: str, subtitle: str, y: str, name: str, courses: Mapping[str, Course]) -> Chart:
    """One line for each of the courses."""
    return Chart(title, subtitle, "updates", y, [line(label, course, name) for label, course in courses.items()])


def check_study(rows: int, iterations: int, evaluations: int, draws: int, estimators: Sequence[str]) -> None:
    """Raise unless there is something to do."""
    check_integer("rows, iterations, evaluations, draws", rows, iterations, evaluations, draws)
    if min(rows, iterations, evaluations, draws) < 1 or not estimators:
        raise ConfigError("need at least one row, iteration, evaluation, draw and estimator")
