"""Deep agents in continuous time: CT-SAC and CT-DDPG from replayed windows, CPPO on policy.

rlcore run deep_control quick --agent ct-ddpg
rlcore run deep_control paper --dt 0.001 --seeds 5
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

from rlcore.agents.martingale import CppoConfig, DeepConfig, cppo, ct_ddpg, ct_sac
from rlcore.data import ReplayBuffer
from rlcore.experiments.tasks import Task, TaskName, make_task, steps_of
from rlcore.seeding import Streams
from rlcore.training import Agent, CorrelatedSource, Phase, ReplaySource, RolloutSource, Source, WindowSource
from rlcore.training.recorder import SILENT, Recorder


@dataclass(frozen=True)
class Replay:
    """How experience becomes rows. Nothing here knows dt."""

    gather: float = 0.4
    """Physical time gathered per path between two groups of updates [s]."""
    updates: int = 32
    """Updates per gathered piece."""
    rows: int = 256
    """Windows per update."""
    window: float = 0.2
    """Length of a window [s]."""
    stride: float = 0.05
    """A window begins every so many seconds [s]."""
    nodes: int = 4
    """Points of a window at which q is evaluated."""
    correlation_time: float = 0.25
    """Correlation time of the exploration noise [s]."""


LEARNER = DeepConfig(temperature=0.03, critic_rate=0.24, actor_rate=0.24, update_interval=0.0125, target_time=0.2)
ON_POLICY = CppoConfig()


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    agent: Literal["ct-sac", "ct-ddpg", "cppo"] = "ct-sac"
    """Which agent."""
    task: TaskName = "pendulum"
    """Which problem."""
    dt: float = 0.05
    """Control interval [s]."""
    paths: int = 64
    """Parallel paths."""
    seconds: float = 32.0
    """Physical time per path [s]."""
    replay: Replay = Replay()
    """Experience of ct-sac and ct-ddpg."""
    learner: DeepConfig = LEARNER
    """ct-sac and ct-ddpg; the latter has no temperature."""
    exploration: float = 1.0
    """ct-ddpg: standard deviation of the noise on the action, in half-widths of the box."""
    cppo: CppoConfig = ON_POLICY
    """cppo."""
    cppo_gather: float = 0.8
    """cppo: physical time per path and update [s]."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers of every network."""
    evaluations: int = 8
    """How often the policy is evaluated on the way."""
    device: str = "cpu"
    """'cpu' or 'cuda'."""


PRESETS = {"quick": Config(), "paper": Config(seconds=96.0, evaluations=24)}


def replayed(task: Task, config: Config, seed: int) -> tuple[Agent[Any], Source[Any], int]:
    """CT-SAC or CT-DDPG, its rows, and the number of updates."""
    replay, streams, spec = config.replay, Streams(seed), task.env.spec
    common: dict[str, Any] = {
        "generator": streams["networks"],
        "hidden": config.hidden,
        "input_scale": task.input_scale,
    }
    if config.agent == "ct-sac":
        agent = ct_sac(spec, config.learner, **common)
    else:
        agent = ct_ddpg(spec, replace(config.learner, temperature=0.0), exploration=config.exploration, **common)
    feed = CorrelatedSource(
        task.env,
        config.paths,
        steps_of(replay.gather, config.dt),
        seed=seed,
        noise_dim=agent.noise_dim,
        correlation_time=replay.correlation_time,
    )
    cut = WindowSource(
        feed,
        steps_of(replay.window, config.dt),
        stride=steps_of(replay.stride, config.dt),
        nodes=replay.nodes,
        generator=streams["nodes"],
    )
    gathers = math.ceil(config.seconds / replay.gather)
    per_gather = math.ceil(steps_of(replay.gather, config.dt) / cut.stride)
    buffer = ReplayBuffer(config.paths * gathers * per_gather, task.env.device)
    rows = ReplaySource(buffer, replay.rows, generator=streams["replay"], feed=cut, draws_per_feed=replay.updates)
    return agent.to(task.env.device), rows, gathers * replay.updates


def on_policy(task: Task, config: Config, seed: int) -> tuple[Agent[Any], Source[Any], int]:
    """CPPO, its rollouts, and the number of updates."""
    generator = Streams(seed)["networks"]
    agent = cppo(task.env.spec, config.cppo, generator=generator, hidden=config.hidden, input_scale=task.input_scale)
    source = RolloutSource(task.env, config.paths, steps_of(config.cppo_gather, config.dt), seed=seed)
    return agent.to(task.env.device), source, math.ceil(config.seconds / config.cppo_gather)


def train(config: Config, seed: int, recorder: Recorder = SILENT) -> tuple[Agent[Any], dict[str, float]]:
    """The trained agent, and the metrics of the last update and evaluation."""
    task = make_task(config.task, config.dt, config.device)
    agent, source, iterations = (on_policy if config.agent == "cppo" else replayed)(task, config, seed)
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
