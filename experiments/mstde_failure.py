"""Least squares of the temporal-difference error finds the flattest function as dt -> 0; martingale methods the value.

rlcore run mstde_failure quick
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import brentq, minimize_scalar
from torch import Tensor

from rlcore.agents.martingale import Clstd, ClstdConfig, LinearMstde, MstdeConfig
from rlcore.data import Trajectory
from rlcore.errors import ConfigError
from rlcore.experiments.exact_samples import gaussian_steps, squares
from rlcore.functional.increments import Left, per_step
from rlcore.functional.martingale import reward_to_go
from rlcore.reporting.lines import Chart, Line, plot_charts
from rlcore.training.recorder import SILENT, Recorder

KAPPA, SIGMA, BETA = 1.0, 0.8, 0.5
MU, VOLATILITY = 0.1, 0.3


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    dts: tuple[float, ...] = (0.1, 0.03, 0.01, 0.003, 0.001)
    """Time steps of the Ornstein-Uhlenbeck problem [s]."""
    steps: tuple[int, ...] = (10, 25, 50, 100)
    """Numbers of steps over the one second of the geometric Brownian motion."""
    paths: int = 20_000
    """Paths of the geometric Brownian motion."""


PRESETS = {"quick": Config(), "paper": Config(steps=(10, 25, 50, 100, 252, 1000), paths=100_000)}


def ou_parameters(dt: float) -> dict[str, list[float]]:
    """(theta_1, theta_0) of J = theta_1 x^2 + theta_0 by both methods, from exact moments; the truth is (.4, .512)."""
    batch = gaussian_steps(KAPPA, SIGMA, [dt])
    rival = LinearMstde(torch.zeros_like, squares, 2, MstdeConfig(discount_rate=BETA))
    ours = Clstd(torch.zeros_like, squares, 2, ClstdConfig(discount_rate=BETA))
    for agent in (rival, ours):
        agent.update(batch)
    return {"MSTDE": rival.theta.tolist(), "CLSTD(0)": ours.theta.tolist()}


def gbm_paths(steps: int, paths: int, seed: int) -> Trajectory:
    """dX = mu X dt + sigma X dW from 1 over one second, exact in law; the payoff X_T is paid at the end."""
    if min(steps, paths) < 1:
        raise ConfigError(f"need at least one step and one path, got steps={steps} and paths={paths}")
    dt = 1.0 / steps
    z = torch.randn(steps, paths, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    log = ((MU - 0.5 * VOLATILITY**2) * dt + VOLATILITY * math.sqrt(dt) * z).cumsum(0)
    x = torch.cat([torch.ones(1, paths, dtype=torch.float64), log.exp()])
    t = torch.linspace(0.0, 1.0, steps + 1, dtype=torch.float64)
    obs = torch.stack([x, (1.0 - t).unsqueeze(1).expand_as(x)], dim=-1)  # wealth and remaining time
    reward, ended = torch.zeros(steps, paths, dtype=torch.float64), torch.zeros(steps, paths, dtype=torch.bool)
    reward[-1], ended[-1] = x[-1], True
    return Trajectory(t, obs, torch.zeros(steps, paths, 1, dtype=torch.float64), reward, t.diff(), ended)


def growth(theta: float) -> Callable[[Tensor], Tensor]:
    """J(t, x) = x exp(theta (T - t)); the truth is theta = mu."""
    return lambda obs: obs[..., 0] * torch.exp(theta * obs[..., 1])


def gbm_parameters(batch: Trajectory) -> dict[str, float]:
    """theta by the mean-square TD error, by the martingale loss and by CTD(0) on the same paths."""
    rule = Left()
    to_go = reward_to_go(batch.reward, batch.dt, batch.terminated, 0.0)

    def increments(theta: float) -> Tensor:
        return rule.change(growth(theta), batch) + rule.earned(batch)  # [K, B]

    def mean_square(theta: float) -> float:
        delta = increments(theta)
        return float((delta**2 / per_step(batch.dt, delta)).sum(0).mean())

    def martingale_loss(theta: float) -> float:
        error = to_go - growth(theta)(batch.obs[:-1])
        return float((error**2 * per_step(batch.dt, error)).sum(0).mean())

    def orthogonality(theta: float) -> float:
        value = growth(theta)(batch.obs[:-1])
        return float((value * batch.obs[:-1, :, 1] * increments(theta)).sum(0).mean())  # dJ/dtheta = (T - t) J

    return {
        "MSTDE": float(minimize_scalar(mean_square, bounds=(-20.0, 5.0), method="bounded").x),
        "martingale loss": float(minimize_scalar(martingale_loss, bounds=(-2.0, 2.0), method="bounded").x),
        "CTD(0)": float(brentq(orthogonality, -2.0, 2.0)),
    }


def gbm_population_minimiser(steps: int) -> float:
    """The minimiser of the expected mean-square TD error in closed form of the moments.

    With m = E X_k^2 = exp((2 mu + sigma^2) t_k), E (g_k X_{k+1} - f_k X_k)^2 is m times a function of theta alone; the
    last step compares with the payoff itself.
    """
    dt = 1.0 / steps
    second = math.exp((2.0 * MU + VOLATILITY**2) * dt)
    first = math.exp(MU * dt)

    def loss(theta: float) -> float:
        total = 0.0
        for k in range(steps):
            before, after = math.exp(theta * (1.0 - k * dt)), math.exp(theta * (1.0 - (k + 1) * dt))
            moment = math.exp((2.0 * MU + VOLATILITY**2) * k * dt)
            total += moment * (after**2 * second - 2.0 * after * before * first + before**2) / dt
        return total

    return float(minimize_scalar(loss, bounds=(-20.0, 5.0), method="bounded", options={"xatol": 1e-9}).x)


def draw(ou: Sequence[dict[str, list[float]]], gbm: Sequence[dict[str, float]], config: Config, path: object) -> None:
    """Both failures side by side, the truth across."""
    left = [Line(name, config.dts, [found[name][0] for found in ou]) for name in ou[0]]
    right = [Line(name, [1.0 / n for n in config.steps], [found[name] for found in gbm]) for name in gbm[0]]
    ou_title, gbm_title = "Ornstein-Uhlenbeck, θ₁", "Geometric Brownian motion, θ"
    plot_charts(
        [
            Chart(ou_title, "exact moments", "dt [s]", "θ₁", left, log_y=False, known=1.0 / (BETA + 2.0 * KAPPA)),
            Chart(gbm_title, f"{config.paths} paths, one seed", "dt [s]", "θ", right, log_y=False, known=MU),
        ],
        path,  # type: ignore[arg-type]
    )


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Both demonstrations; returns the parameters at the finest step."""
    ou = [ou_parameters(dt) for dt in config.dts]
    gbm = [gbm_parameters(gbm_paths(steps, config.paths, seed)) for steps in config.steps]
    for step, (steps, found) in enumerate(zip(config.steps, gbm, strict=True), 1):
        recorder.log(step, {"eval/steps": float(steps)} | {f"eval/gbm_{key}": value for key, value in found.items()})
    figure = recorder.figure_path("mstde_failure")
    if figure is not None:
        draw(ou, gbm, config, figure)
    return recorder.finish(
        {f"eval/ou_{name}": theta[0] for name, theta in ou[-1].items()}
        | {f"eval/gbm_{name}": theta for name, theta in gbm[-1].items()}
    )
