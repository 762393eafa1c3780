"""What the control interval does to deep agents: dt from .1 to .001 s at equal physical time and equal updates.

rlcore run time_step_sweep quick
rlcore run time_step_sweep paper --task lq
rlcore run time_step_sweep quick --task cheetah --agents ct-sac sac-naive

Every policy is judged at the same fine control interval, whatever it was trained at; see `docs/time_step_sweep.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch

from rlcore.checks import check_positive
from rlcore.errors import ConfigError
from rlcore.experiments import baseline, cheetah, deep_control
from rlcore.experiments.deep_control import OurAgent, check_agent
from rlcore.experiments.rivals import RivalName, make_rival
from rlcore.experiments.tasks import EPISODE, make_task
from rlcore.reporting.lines import Chart, Line, plot_charts
from rlcore.reporting.statistics import interquartile_mean, stratified_bootstrap
from rlcore.training.files import check_same, plain, read_json
from rlcore.training.recorder import SILENT, Recorder

OURS: tuple[OurAgent, ...] = get_args(OurAgent)
RIVALS: tuple[RivalName, ...] = get_args(RivalName)
SHORTEST = replace(deep_control.PRESETS["quick"], evaluations=1)
SHORT_RUN = replace(cheetah.PRESETS["quick"], seconds=30.0, evaluations=1)
Scores = Mapping[tuple[str, float], Sequence[float]]
"""Scores of the repeats, by agent and control interval."""


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    task: Literal["lq", "pendulum", "cheetah"] = "pendulum"
    """Which problem; the cheetah needs the extra `robotics`."""
    agents: tuple[OurAgent | RivalName, ...] = (*OURS, *RIVALS)
    """Ours (ct-sac, ct-ddpg, cppo) and Stable-Baselines3's (sac-, ppo-, each naive or fair)."""
    dts: tuple[float, ...] = (0.05, 0.005)
    """Control intervals [s]."""
    repeats: int = 1
    """Independent runs of each."""
    learner: deep_control.Config = SHORTEST
    """lq, pendulum: how long and on how many paths everything learns, and how ours do it."""
    runner: cheetah.Config = SHORT_RUN
    """cheetah: the same."""
    recorded: tuple[str, ...] = ()
    """Folders of sweeps that were recorded in pieces: a run that is finished there is read, not done again."""
    only_recorded: bool = False
    """Draw and return what is recorded, and train nothing."""


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
    """Score of one agent after training at one control interval; of the cheetah, its reward per second."""
    if name not in OURS:
        return train_rival(cast(RivalName, name), dt, config, seed, recorder)
    if config.task == "cheetah":
        runner = replace(config.runner, agent=name, dt=dt)
        return cheetah.run(runner, seed, recorder)["eval/average_reward"]
    settings = replace(config.learner, agent=name, task=config.task, dt=dt)
    return deep_control.run(settings, seed, recorder)["eval/score"]


def train_rival(name: RivalName, dt: float, config: Config, seed: int, recorder: Recorder) -> float:
    """The same for an agent of Stable-Baselines3."""
    from stable_baselines3.common.vec_env import DummyVecEnv

    from rlcore.interop.sb3 import Sb3Policy, Sb3VecEnv

    torch.manual_seed(seed)
    learner: deep_control.Config | cheetah.Config
    measurer: Callable[[Any], Callable[[], Mapping[str, float]]]
    if config.task == "cheetah":
        learner = runner = replace(config.runner, dt=dt)
        copies, spec = runner.copies, cheetah.make_spec(runner)
        vector: Any = DummyVecEnv([lambda: cheetah.make_env(dt, runner.physics_timestep)] * copies)
        measurer, metric = (lambda policy: cheetah.evaluator(runner, policy)), "eval/average_reward"
    else:
        learner = config.learner
        episode = learner.cppo_episode if name.startswith("ppo") else EPISODE
        task = make_task(config.task, dt, learner.device, episode=episode)
        copies, spec = learner.paths, task.env.spec
        vector = Sb3VecEnv(task.env, copies, seed=seed)
        measurer, metric = task.evaluator, "eval/score"
    replay = learner.replay
    updates = round(learner.seconds / replay.gather * replay.updates)
    model = make_rival(
        name,
        vector,
        spec,
        seconds=learner.seconds,
        updates=updates,
        hold=replay.hold,
        seed=seed,
        hidden=learner.hidden,
    )
    recorder.hparams({"agent": name, "task": config.task, "dt": dt})
    measure = measurer(Sb3Policy(model))
    return baseline.learn(model, dt, copies * learner.seconds, learner.evaluations, measure, recorder)[metric]


