"""Off-policy q-learning on the ergodic linear-quadratic problem: which behaviour and test functions it survives.

rlcore run off_policy_q quick
rlcore run off_policy_q paper --seeds 5

Under a = +-(x + 1) + noise the volatility is the action, so dX = -X dt + a dW has E|X|^p finite only for
-p + p (p - 1) / 2 < 0, which is p < 3. Then E X^4 is infinite and the test function x^2 is not square-integrable: plain
q-learning diverges. Test functions divided by (1 + c (x^2 + a^2))^2 are bounded, and the martingale condition holds for
them too, so q-learning converges again. Under a ~ N(0, 1), whose tails are light, no weight is needed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rlcore.agents.martingale import QLearning, bounded_weight
from rlcore.agents.martingale.tails import TestFunctionShare
from rlcore.errors import DataWarning, NumericsError, unknown_name
from rlcore.experiments import ergodic_lq
from rlcore.experiments.ergodic_lqr import value_features
from rlcore.nn.gradients import per_sample_gradient
from rlcore.nn.mlp import LinearInFeatures
from rlcore.reporting.compare import Panel, load_runs, plot_panels
from rlcore.simulation import GaussianFeedback
from rlcore.simulation.modes import Mode
from rlcore.timegrid import steps_in
from rlcore.training import BehaviourSource, Phase, RolloutSource
from rlcore.training.recorder import SILENT, Recorder


@dataclass(frozen=True)
class Case:
    """A behaviour policy N(mean(x), 1), whether the test functions are bounded, and whether that converges."""

    mean: Callable[[Tensor], Tensor]
    bounded: bool
    converges: bool


CASES = {
    "normal": Case(torch.zeros_like, bounded=False, converges=True),
    "inward-bounded": Case(lambda x: -x - 1.0, bounded=True, converges=True),
    "outward-bounded": Case(lambda x: x + 1.0, bounded=True, converges=True),
    "inward-plain": Case(lambda x: -x - 1.0, bounded=False, converges=False),
    "outward-plain": Case(lambda x: x + 1.0, bounded=False, converges=False),
}


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    dt: float = 0.1
    """Control interval [s]."""
    fine_step: float = 0.01
    """Step of the simulation [s]; one Euler step of 0.1 s would move the optimal offset by 0.011."""
    paths: int = 1000
    """Parallel paths, over which every update is averaged."""
    seconds: float = 200.0
    """Physical time per path [s]."""
    rate: float = 0.36
    """Learning rate with plain test functions [1/s]; its integral over 200 s is that of 0.001 over 2 x 10^5 s of one
    path, both divided by max(1, log t)."""
    bounded_rate: float = 0.6
    """Learning rate with bounded ones [1/s]: they are smaller."""
    bounded_scale: float = 0.5
    """With bounded ones the log-curvature learns at this multiple of the rate, lest it run away under a ~ x + 1."""
    strength: float = 0.1
    """c of the weight (1 + c (x^2 + a^2))^-2."""
    evaluations: int = 50
    """How often the parameters are compared with the optimum on the way."""
    mode: Mode = "eager"
    """How rollouts are carried out: 'eager', 'compiled', 'graph' on a GPU, or 'auto', by device and size."""


PRESETS = {"quick": Config(), "paper": Config(paths=2000, seconds=1000.0)}


def make_agent(case: Case, config: Config, temperature: float) -> QLearning:
    """q-learning from the policy N(0, gamma), with or without a weight; it watches its test functions."""
    rate, factor = (config.bounded_rate, config.bounded_scale) if case.bounded else (config.rate, 1.0)
    settings = ergodic_lq.Config(
        dt=config.dt, update_interval=config.dt, rate=rate, scale_factor=factor, initial_variance=temperature
    )
    plain = ergodic_lq.make_agent("q-learning", settings, temperature)
    assert isinstance(plain, QLearning)
    weight = bounded_weight(config.strength) if case.bounded else None
    return QLearning(plain.value, plain.q, replace(plain.config, watch=5), weight=weight)


def behave(case: Case, config: Config, seed: int) -> BehaviourSource:  # type: ignore[type-arg]
    """Steps of the problem in which the case's behaviour policy acts."""
    env = ergodic_lq.make_env(config.dt, config.fine_step)
    source = RolloutSource(env, config.paths, 1, seed=seed, mode=config.mode)
    return BehaviourSource(source, GaussianFeedback(case.mean, 1.0, 1))


