"""CQL, Cal-QL, IQL, AWAC, TD3+BC and behaviour cloning on the same data sets, beside who made them and an expert.

rlcore run offline_agents quick
rlcore run offline_agents paper --mazes medium large --robots
rlcore run offline_agents paper --mazes --robots Hopper --robot-kinds medium-replay expert

Every agent draws as many rows for an update, and all seeds of one agent are one batch of independent networks. The
score is that of the deterministic policy: in a maze the share of episodes that reach the goal, of a runner
(R - R_random) / (R_expert - R_random). The mean score of the episodes in the data and the expert's, 1, stand beside it.
Rewards in a maze are -`time_cost` per second until the goal, those of runners Gymnasium's. Runners need the extra
`robotics`, and their data are made first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from rlcore.agents.actor_critic import (
    Awac,
    AwacConfig,
    BehaviourCloning,
    CloningConfig,
    Cql,
    CqlConfig,
    Iql,
    IqlConfig,
    NetworkConfig,
    SacConfig,
    Td3Bc,
    Td3BcConfig,
    cal_ql,
)
from rlcore.agents.actor_critic.networks import Spaces
from rlcore.data import Transitions
from rlcore.experiments import locomotion_data
from rlcore.experiments.offline_tasks import MazeData, OfflineTask, maze_task
from rlcore.experiments.point_maze_data import Kind as MazeKind
from rlcore.experiments.runner_tasks import RunnerData, runner_tasks
from rlcore.experiments.wsrl_locomotion import FEW_STEPS
from rlcore.experiments.wsrl_study import Curves, line
from rlcore.nn.ensemble import Layers
from rlcore.reporting.lines import Chart, plot_charts
from rlcore.reporting.statistics import summarise
from rlcore.reporting.tables import print_rows
from rlcore.seeding import Streams
from rlcore.simulation.policy import Policy
from rlcore.training import Phase
from rlcore.training.agent import Agent
from rlcore.training.curve import Curve
from rlcore.training.offline import DatasetSource
from rlcore.training.recorder import SILENT, Recorder

Name = Literal["CQL", "Cal-QL", "IQL", "AWAC", "TD3+BC", "cloning"]
PANELS = 4  # of a figure


@dataclass(frozen=True)
class Learners:
    """Settings of the agents."""

    conservative: CqlConfig = field(default_factory=lambda: CqlConfig(SacConfig(compiled=True, target_actions=10)))
    """CQL, and Cal-QL but for the calibration."""
    iql: IqlConfig = field(default_factory=IqlConfig)
    """Implicit Q-learning."""
    awac: AwacConfig = field(default_factory=AwacConfig)
    """Advantage-weighted actor-critic."""
    td3_bc: Td3BcConfig = field(default_factory=Td3BcConfig)
    """TD3 with a pull to the data."""
    cloning: CloningConfig = field(default_factory=CloningConfig)
    """Behaviour cloning."""

    def make(self, name: Name, spaces: Spaces, *, seed: int, seeds: int) -> Agent[Transitions]:
        """The agent of this name."""
        makers: Mapping[Name, Callable[[], Agent[Transitions]]] = {
            "CQL": lambda: Cql(spaces, self.conservative, seed=seed, seeds=seeds),
            "Cal-QL": lambda: cal_ql(spaces, self.conservative, seed=seed, seeds=seeds),
            "IQL": lambda: Iql(spaces, self.iql, seed=seed, seeds=seeds),
            "AWAC": lambda: Awac(spaces, self.awac, seed=seed, seeds=seeds),
            "TD3+BC": lambda: Td3Bc(spaces, self.td3_bc, seed=seed, seeds=seeds),
            "cloning": lambda: BehaviourCloning(spaces, self.cloning, seed=seed, seeds=seeds),
        }
        return makers[name]()


LAYERS = Layers((64, 64), layer_norm=True)
NETWORKS = NetworkConfig(critics=2, critic=LAYERS, actor=replace(LAYERS, layer_norm=False))
STEP = SacConfig(
    NETWORKS,
    critic_rate=1e-3,
    actor_rate=3e-4,
    temperature_rate=3e-4,
    target_rate=0.02,
    initial_temperature=0.2,
    target_actions=2,
)
SMALL = Learners(
    CqlConfig(STEP, weight=1.0, actions=2),
    IqlConfig(NETWORKS, rate=1e-3, target_rate=0.02),
    AwacConfig(NETWORKS, rate=1e-3, target_rate=0.02),
    Td3BcConfig(NETWORKS, rate=1e-3, target_rate=0.02),
    CloningConfig(replace(NETWORKS, critics=1), rate=1e-3),
)
"""Small networks and high rates, so that minutes suffice."""


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    agents: tuple[Name, ...] = ("CQL", "Cal-QL", "IQL", "AWAC", "TD3+BC", "cloning")
    """Which agents."""
    mazes: tuple[str, ...] = ("umaze", "medium", "large")
    """Of umaze, medium and large."""
    maze_kinds: tuple[MazeKind, ...] = ("waypoint", "diverse")
    """Which data of each maze."""
    robots: tuple[str, ...] = ("HalfCheetah", "Hopper", "Walker2d")
    """Of HalfCheetah, Hopper and Walker2d."""
    robot_kinds: tuple[locomotion_data.Kind, ...] = ("random", "medium", "medium-replay", "expert")
    """Which data of each robot."""
    seeds: int = 5
    """Independent learners of each agent, side by side in one batch."""
    updates: int = 1_000_000
    """Updates of each agent."""
    minibatch: int = 256
    """Rows of an update."""
    evaluations: int = 20
    """Measurements on the way."""
    episodes: int = 20
    """Episodes per seed and measurement."""
    maze_data: MazeData = field(default_factory=lambda: MazeData(data_steps=1_000_000))
    """Data and rewards of the mazes; its `maze` and `kind` are not used."""
    robot_data: locomotion_data.Config = field(default_factory=locomotion_data.Config)
    """How the runners' data are made; its `robots`, `kinds` and `root` are not used."""
    maze_learners: Learners = field(
        default_factory=lambda: Learners(iql=IqlConfig(expectile=0.9, inverse_temperature=10.0))
    )
    """The agents in mazes."""
    robot_learners: Learners = field(default_factory=Learners)
    """The agents with runners."""


