"""How the error of policy evaluation falls with the time step: every rule at its order, exits with and without bridge.

rlcore run convergence_in_dt quick
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from rlcore.agents.martingale import Clstd, ClstdConfig
from rlcore.envs.control.stopped_brownian import StoppedBrownian, StoppedBrownianConfig
from rlcore.experiments.exact_samples import gaussian_steps, squares
from rlcore.functional.increments import Exponential, Increments, Left, PhiBe, Trapezoid
from rlcore.reporting.lines import Chart, Line, plot_charts
from rlcore.simulation import Feedback, begin, rollout
from rlcore.training.recorder import SILENT, Recorder

KAPPA, SIGMA, BETA = 1.0, 0.8, 0.5

RULES: Mapping[str, Callable[[float], Increments]] = {
    "left": Left,
    "exponential": Exponential,
    "trapezoid": Trapezoid,
    "PhiBE order 1": PhiBe,
    "PhiBE order 2": partial(PhiBe, order=2),
}


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    dts: tuple[float, ...] = (0.1, 0.05, 0.02, 0.01, 0.005)
    """Time steps of the Ornstein-Uhlenbeck problem [s]."""
    exit_dts: tuple[float, ...] = (0.04, 0.02, 0.01)
    """Time steps of the exit problem [s]."""
    paths: int = 10_000
    """Paths of the exit problem."""


PRESETS = {"quick": Config(), "paper": Config(exit_dts=(0.04, 0.02, 0.01, 0.005, 0.0025), paths=200_000)}


def bias(rule: Callable[[float], Increments], dt: float) -> float:
    """Error of theta_1 on the Ornstein-Uhlenbeck problem, without sampling noise: the moments are exact."""
    agent = Clstd(torch.zeros_like, squares, 2, ClstdConfig(discount_rate=BETA), rule=rule)
    agent.update(gaussian_steps(KAPPA, SIGMA, [dt, dt]))
    return float(agent.theta[0]) - 1.0 / (BETA + 2.0 * KAPPA)


def slope(dts: Sequence[float], errors: Sequence[float]) -> float:
    """The fitted order: slope of log |error| against log dt."""
    return float(np.polyfit(np.log(dts), np.log(np.abs(errors)), 1)[0])


def mean_exit_time(dt: float, *, bridge: bool, paths: int, seed: int, seconds: float = 8.0) -> tuple[float, float]:
    """Mean exit time of Brownian motion from (-1, 1) and its standard error [s]; the truth is 1 s.

    What is left inside after `seconds` (a share of about exp(-pi^2 seconds / 8)) counts as that long.
    """
    env = StoppedBrownian(StoppedBrownianConfig(dt=dt, bridge=bridge), dtype=torch.float64)
    earned, stand = torch.zeros(paths, dtype=torch.float64), begin(env, paths, seed=seed)
    for _ in range(math.ceil(seconds / (100 * dt))):
        batch, stand = rollout(env, Feedback(torch.zeros_like), stand, 100)
        earned += batch.reward.sum(0)
        if bool(batch.terminated[-1].all()):
            break
    return float(earned.mean()), float(earned.std()) / math.sqrt(paths)


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Both studies; returns the fitted orders."""
    errors = {name: [abs(bias(rule, dt)) for dt in config.dts] for name, rule in RULES.items()}
    exits: dict[str, list[tuple[float, float]]] = {}
    for name, bridge in {"grid alone": False, "Brownian bridge": True}.items():
        exits[name] = [mean_exit_time(dt, bridge=bridge, paths=config.paths, seed=seed) for dt in config.exit_dts]
    for step, dt in enumerate(config.dts, 1):
        recorder.log(step, {"eval/dt": dt} | {f"eval/error_{name}": found[step - 1] for name, found in errors.items()})
    figure = recorder.figure_path("convergence_in_dt")
    if figure is not None:
        theory = [
            Line(f"order {order}", config.dts, [0.25 * dt**order for dt in config.dts], theory=True) for order in (1, 2)
        ]
        left = [Line(name, config.dts, found) for name, found in errors.items()]
        right = [
            Line(
                name,
                config.exit_dts,
                [mean for mean, _ in found],
                [mean - 2.0 * error for mean, error in found],
                [mean + 2.0 * error for mean, error in found],
            )
            for name, found in exits.items()
        ]
        subtitle = f"{config.paths} paths, band: 2 standard errors"
        plot_charts(
            [
                Chart("Bias of θ₁", "Ornstein-Uhlenbeck, exact moments", "dt [s]", "|error of θ₁|", [*left, *theory]),
                Chart("Mean exit time", subtitle, "dt [s]", "mean exit time [s]", right, log_y=False, known=1.0),
            ],
            figure,
        )
    naive = [mean - 1.0 for mean, _ in exits["grid alone"]]
    return recorder.finish(
        {f"eval/order_{name}": slope(config.dts, found) for name, found in errors.items()}
        | {"eval/order_exit": slope(config.exit_dts, naive), "eval/exit_bridge": exits["Brownian bridge"][-1][0] - 1.0}
    )
