"""What the control interval does to deep agents: dt from .1 to .001 s at equal physical time and equal updates.

rlcore run time_step_sweep quick
rlcore run time_step_sweep paper --task lq

Every policy is judged at the same fine control interval, whatever it was trained at; see `docs/time_step_sweep.md`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast, get_args

import torch

from rlcore.experiments import baseline, deep_control
from rlcore.experiments.rivals import RivalName, make_rival
from rlcore.experiments.tasks import EPISODE, TaskName, make_task
from rlcore.reporting.lines import Chart, Line, plot_charts
from rlcore.reporting.statistics import interquartile_mean, stratified_bootstrap
from rlcore.training.recorder import SILENT, Recorder

OURS = ("ct-sac", "ct-ddpg", "cppo")
SHORTEST = replace(deep_control.PRESETS["quick"], evaluations=1)
Scores = Mapping[tuple[str, float], Sequence[float]]
"""Scores of the repeats, by agent and control interval."""


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    task: TaskName = "pendulum"
    """Which problem."""
    agents: tuple[str, ...] = (*OURS, "sac-naive", "sac-fair", "ppo-naive", "ppo-fair")
    """Ours (ct-sac, ct-ddpg, cppo) and Stable-Baselines3's (sac-, ppo-, each naive or fair)."""
    dts: tuple[float, ...] = (0.05, 0.005)
    """Control intervals [s]."""
    repeats: int = 1
    """Independent runs of each."""
    learner: deep_control.Config = SHORTEST
    """How long and on how many paths everything learns, and how ours do it."""


PRESETS = {
    "quick": Config(),
    "paper": Config(dts=(0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001), repeats=5),
}
NAMES = {
    "ct-sac": "CT-SAC",
    "ct-ddpg": "CT-DDPG",
    "cppo": "CPPO",
    "sac-naive": "SAC, naive",
    "sac-fair": "SAC, scaled",
    "ppo-naive": "PPO, naive",
    "ppo-fair": "PPO, scaled",
}


def train(name: str, dt: float, config: Config, seed: int, recorder: Recorder = SILENT) -> float:
    """Score of one agent after training at one control interval."""
    learner = config.learner
    if name not in get_args(RivalName):
        settings = replace(learner, agent=name, task=config.task, dt=dt)  # type: ignore[arg-type]
        return deep_control.run(settings, seed, recorder)["eval/score"]
    from rlcore.interop.sb3 import Sb3Policy

    torch.manual_seed(seed)
    episode = learner.cppo_episode if name.startswith("ppo") else EPISODE
    task = make_task(config.task, dt, learner.device, episode=episode)
    updates = round(learner.seconds / learner.replay.gather * learner.replay.updates)
    model = make_rival(cast(RivalName, name), task, learner.paths, learner.seconds, updates, learner.replay.hold, seed)
    recorder.hparams({"agent": name, "task": config.task, "dt": dt})
    measure, simulated = task.evaluator(Sb3Policy(model)), learner.paths * learner.seconds
    return baseline.learn(model, dt, simulated, learner.evaluations, measure, recorder)["eval/score"]


def line(name: str, dts: Sequence[float], scores: Scores) -> Line:
    """Interquartile means over the repeats with 95 % bootstrap intervals."""
    found = [scores[name, dt] for dt in dts]
    ends = [stratified_bootstrap(values, interquartile_mean) for values in found]
    middle = [float(interquartile_mean(values)) for values in found]
    return Line(NAMES[name], dts, middle, [end.low for end in ends], [end.high for end in ends])


def draw(scores: Scores, config: Config, path: Path) -> None:
    """Score against dt, one line per agent."""
    seconds = config.learner.paths * config.learner.seconds
    runs = "1 run" if config.repeats == 1 else f"IQM of {config.repeats} runs, 95 % intervals"
    subtitle = f"{seconds:g} s of experience and equal updates at every dt; {runs}"
    lines = [line(name, config.dts, scores) for name in config.agents]
    chart = Chart(
        f"Score after training, {config.task}",
        subtitle,
        "control interval dt [s]",
        "0 idle, 1 optimal",
        lines,
        log_y=False,
        known=1.0,
    )
    plot_charts([chart], path)


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Train every agent at every control interval; returns the interquartile mean of the scores."""
    scores: dict[tuple[str, float], list[float]] = {(name, dt): [] for name in config.agents for dt in config.dts}
    for r in range(config.repeats):
        for name, dt in scores:
            child = recorder.child(f"{name}-{dt:g}-{r}", agent=name, dt=dt)
            scores[name, dt].append(train(name, dt, config, seed + 1000 * r, child))
    figure = recorder.figure_path("time_step_sweep.png")
    if figure is not None:
        draw(scores, config, figure)
    middle = {key: float(interquartile_mean(values)) for key, values in scores.items()}
    return recorder.finish({f"eval/score/{name}/{dt:g}": value for (name, dt), value in middle.items()})
