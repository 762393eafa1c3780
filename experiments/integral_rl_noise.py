"""Integral RL from noisy states: the noise, not the quadrature rule, sets the error, and longer windows lower it.

Each sampled state carries independent noise of standard deviation s, in every window anew and the same in all
iterations; the feedback itself acts on the true state. The ends of a window stand in the regression, divided by its
length as it were, so the floor is near 10 s / T on this system: a high order pays below it only.

rlcore run integral_rl_noise quick
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from rlcore.agents.integral_rl import Windows, evaluate_policy
from rlcore.checks import check_not_negative
from rlcore.envs.affine import ThirdOrderLinear
from rlcore.errors import ConfigError
from rlcore.experiments.integral_rl_tasks import RULES, task
from rlcore.functional.bases import symmetric
from rlcore.functional.linear_flow import linear_flow
from rlcore.functional.riccati import feedback_gain, largest_real_part
from rlcore.reporting.lines import Chart, Line, plot_charts
from rlcore.training.recorder import SILENT, Recorder

SHOWN = ("trapezoid", "Simpson", "Matern-7/2, l = 0.3", "IWP2")
ITERATIONS = 12


class Setting(NamedTuple):
    """How the third-order system is sampled."""

    window: float  # T [s]
    in_a_row: int  # windows one after the other, from each of seven states
    nodes: int

    @property
    def title(self) -> str:
        return f"T = {self.window:g} s, N = {self.nodes}"


SHORT, LONG = Setting(0.1, 10, 9), Setting(1.0, 4, 33)


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    noises: tuple[float, ...] = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
    """Standard deviations s of the noise on each component of a sampled state."""
    trials: int = 45
    """Independent draws of the noise."""


PRESETS = {"quick": Config(), "paper": Config(trials=999)}


def learn(rule: str, setting: Setting, noise: float, trials: int, seed: int) -> Tensor:
    """|P - P*| after 12 policy iterations from u = 0, one for each draw [trials]; inf where a gain destabilised."""
    check_not_negative("noise", noise)
    if trials < 1:
        raise ConfigError(f"trials must be at least 1, got {trials}")
    env = ThirdOrderLinear(dtype=torch.float64)
    problem = task(env)
    n, S = env.spec.state_dim, len(problem.starts)
    window, count, nodes = setting
    quadrature = RULES[rule](window).at(torch.linspace(0.0, window, nodes, dtype=torch.float64))
    places = (nodes - 1) * torch.arange(count)[:, None] + torch.arange(nodes)  # [count, N] on the path
    generator = torch.Generator().manual_seed(seed)
    error = noise * torch.randn(trials, S * count, nodes, n, generator=generator, dtype=torch.float64)
    gain, stable = torch.zeros(trials, 1, n, dtype=torch.float64), torch.ones(trials, dtype=torch.bool)
    for _ in range(ITERATIONS):
        steps = count * (nodes - 1) + 1
        path = linear_flow(env.A - env.B @ gain, problem.starts, window / (nodes - 1), steps)  # [trials, steps, S, n]
        true = path.transpose(1, 2)[:, :, places].flatten(1, 2)  # [trials, S count, N, n]
        seen, action = true + error, -true @ gain.mT.unsqueeze(1)
        utility = problem.known.utility(seen, action)
        found = evaluate_policy(problem.basis, Windows(quadrature.times, seen, action), utility, quadrature)
        gain = feedback_gain(env.B, env.R, symmetric(found.weights))
        stable = stable & (largest_real_part(env.A - env.B @ gain) < 0.0)
        gain = torch.where(stable[:, None, None], gain, 0.0)
    return torch.where(stable, problem.error(found.weights), torch.inf)


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Every rule at every noise, short windows and long ones; returns medians at s = 1e-4, or the nearest to it."""
    found = {
        setting: {name: [learn(name, setting, s, config.trials, seed) for s in config.noises] for name in SHOWN}
        for setting in (SHORT, LONG)
    }
    for step, s in enumerate(config.noises):
        medians = {
            f"eval/error_{setting.window:g}s_{name}": float(errors[step].median())
            for setting, rules in found.items()
            for name, errors in rules.items()
        }
        recorder.log(step + 1, {"eval/noise": s} | medians)
    figure = recorder.figure_path("integral_rl_noise")
    if figure is not None:
        plot_charts([chart(setting, rules, config) for setting, rules in found.items()], figure)
    middle = min(range(len(config.noises)), key=lambda k: abs(config.noises[k] - 1e-4))
    return recorder.finish(
        {
            f"eval/error_{setting.window:g}s_{name}": float(errors[middle].median())
            for setting, rules in found.items()
            for name, errors in rules.items()
        }
    )


def chart(setting: Setting, rules: dict[str, list[Tensor]], config: Config) -> Chart:
    """Medians over the draws, their middle 90 % for the last rule, and the floor."""
    lines = []
    for name, errors in rules.items():
        kept = [k for k, found in enumerate(errors) if bool(torch.isfinite(found.median()))]
        x, shown = [config.noises[k] for k in kept], [errors[k] for k in kept]
        ends = [[float(e.clamp(max=1e3).quantile(q)) for e in shown] for q in (0.05, 0.95)]
        band = ends if name == SHOWN[-1] else (None, None)
        lines.append(Line(name, x, [float(e.median()) for e in shown], *band))
    floor = Line("10 s / T", config.noises, [10.0 * s / setting.window for s in config.noises], theory=True)
    return Chart(
        setting.title,
        f"median of {config.trials} draws, band: 90 % of them",
        "noise s on each sampled state",
        "|P - P*|",
        [*lines, floor],
    )