PRESETS = {
    "quick": Config(
        mazes=("medium",),
        maze_kinds=("diverse",),
        robots=("Hopper",),
        robot_kinds=("medium-replay",),
        seeds=3,
        updates=600,
        minibatch=64,
        evaluations=6,
        episodes=5,
        maze_data=MazeData(),
        robot_data=FEW_STEPS,
        maze_learners=replace(SMALL, iql=replace(SMALL.iql, expectile=0.9, inverse_temperature=10.0)),
        robot_learners=SMALL,
    ),
    "paper": Config(),
}


def tasks_of(config: Config, seed: int, recorder: Recorder) -> Iterator[tuple[OfflineTask, Learners]]:
    """Every data set with the agents' settings for it."""
    common: dict[str, int] = {"seeds": config.seeds, "episodes": config.episodes, "seed": seed}
    for maze in config.mazes:
        for kind in config.maze_kinds:
            yield maze_task(replace(config.maze_data, maze=maze, kind=kind), **common), config.maze_learners
    for robot in config.robots:
        about = RunnerData(robot, making=config.robot_data)
        for task in runner_tasks(about, config.robot_kinds, **common, recorder=recorder.child(robot)):
            yield task, config.robot_learners


def train(
    agent: Agent[Transitions], data: Transitions, task: OfflineTask, config: Config, seed: int, recorder: Recorder
) -> Curves:
    """The `score` of each seed over the updates."""
    streams, every = Streams(seed), max(1, config.updates // config.evaluations)
    source = DatasetSource(data, config.minibatch, generator=streams["data"], seeds=task.seeds, counted=True)
    measure: Callable[[Policy], Mapping[str, Tensor]] = lambda policy: {"score": task.score(policy)}  # noqa: E731
    curve = Curve(measure, lambda k: k % every == 0, phase="learn", logger=recorder.logger(), tag="eval")
    first = task.score(agent)
    phases = [Phase("learn", source, config.updates, agent.update)]
    recorder.train(agent, phases, callbacks=[curve], keep={"curve": curve, "streams": streams})
    return Curves([0, *curve.iterations], {"score": torch.cat([first[None], curve.values["score"]])})


def study(task: OfflineTask, learners: Learners, config: Config, seed: int, recorder: Recorder) -> dict[str, Curves]:
    """What `train` measures of every agent on one data set."""
    data = task.data()
    found: dict[str, Curves] = {}
    for name in config.agents:
        agent = learners.make(name, task.spaces, seed=seed, seeds=task.seeds)
        part = recorder.child(f"{task.name}, {name}".replace(", ", "-").replace(" ", "-"))
        found[name] = train(agent, data, task, config, seed, part)
    return found


def chart_of(task: OfflineTask, found: Mapping[str, Curves], updates: int) -> Chart:
    """Score over updates of every agent, with the data's mean and the expert's."""
    lines = [line(name, curves, "score") for name, curves in found.items()]
    about = f"{task.unit}; {task.seeds} seeds, mean and 95 % interval"
    return Chart(task.name, about, "updates", "score", [*lines, *task.known((0, updates))], log_x=False, log_y=False)


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Train every agent on every set, draw and tell; returns the scores at the end, and that of the data."""
    numbers: dict[str, float] = {}
    charts: list[Chart] = []
    table: list[list[str]] = []
    for task, learners in tasks_of(config, seed, recorder):
        found, behaviour = study(task, learners, config, seed, recorder), task.behaviour()
        charts.append(chart_of(task, found, config.updates))
        last = {name: summarise(curves.values["score"][-1]) for name, curves in found.items()}
        numbers |= {f"{task.name}/{name}": value.mean for name, value in last.items()}
        numbers[f"{task.name}/data"] = behaviour
        cells = (f"{value.mean:.2f} [{value.low:.2f}, {value.high:.2f}]" for value in last.values())
        table.append([task.name, f"{behaviour:.2f}", *cells])
    print_rows(["data set", "data", *config.agents], table)
    for first in range(0, len(charts), PANELS):
        name = "offline_agents" + (f"_{first // PANELS + 1}" if first else "")
        if (path := recorder.figure_path(name)) is not None:
            plot_charts(charts[first : first + PANELS], path)
    return recorder.finish(numbers)
