"""Actor-critic, q-learning and big-Q SARSA on the ergodic linear-quadratic problem, beside the known optimum.

rlcore run ergodic_lq quick
rlcore run ergodic_lq paper --seeds 5 --dt 0.1

The protocol of Jia and Zhou (2022, ergodic LQ) in batch form. They follow one path for 10^6 s at 0.001 / max(1, log
t); here 1000 paths share the parameters for 1000 s each. At rate 0.5 the final step 0.5 / log(1000) over 1000 paths
is theirs, 0.001 / log(10^6), and so is, within a fifth, the integral of rate over time. All agents start from the
policy N(0, initial_variance). The reward of a step is the rate at its left end times dt, as in the paper, and the
state moves in Euler-Maruyama steps of at most `fine_step`. Curves show the exact long-run reward of the stochastic
policy: the optimum is V* - gamma / 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rlcore.agents.martingale import (
    ActorCritic,
    ActorCriticConfig,
    BigQConfig,
    BigQSarsa,
    QLearning,
    QLearningConfig,
    QuadraticBigQ,
)
from rlcore.envs.control.lqr import ERGODIC, ScalarLqr
from rlcore.errors import ConfigError, NumericsError
from rlcore.experiments.ergodic_lqr import action_features, value_features
from rlcore.nn.gaussian import Gaussian
from rlcore.nn.mlp import LinearInFeatures
from rlcore.nn.quadratic_q import QuadraticQ
from rlcore.reporting.compare import Panel, load_runs, plot_panels
from rlcore.simulation import EulerMaruyama
from rlcore.simulation.environment import Dynamics
from rlcore.simulation.modes import Mode
from rlcore.timegrid import steps_in
from rlcore.training import Phase, RolloutSource
from rlcore.training.recorder import SILENT, Recorder

Learner = ActorCritic | QLearning | BigQSarsa
AGENTS = ("q-learning", "actor-critic", "big-Q SARSA")
PARAMETERS = ("gain", "offset", "variance")


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    agents: tuple[str, ...] = AGENTS
    """Any of 'q-learning', 'actor-critic' and 'big-Q SARSA'."""
    dt: float = 0.01
    """Control interval [s]."""
    fine_step: float = 0.01
    """Longest step of the simulation [s]."""
    paths: int = 1000
    """Parallel paths, over which every update is averaged."""
    seconds: float = 1000.0
    """Physical time per path [s]."""
    update_interval: float = 0.1
    """Physical time between two updates [s]; at least dt."""
    rate: float = 0.5
    """Learning rate of every parameter [1/s], divided by max(1, log t)."""
    scale_factor: float = 10.0
    """The log-curvature of q, little or big, learns faster by this; its gradient is of the order of gamma."""
    initial_variance: float = 1.0
    """Variance of the policy that all agents start from."""
    decay: bool = True
    """Whether the rates fall with log t."""
    evaluations: int = 50
    """How often the policy is evaluated on the way."""
    mode: Mode = "eager"
    """How rollouts are carried out: 'eager', 'compiled', 'graph' on a GPU, or 'auto', by device and size."""
    device: str = "cpu"
    """'cpu' or 'cuda'."""


PRESETS = {"quick": Config(dt=0.1, paths=500, seconds=200.0, rate=0.8), "paper": Config()}


class LeftReward(EulerMaruyama):
    """Euler-Maruyama whose reward is the rate at the left end of the control interval, times its length."""

    def step(
        self, problem: Dynamics, t: Tensor, x: Tensor, u: Tensor, dt: float, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        after, _ = super().step(problem, t, x, u, dt, noise)
        return after, dt * problem.reward_rate(t, x, u)


def make_env(dt: float, fine_step: float, device: str = "cpu") -> ScalarLqr:
    """The ergodic problem in control intervals of `dt`, simulated in steps of at most `fine_step`."""
    env = ScalarLqr(replace(ERGODIC, dt=dt), device=device)
    env.integrator = LeftReward(max(1, math.ceil(dt / fine_step - 1e-9)))
    return env


def make_agent(name: str, config: Config, temperature: float) -> Learner:
    """J = theta_0 x^2 / 2 + theta_1 x and a policy N(psi_0 x + psi_1, variance), all zero but the variance."""
    value, mean = LinearInFeatures(value_features, 2), LinearInFeatures(action_features, 2, 1)
    rate, spread = config.rate, math.log(config.initial_variance)
    interval, decay = max(config.dt, config.update_interval), config.decay
    if name == "actor-critic":
        settings = ActorCriticConfig(0.0, temperature, "analytic", rate, rate, rate, rate, interval, decay)
        return ActorCritic(value, Gaussian(mean, 1, log_variance=spread), settings)
    fast = config.scale_factor * rate
    if name == "q-learning":
        q = QuadraticQ(mean, 1, temperature, log_scale=spread - math.log(temperature))
        return QLearning(value, q, QLearningConfig(0.0, rate, rate, fast, interval, decay))
    if name == "big-Q SARSA":
        scale = spread - math.log(temperature * config.dt)
        big = QuadraticBigQ(mean, value, 1, temperature, config.dt, log_scale=scale)
        return BigQSarsa(big, BigQConfig(0.0, rate, rate, fast, interval, decay))
    raise ConfigError(f"agents must be among {', '.join(AGENTS)}, got {name!r}")


def policy_parameters(agent: Learner) -> tuple[float, float, float]:
    """Gain, offset and variance of the agent's policy."""
    law = agent.policy if isinstance(agent, ActorCritic) else agent.q
    assert isinstance(law, Gaussian | QuadraticQ | QuadraticBigQ)
    assert isinstance(law.mean, LinearInFeatures)
    gain, offset = law.mean.theta.detach().flatten().tolist()
    return gain, offset, float(law.variance.detach())