def look_up(part: str, config: Config, seed: int) -> dict[str, float] | None:
    """The result of one run in the recorded folders; None where no folder has it finished."""
    for folder in config.recorded:
        path = Path(folder) / f"seed-{seed}" / part
        if (path / "result.json").exists():
            names = ("task", "runner" if config.task == "cheetah" else "learner")
            stored = read_json(path / "config.json")["config"]
            asked = plain({name: getattr(config, name) for name in names})
            check_same({name: stored.get(name) for name in names}, asked, path)
            return {name: float(value) for name, value in read_json(path / "result.json").items()}
    return None


def line(name: str, scores: Scores) -> Line:
    """Interquartile means over the repeats with 95 % bootstrap intervals."""
    dts = [dt for agent, dt in scores if agent == name]
    found = [scores[name, dt] for dt in dts]
    ends = [stratified_bootstrap(values, interquartile_mean) for values in found]
    middle = [float(interquartile_mean(values)) for values in found]
    return Line(NAMES[name], dts, middle, [end.low for end in ends], [end.high for end in ends])


def draw(scores: Scores, config: Config, path: Path) -> None:
    """Score against dt, one line per agent."""
    runner, learner = config.runner, config.learner
    fewest, most = (pick(map(len, scores.values())) for pick in (min, max))
    count = f"{most}" if fewest == most else f"{fewest} to {most}"
    runs = "1 run" if most == 1 else f"IQM of {count} runs, 95 % intervals"
    lines = [line(name, scores) for name in dict.fromkeys(agent for agent, _ in scores)]
    if config.task == "cheetah":
        seconds, title, y, known = runner.copies * runner.seconds, "Reward after training", "reward per second", None
    else:
        seconds, title, y = learner.paths * learner.seconds, "Score after training", "0 idle, 1 optimal"
        known = 1.0
    subtitle = f"{seconds:g} s of experience and equal updates at every dt; {runs}"
    chart = Chart(
        f"{title}, {config.task}",
        subtitle,
        "control interval dt [s]",
        y,
        lines,
        log_y=False,
        known=known,
    )
    plot_charts([chart], path)


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Train every agent at every control interval; returns the interquartile mean of the scores."""
    for agent in config.agents:
        check_agent(agent, NAMES)
    for dt in config.dts:
        check_positive("dts", dt, "s")
    if not config.agents or not config.dts or config.repeats < 1:
        raise ConfigError(
            f"need an agent, a control interval and a run at least, got agents={list(config.agents)}, "
            f"dts={list(config.dts)} and repeats={config.repeats}"
        )
    scores: dict[tuple[str, float], list[float]] = {(name, dt): [] for name in config.agents for dt in config.dts}
    for r in range(config.repeats):
        for name, dt in scores:
            part = f"{name}-{dt:g}-{r}"
            child = recorder.child(part, agent=name, dt=dt)
            result = child.result or look_up(part, config, seed)
            if result is None and config.only_recorded:
                continue
            if result is None:
                result = child.finish({"eval/score": train(name, dt, config, seed + 1000 * r, child)})
            scores[name, dt].append(result["eval/score"])
    found = {key: values for key, values in scores.items() if values}
    if not found:
        raise ConfigError(f"no finished run in the recorded folders, got {list(config.recorded)}; check the paths")
    figure = recorder.figure_path("time_step_sweep.png")
    if figure is not None:
        draw(found, config, figure)
    middle = {key: float(interquartile_mean(values)) for key, values in found.items()}
    return recorder.finish({f"eval/score/{name}/{dt:g}": value for (name, dt), value in middle.items()})
