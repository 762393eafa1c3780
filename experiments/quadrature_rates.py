"""How the error of every quadrature rule falls with the number of nodes: even, uneven, and in the worst case.

rlcore run quadrature_rates quick
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rlcore.errors import NumericsError
from rlcore.functional.quadrature import (
    IntegratedWiener,
    Matern,
    Quadrature,
    Rule,
    Simpson,
    SquaredExponential,
    Trapezoid,
    clenshaw_curtis,
    gauss_legendre,
)
from rlcore.reporting.lines import Chart, Line, plot_charts
from rlcore.reporting.statistics import Slope, fitted_slope
from rlcore.training.recorder import SILENT, Recorder

FLOOR = 2e-14
"""Errors below it are rounding, and are neither fitted nor drawn."""
ASYMPTOTIC = 17
"""Slopes are fitted from so many nodes on."""
STEPS = "N - 1 steps; after the colon the slope from N = 17, 95 %"

GIVEN: Mapping[str, Rule] = {
    "trapezoid": Trapezoid(),
    "Simpson": Simpson(),
    "IWP1, natural cubic": IntegratedWiener(1),
    "IWP2": IntegratedWiener(2),
    "IWP3": IntegratedWiener(3),
    "Matern-1/2": Matern(0, 1.0),
    "Matern-3/2": Matern(1, 1.0),
    "Matern-5/2": Matern(2, 1.0),
    "Matern-7/2": Matern(3, 1.0),
    "Matern-7/2, l = 10 T": Matern(3, 10.0),
    "Matern-9/2": Matern(4, 1.0),
    "squared exponential": SquaredExponential(1.0),
}
"""Rules for nodes that are given; length scales are one window unless they are named."""
OWN: Mapping[str, Callable[[int], Quadrature]] = {
    "Gauss-Legendre": gauss_legendre,
    "Clenshaw-Curtis": clenshaw_curtis,
}
"""Rules that choose their nodes."""
ORDERS = {
    "trapezoid": 2, "Simpson": 4, "IWP1, natural cubic": 3, "IWP2": 4, "IWP3": 5, "Matern-1/2": 2, "Matern-3/2": 3,
    "Matern-5/2": 4, "Matern-7/2": 5, "Matern-7/2, l = 10 T": 5, "Matern-9/2": 6,
}  # fmt: skip
"""Of the error on a smooth integrand, even nodes; the worst case in the kernel's own space is one order less."""


SIMILAR = ("IWP2", "Matern-1/2", "Matern-5/2", "Matern-9/2")
"""Left out of the study of uneven nodes."""


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    nodes: tuple[int, ...] = (5, 9, 17, 33, 65, 129)
    """Numbers of nodes per window."""
    draws: int = 51
    """Windows of uneven nodes at each number of nodes."""


PRESETS = {"quick": Config(), "paper": Config(nodes=(5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129), draws=501)}


def even(count: int) -> Tensor:
    """Nodes on [0, 1], ends included."""
    return torch.linspace(0.0, 1.0, count, dtype=torch.float64)


def jittered(count: int, windows: int, seed: int) -> Tensor:
    """Even nodes, those inside moved by up to 0.3 steps: [windows, count]."""
    generator = torch.Generator().manual_seed(seed)
    moves = torch.rand(windows, count - 2, dtype=torch.float64, generator=generator)
    nodes = even(count).repeat(windows, 1)
    nodes[:, 1:-1] += (0.6 * moves - 0.3) / (count - 1)
    return nodes


def wave(t: Tensor) -> Tensor:
    """exp(-t) cos 3t, whose integral over [0, 1] is `WAVE`."""
    return torch.exp(-t) * torch.cos(3.0 * t)


WAVE = (1.0 + math.exp(-1.0) * (3.0 * math.sin(3.0) - math.cos(3.0))) / 10.0


def on_even(rule: Rule) -> Callable[[int], Quadrature]:
    """The rule as a function of the number of nodes."""
    return lambda count: rule.at(even(count))


def smooth_error(make: Callable[[int], Quadrature], count: int) -> float:
    """Root mean square of the errors on exp(-t) cos(3t + phase) over eight phases: one alone may vanish by chance.

    nan where the rule refuses, as the squared exponential does for many nodes.
    """
    try:
        quadrature = make(count)
    except NumericsError:
        return float("nan")
    phase = torch.arange(8, dtype=torch.float64).unsqueeze(-1) * (math.pi / 8.0)
    rate = complex(-1.0, 3.0)
    exact = (torch.exp(1j * phase) * ((cmath.exp(rate) - 1.0) / rate)).real.squeeze(-1)
    t = quadrature.times
    off = quadrature.integral(torch.exp(-t) * torch.cos(3.0 * t + phase)) - exact
    return float(off.square().mean().sqrt())


def worst_error(quadrature: Quadrature) -> float:
    """Over all integrands of norm 1 in the space of the kernel; nan for a rule without one."""
    return float("nan") if quadrature.variance is None else float(quadrature.variance.sqrt())


