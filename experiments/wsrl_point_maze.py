"""From offline to online in a maze without the data: with a warm-up, without one, and beside RLPD, which keeps them.

rlcore run wsrl_point_maze quick
rlcore run wsrl_point_maze paper --maze large --warm-ups 0 1000 5000 20000

Cal-QL learns from a fixed data set; then soft actor-critic goes on from it in an empty buffer, after K steps of the
frozen policy. RLPD starts from nothing and has data in half of every batch. All seeds of an arm are one batch:
independent networks, balls and buffers beside each other. Rewards are a cost of time, -`time_cost` per second until the
goal is reached. What is drawn is the share of episodes that reach the goal, by the deterministic policy.
Source: Zhou et al., ICLR 2025, figures 3 to 6, on D4RL's mazes; here the data are made anew, so numbers differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rlcore.agents.actor_critic import Cql, CqlConfig, NetworkConfig, SacConfig, cal_ql
from rlcore.agents.actor_critic.diagnostics import diagnose
from rlcore.data import Transitions
from rlcore.envs.maze import PointMaze, PointMazeConfig
from rlcore.experiments import point_maze_data
from rlcore.experiments.wsrl_arms import Arm, Beside, Lengths, arm_called, learner, phases_of
from rlcore.nn.ensemble import Layers
from rlcore.reporting.evaluation import evaluate
from rlcore.reporting.lines import Chart, Line, plot_charts
from rlcore.reporting.statistics import mean, stratified_bootstrap
from rlcore.seeding import Streams
from rlcore.simulation.policy import Policy
from rlcore.training import Phase
from rlcore.training.curve import Curve, dense_early
from rlcore.training.offline import DatasetSource
from rlcore.training.prepare import with_returns
from rlcore.training.recorder import SILENT, Recorder

LAYERS = Layers((64, 64), layer_norm=True)
SOFT = SacConfig(
    NetworkConfig(critics=5, critic=LAYERS, actor=replace(LAYERS, layer_norm=False)),
    critic_rate=1e-3,
    actor_rate=3e-4,
    temperature_rate=3e-4,
    target_rate=0.02,
    initial_temperature=0.2,
    compiled=True,
)


@dataclass(frozen=True)
class Config:
    """Settings of the experiment; a step is one control interval of one ball."""

    maze: str = "medium"
    """umaze, medium or large."""
    kind: point_maze_data.Kind = "diverse"
    """Which data: of a controller that runs errands (diverse), or that goes for the goal (waypoint)."""
    dt: float = 0.05
    """Control interval [s]."""
    data_steps: int = 50_000
    """Rows of the data set."""
    time_cost: float = 20.0
    """Reward lost per second before the goal [1/s]."""
    seeds: int = 5
    """Independent runs, side by side in one batch."""
    offline_updates: int = 800
    """Updates of Cal-QL; few enough that there is something left to learn."""
    offline: CqlConfig = field(
        default_factory=lambda: CqlConfig(replace(SOFT, target_actions=4), weight=1.0, actions=4)
    )
    """Cal-QL."""
    online: SacConfig = field(default_factory=lambda: replace(SOFT, critic_steps=4, temperature_rate=1e-2))
    """Soft actor-critic."""
    minibatch: int = 128
    """Rows of a critic update."""
    warm_ups: tuple[int, ...] = (0, 5000)
    """K of each arm of WSRL, steps per seed."""
    beside: tuple[Beside, ...] = ("RLPD",)
    """Arms beside them, with the longest of these warm-ups."""
    steps: int = 1000
    """Online steps per seed after the warm-up."""
    early: tuple[int, int] = (100, 1000)
    """A measurement every so many steps, up to so many."""
    late: int = 500
    """A measurement every so many steps from there on."""
    episodes: int = 20
    """Episodes per seed and measurement."""


PRESETS = {
    "quick": Config(),
    "paper": Config(
        data_steps=1_000_000,
        offline_updates=100_000,
        offline=CqlConfig(SacConfig(compiled=True, target_actions=10), weight=5.0),
        online=SacConfig(compiled=True, critic_steps=4),
        minibatch=256,
        warm_ups=(0, 1000, 5000, 20_000),
        steps=200_000,
        early=(2000, 50_000),
        late=20_000,
    ),
}


def make_env(config: Config) -> PointMaze:
    """The maze in which policies act."""
    return PointMaze(PointMazeConfig(maze=point_maze_data.task(config.maze, config.kind), dt=config.dt))


def reward_scale(config: Config) -> dict[str, float]:
    """1 on arrival becomes 0, and 0 on the way becomes -time_cost dt."""
    step = config.time_cost * config.dt
    return {"scale": step, "bias": -step}


def data_set(config: Config, seed: int) -> Transitions:
    """Rows in order, with the returns that followed; an episode that never arrives is worth never arriving."""
    made = point_maze_data.Config(steps=config.data_steps, paths=50, dt=config.dt)
    rows = point_maze_data.generate(config.maze, config.kind, made, seed)
    return with_returns(rows, **reward_scale(config), failure_reward=0.0)


def arrivals(policy: Policy, config: Config, *, seed: int = 0) -> Tensor:  # [S]
    """Share of episodes that reach the goal, of each seed; row b of the paths is of seed b mod S."""
    found = evaluate(policy, make_env(config), paths=config.seeds * config.episodes, seed=seed)
    return torch.tensor(found.totals).view(config.episodes, config.seeds).mean(0)


def pretrain(config: Config, seed: int, recorder: Recorder) -> tuple[Cql, Transitions]:
    """Cal-QL after its updates, and a few of the rows to watch it by; the data end with this function."""
    data, streams = data_set(config, seed), Streams(seed)
    agent = cal_ql(make_env(config).spec, config.offline, seed=seed, seeds=config.seeds)
    source = DatasetSource(data, config.minibatch, generator=streams["offline"], seeds=config.seeds)
    recorder.train(
        agent,
        [Phase("offline", source, config.offline_updates, agent.update)],
        evaluate=lambda: {"eval/arrivals": float(arrivals(agent, config).mean())},
        evaluate_every=max(1, config.offline_updates // 5),
        main_metric="eval/arrivals",
    )
    return agent, DatasetSource(data, 512, generator=streams["held out"]).next(agent)


def arms_of(config: Config) -> dict[str, Arm]:
    """Every arm by its name; those beside WSRL have the longest warm-up."""
    arms = {f"K = {warm_up}": Arm(warm_up) for warm_up in config.warm_ups}
    return arms | {name: arm_called(name, max(config.warm_ups, default=0)) for name in config.beside}


def fine_tune(
    arm: Arm, giver: Cql, held_out: Transitions, config: Config, seed: int, recorder: Recorder
) -> dict[str, Tensor]:  # each [T, S]
    """What is measured along one arm, from just after the hand-over on; steps under `steps`."""
    env, streams = make_env(config), Streams(seed)
    agent = learner(arm, giver, env, config.offline, config.online, seed=seed)

    def measure(_: Policy) -> Mapping[str, Tensor]:
        return {"arrivals": arrivals(agent, config), **diagnose(agent, held_out)}

    curve = Curve(measure, dense_early(*config.early, config.late), phase="online", logger=recorder.logger())
    first = measure(agent)
    lengths = Lengths(config.steps, config.minibatch, **reward_scale(config))
    offline = data_set(config, seed) if arm.keeps_data else None
    phases = phases_of(arm, agent, giver, env, lengths, streams=streams, offline=offline)
    recorder.train(agent, phases, callbacks=[curve], keep={"curve": curve, "streams": streams})
    steps = torch.tensor([0, *curve.iterations], dtype=torch.float64).unsqueeze(1)
    return {"steps": steps} | {name: torch.cat([first[name][None], v]) for name, v in curve.values.items()}


def line(label: str, found: Mapping[str, Tensor], name: str) -> Line:
    """Mean over seeds with its bootstrap interval, over online steps."""
    values = found[name].double().numpy()  # [T, S]
    ends = [stratified_bootstrap(row, mean) for row in values]
    x = found["steps"][:, 0].tolist()
    return Line(label, x, values.mean(1).tolist(), [end.low for end in ends], [end.high for end in ends])


def draw(found: Mapping[str, Mapping[str, Tensor]], config: Config, path: Path) -> None:
    """Arrivals, Q on the data and TD error on the data over online steps after the warm-up."""
    about = f"{config.maze}, {config.kind} data; {config.seeds} seeds, mean and 95 % interval"
    panels: Sequence[tuple[str, str, str, bool, float | None]] = (
        ("Episodes that arrive", about, "arrivals", False, 1.0),
        ("Q on offline rows", "512 rows, held out for this only", "q", False, None),
        ("TD error on offline rows", "the same rows, mean square", "td_error", True, None),
    )
    charts = [
        Chart(
            title,
            subtitle,
            "online steps after the warm-up, per seed",
            {"arrivals": "share", "q": "Q", "td_error": "squared TD error"}[name],
            [line(arm, values, name) for arm, values in found.items()],
            log_x=False,
            log_y=log,
            known=known,
        )
        for title, subtitle, name, log, known in panels
    ]
    plot_charts(charts, path)


def summary(found: Mapping[str, Mapping[str, Tensor]]) -> dict[str, float]:
    """The figures of every arm: before, the lowest, at the end; and how far Q fell and the TD error rose."""
    numbers: dict[str, float] = {}
    for arm, values in found.items():
        score, q, error = (values[name].double().mean(1) for name in ("arrivals", "q", "td_error"))
        numbers |= {
            f"{arm}/before": float(score[0]),
            f"{arm}/lowest": float(score[1:].min()),
            f"{arm}/end": float(score[-3:].mean()),
            f"{arm}/mean": float(score[1:].mean()),
            f"{arm}/q_fall": float(q[0] - q.min()),
            f"{arm}/td_error_rise": float(error[1:].max() / error[0]),
        }
    return {name: value for name, value in numbers.items() if np.isfinite(value)}


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Pre-train once, fine-tune every arm, draw; returns the figures of `summary`."""
    giver, held_out = pretrain(config, seed, recorder.child("offline"))
    found = {
        name: fine_tune(arm, giver, held_out, config, seed, recorder.child(name.replace(" ", "")))
        for name, arm in arms_of(config).items()
    }
    if (path := recorder.figure_path("wsrl_point_maze")) is not None:
        draw(found, config, path)
    return recorder.finish(summary(found))
