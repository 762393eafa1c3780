"""Deep agents in continuous time: CT-SAC and CT-DDPG from replayed windows, CPPO on policy.

rlcore run deep_control quick --agent ct-ddpg
rlcore run deep_control paper --dt 0.001 --seeds 5
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from rlcore.agents.martingale import CppoConfig, DeepConfig, cppo, ct_ddpg, ct_sac
from rlcore.data import ReplayBuffer
from rlcore.errors import unknown_name
from rlcore.experiments.tasks import EPISODE, Task, TaskName, make_task, steps_of
from rlcore.seeding import Streams
from rlcore.simulation.modes import Mode
from rlcore.training import Agent, HeldSource, Phase, ReplaySource, Source, WindowSource
from rlcore.training.recorder import SILENT, Recorder

OurAgent = Literal["ct-sac", "ct-ddpg", "cppo"]


def check_agent(name: str, known: Iterable[str]) -> None:
    """Raise unless the name is one of an agent."""
    if name not in (names := tuple(known)):
        raise unknown_name("agent", name, names)


@dataclass(frozen=True)
class Replay:
    """How experience becomes rows. Nothing here knows dt."""

    gather: float = 0.1
    """Physical time gathered per path between two groups of updates [s]."""
    updates: int = 32
    """Updates per gathered piece."""
    rows: int = 256
    """Windows per update."""
    window: float = 0.1
    """Length of a window [s]."""
    stride: float = 0.05
    """A window begins every so many seconds [s]."""
    nodes: int = 2
    """Points of a window at which q is evaluated."""
    hold: float = 0.3
    """Time for which the exploration noise is held [s]."""
    shares: tuple[float, ...] = (0.0, 0.5, 1.0, 1.0)
    """Shares of the exploration noise, path by path in turn."""


LEARNER = DeepConfig(
    temperature=0.03,
    critic_rate=0.96,
    actor_rate=0.96,
    decay_time=2.5,
    target_time=0.05,
)
ON_POLICY = CppoConfig(temperature=0.0, policy_trace=1.0, value_trace=2.0, decay_time=4.0)


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    agent: OurAgent = "ct-sac"
    """Which agent."""
    task: TaskName = "pendulum"
    """Which problem."""
    dt: float = 0.05
    """Control interval [s]."""
    paths: int = 256
    """Parallel paths."""
    seconds: float = 8.0
    """Physical time per path [s]."""
    replay: Replay = Replay()
    """Experience of ct-sac and ct-ddpg."""
    learner: DeepConfig = LEARNER
    """ct-sac and ct-ddpg; the latter has no temperature. The update interval follows from `replay`."""
    exploration: float = 1.0
    """ct-ddpg: standard deviation of the noise on the action, in half-widths of the box."""
    cppo: CppoConfig = ON_POLICY
    """cppo."""
    cppo_episode: float = 2.0
    """cppo: length of an episode [s]; rows of the policy of the moment must keep showing the starts."""
    cppo_gather: float = 0.2
    """cppo: physical time per path and update [s]."""
    cppo_hold: float = 0.05
    """cppo: time for which the noise is held, and length of a row [s]."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers of every network."""
    evaluations: int = 8
    """How often the policy is evaluated on the way."""
    mode: Mode = "eager"
    """How rollouts are carried out: 'eager', 'compiled', 'graph' on a GPU, or 'auto', by device and size."""
    device: str = "cpu"
    """'cpu' or 'cuda'."""


PRESETS = {"quick": Config(), "paper": Config(seconds=24.0, learner=replace(LEARNER, decay_time=8.0), evaluations=24)}


def replayed(task: Task, config: Config, seed: int) -> tuple[Agent[Any], Source[Any], int]:
    """CT-SAC or CT-DDPG, its rows, and the number of updates."""
    replay, streams, spec = config.replay, Streams(seed), task.env.spec
    common: dict[str, Any] = {
        "generator": streams["networks"],
        "hidden": config.hidden,
        "input_scale": task.input_scale,
    }
    learner = replace(config.learner, update_interval=replay.gather / replay.updates)
    if config.agent == "ct-sac":
        agent = ct_sac(spec, learner, **common)
    else:
        agent = ct_ddpg(spec, replace(learner, temperature=0.0), exploration=config.exploration, **common)
    gather, hold = steps_of(replay.gather, config.dt), steps_of(replay.hold, config.dt)
    feed = HeldSource(task.env, config.paths, gather, seed=seed, hold=hold, shares=replay.shares, mode=config.mode)
    cut = WindowSource(
        feed,
        steps_of(replay.window, config.dt),
        stride=steps_of(replay.stride, config.dt),
        nodes=replay.nodes,
        discount_rate=spec.discount_rate,
        generator=streams["nodes"],
    )
    gathers = math.ceil(config.seconds / replay.gather)
    per_gather = math.ceil(steps_of(replay.gather, config.dt) / cut.stride)
    buffer = ReplayBuffer(config.paths * gathers * per_gather, task.env.device)
    rows = ReplaySource(buffer, replay.rows, generator=streams["replay"], feed=cut, draws_per_feed=replay.updates)
    return agent.to(task.env.device), rows, gathers * replay.updates


def on_policy(task: Task, config: Config, seed: int) -> tuple[Agent[Any], Source[Any], int]:
    """CPPO, its rollouts, and the number of updates."""
    streams = Streams(seed)
    common: dict[str, Any] = {"hidden": config.hidden, "input_scale": task.input_scale}
    agent = cppo(task.env.spec, config.cppo, generator=streams["networks"], **common)
    hold = steps_of(config.cppo_hold, config.dt)
    steps = hold * steps_of(config.cppo_gather, hold * config.dt)
    feed = HeldSource(task.env, config.paths, steps, seed=seed, hold=hold, spread=True, mode=config.mode)
    rate = task.env.spec.discount_rate
    rows = WindowSource(feed, hold, stride=hold, nodes=1, discount_rate=rate, generator=streams["nodes"])
    return agent.to(task.env.device), rows, math.ceil(config.seconds / config.cppo_gather)


def train(config: Config, seed: int, recorder: Recorder = SILENT) -> tuple[Agent[Any], dict[str, float]]:
    """The trained agent, and the metrics of the last update and evaluation."""
    check_agent(config.agent, get_args(OurAgent))
    on = config.agent == "cppo"
    task = make_task(config.task, config.dt, config.device, episode=config.cppo_episode if on else EPISODE)
    agent, source, iterations = (on_policy if on else replayed)(task, config, seed)
    recorder.hparams({"agent": config.agent, "task": config.task, "dt": config.dt})
    found = recorder.train(
        agent,
        [Phase("learn", source, iterations, agent.update)],
        evaluate=task.evaluator(agent),
        evaluate_every=max(1, iterations // config.evaluations),
        log_every=max(1, iterations // 100),
        main_metric="eval/score",
    )
    return agent, found


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Train; returns the return and the score among the last metrics."""
    return train(config, seed, recorder)[1]