def uneven_errors(rule: Rule, count: int, config: Config, seed: int) -> tuple[float, float, float]:
    """Median, lower and upper decile over windows of uneven nodes."""
    nodes = jittered(count, config.draws, seed)
    errors = (rule.at(nodes).integral(wave(nodes)) - WAVE).abs()
    low, middle, high = errors.quantile(torch.tensor([0.1, 0.5, 0.9], dtype=errors.dtype)).tolist()
    return middle, low, high


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Three studies; returns the fitted slopes in N - 1."""
    smooth = {name: [smooth_error(on_even(rule), n) for n in config.nodes] for name, rule in GIVEN.items()}
    smooth |= {name: [smooth_error(make, n) for n in config.nodes] for name, make in OWN.items()}
    priors = {name: rule for name, rule in GIVEN.items() if name in ORDERS and name not in ("trapezoid", "Simpson")}
    priors["trapezoid"] = IntegratedWiener(0)  # the same weights, with the Wiener process as their prior
    worst = {name: [worst_error(rule.at(even(n))) for n in config.nodes] for name, rule in priors.items()}
    several = (
        "trapezoid",
        "Simpson",
        "IWP1, natural cubic",
        "IWP3",
        "Matern-3/2",
        "Matern-7/2",
        "Matern-7/2, l = 10 T",
    )
    uneven = {name: [uneven_errors(GIVEN[name], n, config, seed) for n in config.nodes] for name in several}
    medians = {name: [middle for middle, _, _ in found] for name, found in uneven.items()}
    studies = {"smooth": smooth, "worst case": worst, "uneven": medians}
    for i, count in enumerate(config.nodes):
        every = {f"eval/{study}/{name}": row[i] for study, rows in studies.items() for name, row in rows.items()}
        recorder.log(count, every)
    slopes = {study: {name: slope(config, name, row) for name, row in rows.items()} for study, rows in studies.items()}
    figure = recorder.figure_path("quadrature_rates")
    if figure is not None:
        bands = {name: ([low for _, low, _ in found], [high for _, _, high in found]) for name, found in uneven.items()}
        classical = {name: row for name, row in smooth.items() if "Matern" not in name and "exponential" not in name}
        bayesian = {name: row for name, row in smooth.items() if name not in classical}
        phases, moved = (
            "exp(-t) cos(3t + phase), 8 phases",
            f"medians and deciles, {config.draws} draws, seed {seed}",
        )
        plot_charts(
            [
                Chart("Even nodes", f"{phases}; classical rules, splines", STEPS, "|error|",
                      lines(config, classical, slopes["smooth"], (2, 4, 5))),
                Chart("Even nodes", f"{phases}; Bayesian, l = T", STEPS, "|error|",
                      lines(config, bayesian, slopes["smooth"], (2, 4, 5))),
            ],
            figure,
        )  # fmt: skip
        plot_charts(
            [
                Chart("Nodes moved by up to 0.3 h", moved, STEPS, "|error|",
                      lines(config, medians, slopes["uneven"], (2, 5), bands)),
                Chart("Worst case", "integrands of norm 1 for the kernel, even nodes", STEPS, "largest error",
                      lines(config, worst, slopes["worst case"], (1, 4))),
            ],
            figure.with_name("quadrature_rates_uneven_and_worst"),
        )  # fmt: skip
    return recorder.finish(
        {
            f"eval/slope/{study}/{name}": found.exponent
            for study, rows in slopes.items()
            for name, found in rows.items()
            if found is not None
        }
    )


def slope(config: Config, name: str, row: list[float]) -> Slope | None:
    """In N - 1, from `ASYMPTOTIC` nodes on and above rounding; None for a rule without an order, or with two points."""
    kept = [(n - 1, error) for n, error in zip(config.nodes, row, strict=True) if n >= ASYMPTOTIC and error > FLOOR]
    return fitted_slope(*zip(*kept, strict=True)) if name in ORDERS and len(kept) >= 3 else None


def lines(
    config: Config,
    rows: Mapping[str, list[float]],
    slopes: Mapping[str, Slope | None],
    orders: Sequence[int],
    bands: Mapping[str, tuple[list[float], list[float]]] | None = None,
) -> list[Line]:
    """Errors above rounding with the fitted slope and its 95 % interval, beside some orders of theory."""
    found = []
    for name, row in rows.items():
        keep, fit = [i for i, error in enumerate(row) if error > FLOOR], slopes[name]
        if not keep:
            continue  # exact to rounding throughout
        label = name if fit is None else f"{name}: {fit.exponent:.2f} ± {fit.half_width:.2f}"
        low, high = (None, None) if bands is None else ([end[i] for i in keep] for end in bands[name])
        found.append(Line(label, [config.nodes[i] - 1 for i in keep], [row[i] for i in keep], low, high))
    steps = [n - 1 for n in config.nodes]
    for order in orders:
        found.append(Line(f"order {order}", steps, [0.3 * (steps[0] / s) ** order for s in steps], theory=True))
    return found
