"""Continuous-time q-learning on the ergodic linear-quadratic problem: it finds the known gain, variance and reward.

rlcore run ergodic_lqr quick
rlcore run ergodic_lqr paper --seeds 5 --dt 0.1
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rlcore.agents.martingale import QLearning, QLearningConfig
from rlcore.envs.control.lqr import ERGODIC, ScalarLqr
from rlcore.nn.mlp import LinearInFeatures
from rlcore.nn.quadratic_q import QuadraticQ
from rlcore.reporting.evaluation import evaluate
from rlcore.simulation.modes import Mode
from rlcore.simulation.policy import Policy
from rlcore.timegrid import steps_in
from rlcore.training import Phase, RolloutSource
from rlcore.training.recorder import SILENT, Recorder


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    dt: float = 0.01
    """Control interval [s]."""
    paths: int = 1024
    """Parallel paths."""
    seconds: float = 600.0
    """Physical time per path [s]."""
    update_interval: float = 0.1
    """Physical time between two updates [s]."""
    rate: float = 1.0
    """Learning rate of value, mean and average reward [1/s]; ten times that for the log-curvature of q."""
    evaluations: int = 20
    """How often the policy is evaluated on the way."""
    mode: Mode = "eager"
    """How rollouts are carried out: 'eager', 'compiled', 'graph' on a GPU, or 'auto', by device and size."""
    device: str = "cpu"
    """'cpu' or 'cuda'."""


PRESETS = {"quick": Config(paths=64, seconds=100.0), "paper": Config()}


def value_features(x: Tensor) -> Tensor:  # [..., 1] -> [..., 2]
    """(x^2 / 2, x), which span the value function up to a constant."""
    return torch.cat([0.5 * x**2, x], dim=-1)


def action_features(x: Tensor) -> Tensor:  # [..., 1] -> [..., 2]
    """(x, 1), which span the mean action."""
    return torch.cat([x, torch.ones_like(x)], dim=-1)


def make_agent(env: ScalarLqr, config: Config) -> QLearning:
    """J = theta_0 x^2 / 2 + theta_1 x and q with mean psi_1 x + psi_2, all parameters zero at the start."""
    mean = LinearInFeatures(action_features, 2, 1)
    return QLearning(
        LinearInFeatures(value_features, 2),
        QuadraticQ(mean, action_dim=1, temperature=env.config.temperature),
        QLearningConfig(
            value_rate=config.rate,
            q_rate=config.rate,
            scale_rate=10.0 * config.rate,
            update_interval=config.update_interval,
        ),
    )


def evaluator(env: ScalarLqr, policy: Policy) -> Callable[[], Mapping[str, float]]:
    """Average reward per second of the deterministic policy, and how much of the optimum is missing."""
    optimum = average_reward_optimum(env)

    def measure() -> Mapping[str, float]:
        found = evaluate(policy, env, paths=256, steps=steps_in(20.0, env.spec.dt), burn_in=5.0).mean_average_reward
        return {"eval/average_reward": found, "eval/gap": (optimum - found) / abs(optimum)}

    return measure


def average_reward_optimum(env: ScalarLqr) -> float:
    """The best average reward per second: that of the optimal mean without exploration."""
    best = env.solution()
    return env.average_reward(best.gain.item(), best.offset.item(), 0.0)


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Train on parallel paths; returns the learned parameters beside what the policy earns."""
    torch.manual_seed(seed)
    env = ScalarLqr(replace(ERGODIC, dt=config.dt), device=config.device)
    agent = make_agent(env, config).to(env.device)
    source = RolloutSource(env, config.paths, steps_in(config.update_interval, config.dt), seed=seed, mode=config.mode)
    iterations = steps_in(config.seconds, config.update_interval)
    recorder.hparams({"agent": "q-learning", "rate": config.rate, "dt": config.dt})
    metrics = recorder.train(
        agent,
        [Phase("online", source, iterations, agent.update)],
        evaluate=evaluator(env, agent),
        evaluate_every=max(1, iterations // config.evaluations),
        log_every=max(1, iterations // 100),
        main_metric="eval/average_reward",
    )
    assert isinstance(agent.q, QuadraticQ)
    assert isinstance(agent.q.mean, LinearInFeatures)
    gain, offset = (float(v) for v in agent.q.mean.theta.detach().flatten())
    variance = float(agent.q.variance.detach())
    return {
        "eval/gain": gain,
        "eval/offset": offset,
        "eval/variance": variance,
        "eval/policy_reward": env.average_reward(gain, offset, variance),
        **metrics,
    }