def evaluator(env: ScalarLqr, agent: Learner) -> Callable[[], Mapping[str, float]]:
    """The policy's parameters and its exact long-run reward per second, exploration included."""
    optimum = reward_optimum(env)

    def measure() -> Mapping[str, float]:
        found = policy_parameters(agent)
        reward = env.average_reward(*found)
        named = {f"eval/{name}": value for name, value in zip(PARAMETERS, found, strict=True)}
        return named | {"eval/average_reward": reward, "eval/gap": (optimum - reward) / abs(optimum)}

    return measure


def reward_optimum(env: ScalarLqr) -> float:
    """V* - gamma / 2: what the optimal stochastic policy earns per second."""
    best = env.solution()
    return env.average_reward(best.gain.item(), best.offset.item(), best.covariance.item())


def train(name: str, config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """One agent; returns its last metrics and evaluation."""
    torch.manual_seed(seed)
    env = make_env(config.dt, config.fine_step, config.device)
    agent = make_agent(name, config, env.config.temperature).to(env.device)
    interval = max(config.dt, config.update_interval)
    source = RolloutSource(env, config.paths, steps_in(interval, config.dt), seed=seed, mode=config.mode)
    iterations = steps_in(config.seconds, interval)
    measure = evaluator(env, agent)
    recorder.hparams({"agent": name, "rate": config.rate, "dt": config.dt})
    recorder.log(0, measure())
    try:
        return recorder.train(
            agent,
            [Phase("online", source, iterations, agent.update)],
            evaluate=measure,
            evaluate_every=max(1, iterations // config.evaluations),
            log_every=max(1, iterations // 100),
            main_metric="eval/average_reward",
        )
    except NumericsError as error:
        raise NumericsError(f"{name}, dt = {config.dt} s, seed {seed}: {error}") from error


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Train every agent on the same number of paths and seconds, and draw them beside the optimum."""
    found: dict[str, float] = {}
    for name in config.agents:
        result = train(name, config, seed, recorder.child(name.replace(" ", "-"), agent=name))
        found |= {f"{tag}/{name}": value for tag, value in result.items() if tag.startswith("eval/")}
    figure = recorder.figure_path("ergodic_lq.png")
    if figure is not None:
        env = make_env(config.dt, config.fine_step)
        best, runs = env.solution(), load_runs([figure.parents[1]])
        wanted = (
            ("Reward per second of the policy", "eval/average_reward", reward_optimum(env)),
            ("Gain of the mean", "eval/gain", best.gain.item()),
            ("Variance", "eval/variance", best.covariance.item()),
        )
        plot_panels([Panel(title, runs, tag, optimum) for title, tag, optimum in wanted], figure)
    return recorder.finish(found)
