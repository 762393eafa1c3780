"""Linear-quadratic control in 2, 20 and 100 dimensions, by least-squares q-learning, off-policy.

Actions N(0, I) gather every row, on short episodes from N(0, I); the learned feedback never acts. The statistical error
falls with the physical time per unknown, of which 100 states have 7381, so the rows are counted per unknown. Costs are
exact, not simulated.

rlcore run large_lq quick
rlcore run large_lq paper --seeds 5
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from rlcore.agents.martingale import LeastSquaresQ, LeastSquaresQConfig
from rlcore.envs.control.matrix_lqr import MatrixLqr, MatrixLqrConfig
from rlcore.functional.linear_quadratic import Array, evaluate_linear_gaussian
from rlcore.reporting.compare import load_runs, plot_comparison
from rlcore.simulation.modes import Mode
from rlcore.simulation.policy import GaussianFeedback
from rlcore.training import BehaviourSource, Phase, RolloutSource
from rlcore.training.recorder import SILENT, Recorder


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    sizes: tuple[int, ...] = (2, 20)
    """Dimensions of the state; the action has a fifth of them, at least one."""
    dt: float = 0.05
    """Control interval [s]."""
    episode: float = 0.5
    """Length of an episode [s]; the next one begins with a fresh state."""
    rows_per_unknown: int = 60
    """Rows per policy iteration and unknown of (J, q)."""
    paths: int = 512
    """Parallel paths, and more where the rows need it."""
    iterations: int = 4
    """Policy iterations."""
    tolerance: float = 1e-3
    """Relative residual of the linear solves; far below the statistical error."""
    problem_seed: int = 0
    """Which problem of the family `random_lq`."""
    mode: Mode = "eager"
    """How rollouts are carried out: 'eager', 'compiled', 'graph' on a GPU, or 'auto', by device and size."""


PRESETS = {"quick": Config(), "paper": Config(sizes=(2, 20, 100), rows_per_unknown=100)}


def make_problem(config: Config, state_dim: int) -> MatrixLqr:
    """A random problem in short episodes."""
    settings = MatrixLqrConfig(
        state_dim, max(1, state_dim // 5), config.problem_seed, dt=config.dt, horizon=config.episode
    )
    return MatrixLqr(settings)


def unknowns(n: int, m: int) -> int:
    """Coefficients of J, quadratic in x, and q, quadratic in (x, u): as many as monomials of degree <= 2 in n + m."""
    return (n + m + 1) * (n + m + 2) // 2


def exact_cost(env: MatrixLqr, gain: Array, offset: Array) -> float:
    """Expected discounted cost of u = gain x + offset in continuous time, from the initial law N(0, sd^2 I)."""
    m = len(offset)
    value = evaluate_linear_gaussian(replace(env.problem, temperature=0.0), gain, offset, np.zeros((m, m)))
    return -float(0.5 * env.initial_sd**2 * np.trace(value.K) + value.k0)


def evaluator(env: MatrixLqr, agent: LeastSquaresQ) -> Callable[[], Mapping[str, float]]:
    """Exact return of the learned mean policy, and how much of the optimum is missing."""
    best = env.solution()
    optimum = exact_cost(env, best.gain, best.offset)

    def measure() -> Mapping[str, float]:
        cost = exact_cost(env, agent.gain.cpu().numpy(), agent.offset.cpu().numpy())
        return {"eval/return": -cost, "eval/gap": (cost - optimum) / abs(optimum)}

    return measure


def learn(config: Config, state_dim: int, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Policy iteration on one problem; returns its last evaluation."""
    env = make_problem(config, state_dim)
    problem = env.problem
    action_dim, steps = env.spec.action_dim, round(config.episode / config.dt)
    settings = LeastSquaresQConfig(problem.discount_rate, problem.temperature, tolerance=config.tolerance)
    agent = LeastSquaresQ(state_dim, action_dim, settings)
    behaviour = GaussianFeedback(lambda x: x.new_zeros(len(x), action_dim), 1.0, action_dim)
    paths = max(config.paths, math.ceil(config.rows_per_unknown * unknowns(state_dim, action_dim) / steps))
    feed = RolloutSource(env, paths, steps, seed=seed, mode=config.mode)
    source = BehaviourSource(feed, behaviour)
    recorder.hparams({"agent": "least-squares q-learning", "state_dim": state_dim, "dt": config.dt})
    return recorder.train(
        agent,
        [Phase("policy iteration", source, config.iterations, agent.update)],
        evaluate=evaluator(env, agent),
        evaluate_every=1,
        log_every=1,
        main_metric="eval/gap",
    )


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Learn in every dimension; returns the relative excess cost of each."""
    found = {}
    for size in config.sizes:
        label = f"{size} states"
        found[f"eval/gap_{size}"] = learn(config, size, seed, recorder.child(f"{size}-states", label=label))["eval/gap"]
    figure = recorder.figure_path("large_lq")
    if figure is not None:
        title = "Excess cost over the Riccati optimum, linear-quadratic"
        plot_comparison(load_runs([figure.parents[1]]), "eval/gap", figure, 0.0, title=title)
    return recorder.finish(found)