def train(name: str, config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Learn from one behaviour: the policy, 1 if learning diverged, and how long it went on [s per path]."""
    if name not in CASES:
        raise unknown_name("case", name, CASES)
    torch.manual_seed(seed)
    env = ergodic_lq.make_env(config.dt, config.fine_step)
    agent = make_agent(CASES[name], config, env.config.temperature)
    best, iterations = env.solution(), steps_in(config.seconds, config.dt)
    truth = (best.gain.item(), best.offset.item(), best.covariance.item())

    def measure() -> Mapping[str, float]:
        found = ergodic_lq.policy_parameters(agent)
        error = max(abs(f - t) for f, t in zip(found, truth, strict=True))
        named = {f"eval/{key}": value for key, value in zip(ergodic_lq.PARAMETERS, found, strict=True)}
        return named | {"eval/largest_error": error}

    recorder.log(0, measure())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)  # heavy tails are what some cases are here to show
            result = recorder.train(
                agent,
                [Phase("off-policy", behave(CASES[name], config, seed), iterations, agent.update)],
                evaluate=measure,
                evaluate_every=max(1, iterations // config.evaluations),
                log_every=max(1, iterations // 100),
                main_metric="eval/largest_error",
            )
    except NumericsError:
        return {"diverged": 1.0, "seconds": float(agent.elapsed)}
    return {**result, "diverged": 0.0, "seconds": float(agent.elapsed)}


def shares(name: str, config: Config, seed: int, recorder: Recorder = SILENT) -> float:
    """The largest share of one row in the sum of the squared test functions, from the data alone."""
    case, weight = CASES[name], bounded_weight(config.strength)
    source, value = behave(case, config, seed), LinearInFeatures(value_features, 2)
    tests, iterations = TestFunctionShare(value.theta.numel()), steps_in(config.seconds, config.dt)
    every = max(1, iterations // config.evaluations)
    for k in range(1, iterations + 1):
        batch = source.next(source.behaviour)
        scale = weight(batch.obs, batch.action).unsqueeze(-1) if case.bounded else 1.0
        tests.see(scale * per_sample_gradient(value, batch.obs))
        if k > 1 and (k % every == 0 or k == iterations):
            recorder.log(source.steps, {"data/log10_share": tests.share.log10()}, simulated=source.simulated)
    return float(tests.share)


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Every case, and a figure: the gain where it converges, and the largest share of one row in every case."""
    found: dict[str, float] = {}
    learning, data = recorder.child("learning"), recorder.child("data")
    for name in CASES:
        result = train(name, config, seed, learning.child(name, case=name))
        found |= {f"{tag}/{name}": value for tag, value in result.items() if not tag.startswith("train/")}
        found[f"data/share/{name}"] = shares(name, config, seed, data.child(name, case=name))
    figure = recorder.figure_path("off_policy_q.png")
    if figure is not None:
        best, folder = ergodic_lq.make_env(config.dt, config.fine_step).solution(), figure.parents[1]
        stable = load_runs([folder / "learning" / name for name, case in CASES.items() if case.converges])
        every = load_runs([folder / "data" / name for name in CASES])  # in this order: equal colours in all panels
        panels = [
            Panel("Gain of the mean, where learning converges", stable, "eval/gain", best.gain.item()),
            Panel("Variance, where learning converges", stable, "eval/variance", best.covariance.item()),
            Panel("Share of the largest squared test function", every, "data/log10_share", None),
        ]
        plot_panels(panels, figure)
    return recorder.finish(found)
