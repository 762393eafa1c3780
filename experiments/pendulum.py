"""Continuous-time q-learning swings the pendulum up: two small networks, rows from a replay buffer.

rlcore run pendulum quick
rlcore run pendulum paper --seeds 5 --dt 0.02
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch

from rlcore.agents.martingale import QLearning, QLearningConfig
from rlcore.data import ReplayBuffer
from rlcore.envs.control.pendulum import Pendulum, PendulumConfig
from rlcore.nn.mlp import Mlp, Scalar
from rlcore.nn.quadratic_q import BoxQuadraticQ
from rlcore.reporting.evaluation import evaluate
from rlcore.seeding import Streams, derive_seed
from rlcore.simulation.modes import Mode
from rlcore.simulation.policy import Policy
from rlcore.simulation.rollout import begin
from rlcore.timegrid import steps_in
from rlcore.training import Phase, ReplaySource, RolloutSource
from rlcore.training.recorder import SILENT, Recorder

EVALUATION_PATHS = 256


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    dt: float = 0.05
    """Control interval [s]."""
    paths: int = 32
    """Parallel paths that gather experience."""
    seconds: float = 64.0
    """Physical time per path [s]."""
    gather_interval: float = 0.2
    """Physical time gathered per path between two groups of updates [s]."""
    updates_per_gather: int = 8
    """Updates, each on rows of their own, per gathered piece."""
    rows: int = 512
    """Rows of an update."""
    rate: float = 0.04
    """Learning rate of Adam per second of physical time [1/s]."""
    target_time: float = 2.5
    """Time constant of the averaged copy of J from which J(X') is taken [s]."""
    temperature: float = 0.05
    """gamma, the weight of the entropy [reward per second]."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers of both networks."""
    evaluations: int = 20
    """How often the policy is evaluated on the way."""
    mode: Mode = "eager"
    """How rollouts are carried out: 'eager', 'compiled', 'graph' on a GPU, or 'auto', by device and size."""
    device: str = "cpu"
    """'cpu' or 'cuda'."""


PRESETS = {"quick": Config(), "paper": Config(seconds=200.0, rate=0.02)}


def make_agent(env: Pendulum, config: Config, streams: Streams) -> QLearning:
    """J and the law of q are networks; q lives on the box of torques, so its constraint holds by construction."""
    spec = env.spec
    scale = (1.0, 1.0, 0.25)  # cos, sin, angular velocity [rad/s]: all of order one
    value = Scalar(Mlp(3, config.hidden, 1, generator=streams["value"], input_scale=scale))
    network = Mlp(3, config.hidden, 2, generator=streams["q"], input_scale=scale, output_gain=0.01)
    return QLearning(
        value,
        BoxQuadraticQ(network, spec.action_dim, config.temperature, spec.action_low, spec.action_high),
        QLearningConfig(
            discount_rate=spec.discount_rate,
            value_rate=config.rate,
            q_rate=config.rate,
            update_interval=config.gather_interval / config.updates_per_gather,
            decay=False,
            target_time=config.target_time,
            gradient_clip=10.0,
        ),
        optimizer=torch.optim.Adam,
    )


def return_optimum(env: Pendulum) -> float:
    """Mean optimal discounted return over the starts of the evaluation, from the grid solution of the HJB equation."""
    starts = begin(env, EVALUATION_PATHS, seed=derive_seed(0, "evaluation")).env.x
    return float(env.optimal_value(starts[:, 0], starts[:, 1]).mean())


def evaluator(env: Pendulum, policy: Policy) -> Callable[[], Mapping[str, float]]:
    """Discounted return of the deterministic policy, and how much of the optimum is missing."""
    optimum = return_optimum(env)

    def measure() -> Mapping[str, float]:
        found = evaluate(policy, env, paths=EVALUATION_PATHS).mean
        return {"eval/return": found, "eval/gap": (optimum - found) / abs(optimum)}

    return measure


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Train from a replay buffer that the policy of the moment fills."""
    torch.manual_seed(seed)
    env = Pendulum(replace(PendulumConfig(), dt=config.dt), device=config.device)
    agent = make_agent(env, config, Streams(seed)).to(env.device)
    return learn(agent, env, config, seed, recorder)


def learn(agent: QLearning, env: Pendulum, config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Gather and update; returns the metrics of the last update and evaluation."""
    feed = RolloutSource(env, config.paths, steps_in(config.gather_interval, config.dt), seed=seed, mode=config.mode)
    capacity = config.paths * steps_in(config.seconds, config.dt)
    source = ReplaySource(
        ReplayBuffer(capacity, env.device),
        config.rows,
        generator=Streams(seed)["replay"],
        feed=feed,
        draws_per_feed=config.updates_per_gather,
    )
    iterations = config.updates_per_gather * math.ceil(config.seconds / config.gather_interval)
    recorder.hparams({"agent": "q-learning", "rate": config.rate, "dt": config.dt})
    return recorder.train(
        agent,
        [Phase("online", source, iterations, agent.update)],
        evaluate=evaluator(env, agent),
        evaluate_every=max(1, iterations // config.evaluations),
        log_every=max(1, iterations // 100),
        main_metric="eval/return",
    )
