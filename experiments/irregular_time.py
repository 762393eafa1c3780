"""q-learning from decisions at uneven times, up to 15 to 1: it learns what a regular grid of the same mean teaches.

rlcore run irregular_time quick
rlcore run irregular_time paper --seeds 5
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from rlcore.envs.control.lqr import ERGODIC, ScalarLqr
from rlcore.experiments import ergodic_lqr
from rlcore.experiments.ergodic_lqr import average_reward_optimum, evaluator, make_agent
from rlcore.reporting.compare import load_runs, plot_comparison
from rlcore.training import Phase
from rlcore.training.irregular import Holding, IrregularSource, exponential_holding, regular_holding, uniform_holding
from rlcore.training.recorder import SILENT, Recorder


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    dt: float = 0.01
    """Step of the simulation, of which every holding time is a multiple [s]."""
    mean_steps: int = 8
    """Mean holding time, in steps; the longest is about twice it, so that the ratio is 15 to 1."""
    paths: int = 256
    """Parallel paths."""
    seconds: float = 300.0
    """Physical time per path [s]."""
    decisions: int = 4
    """Decisions per update."""
    rate: float = 1.0
    """Learning rate of value, mean and average reward [1/s]; ten times that for the log-curvature of q."""


PRESETS = {"quick": Config(paths=64, seconds=160.0), "paper": Config(paths=1024, seconds=600.0)}


def grids(mean_steps: int) -> dict[str, Holding]:
    """Laws of the holding time with (nearly) the same mean."""
    longest = 2 * mean_steps - 1
    return {
        "regular": regular_holding(mean_steps),
        "uniform": uniform_holding(longest),
        "exponential": exponential_holding(mean_steps, longest),
    }


def learn(config: Config, grid: str, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """q-learning on the ergodic problem under one law of holding times; returns its last evaluation."""
    torch.manual_seed(seed)
    env = ScalarLqr(replace(ERGODIC, dt=config.dt))
    update_interval = config.decisions * config.mean_steps * config.dt
    agent = make_agent(env, ergodic_lqr.Config(dt=config.dt, update_interval=update_interval, rate=config.rate))
    source = IrregularSource(env, config.paths, config.decisions, grids(config.mean_steps)[grid], seed=seed)
    iterations = round(config.seconds / update_interval)
    recorder.hparams({"agent": "q-learning", "grid": grid, "dt": config.dt})
    return recorder.train(
        agent,
        [Phase("online", source, iterations, agent.update)],
        evaluate=evaluator(env, agent),
        evaluate_every=max(1, iterations // 10),
        main_metric="eval/average_reward",
    )


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Learn on all three grids; returns the average reward of each."""
    found = {}
    for grid in grids(config.mean_steps):
        result = learn(config, grid, seed, recorder.child(grid, label=grid))
        found[grid] = result["eval/average_reward"]
    figure = recorder.figure_path("irregular_time")
    if figure is not None:
        optimum = average_reward_optimum(ScalarLqr(replace(ERGODIC, dt=config.dt)))
        plot_comparison(load_runs([figure.parents[1]]), "eval/average_reward", figure, optimum)
    return recorder.finish({f"eval/reward_{grid}": value for grid, value in found.items()})
