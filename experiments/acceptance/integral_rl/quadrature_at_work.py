"""Quadrature at work: cost, orders of convergence, uneven and few nodes, windows per second."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from rlcore.experiments.acceptance.integral_rl.quadrature import DOUBLE, SYSTEM, at_most_each, even
from rlcore.experiments.quadrature_rates import WAVE, jittered, wave
from rlcore.functional.quadrature import Matern, Rule, Trapezoid
from rlcore.reporting.acceptance import Measurement, row


@contextmanager
def threads(count: int) -> Iterator[None]:
    """That many threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def seconds(count: int) -> float:
    """Of one solution on that many even nodes."""
    nodes, began = even(count), time.perf_counter()
    Matern(3, 3.0).at(nodes)
    return time.perf_counter() - began


@row(
    SYSTEM,
    "A8",
    "state space on one core, Matern-7/2: time of 1e5 nodes over that of 1e4, and the latter",
    "",
)
def linear_cost() -> Measurement:
    """Medians of three, taken in turn."""
    with threads(1):
        seconds(10_000)
        pairs = [(seconds(10_000), seconds(100_000)) for _ in range(3)]
    found = {
        "ratio": statistics.median(long / short for short, long in pairs),
        "seconds": statistics.median(short for short, _ in pairs),
    }
    return at_most_each(found, {"ratio": 13.0, "seconds": 2.0})


@row(
    SYSTEM,
    "A9",
    "orders, N = 33 to 129, nu 1/2 to 7/2: smooth integrand, worst case",
    "± .15; last ± .4",
)
def orders() -> Measurement:
    """exp(-t) cos 3t over [0, 1] with l = T."""
    errors: list[float] = []
    worst: list[float] = []
    for order in range(4):
        rough, fine = (Matern(order, 1.0).at(even(count)) for count in (33, 129))
        assert rough.variance is not None
        assert fine.variance is not None
        off = [abs(float(found.integral(wave(found.times))) - WAVE) for found in (rough, fine)]
        errors.append(math.log(off[1] / off[0]) / math.log(4.0))
        worst.append(0.5 * math.log(float(fine.variance / rough.variance)) / math.log(4.0))
    expected = [-2.0, -3.0, -4.0, -5.0, -1.0, -2.0, -3.0, -4.0]
    found, allowed = [*errors, *worst], [0.15] * 7 + [0.4]
    passed = all(abs(a - b) <= c for a, b, c in zip(found, expected, allowed, strict=True))
    wanted, got = (", ".join(f"{value:.2f}" for value in values) for values in (expected, found))
    return Measurement(wanted, got, passed)


def median_error(rule: Rule, nodes: Tensor) -> float:
    """Of the integral of the wave."""
    return float((rule.at(nodes).integral(wave(nodes)) - WAVE).abs().median())


@row(
    SYSTEM,
    "A20",
    "65 nodes moved by up to .3 h: median error on exp(-t) cos 3t, Matern-7/2 with l = 10 T",
    "",
)
def uneven_nodes() -> Measurement:
    """201 draws; the trapezoidal rule on the same samples is off by about 2.9e-5."""
    nodes = jittered(65, 201, seed=0)
    errors = {"Matern-7/2": median_error(Matern(3, 10.0), nodes), "trapezoid": median_error(Trapezoid(), nodes)}
    return at_most_each(errors, {"Matern-7/2": 5e-10, "trapezoid": 3.5e-5})


@row(
    SYSTEM,
    "A21",
    "two and three nodes, unknown constant mean: beside the trapezoid (N = 2), sum of weights",
    "",
)
def few_nodes() -> Measurement:
    """Every order, l from .3 T to 10 T; the window is .1 s."""
    errors = {"trapezoid": 0.0, "sum": 0.0}
    for count in (2, 3):
        nodes = 0.1 * even(count)
        for order in range(5):
            for scale in (0.03, 0.1, 1.0):
                found = Matern(order, scale, mean_degree=0).at(nodes).weights / 0.1
                errors["sum"] = max(errors["sum"], abs(float(found.sum()) - 1.0))
                if count == 2:
                    errors["trapezoid"] = max(errors["trapezoid"], float((found - 0.5).abs().max()) / 0.5)
    return at_most_each(errors, {"trapezoid": 1e-2, "sum": 1e-12})


@row(SYSTEM, "A24", "windows per second on one core with weights at hand, N = 33, float64", "median of 15")
def throughput() -> Measurement:
    """10^5 windows at a time, checked for values that are not finite."""
    found, values = Matern(3, 1.0).at(even(33)), torch.rand(100_000, 33, dtype=DOUBLE)
    rates = []
    with threads(1):
        for _ in range(16):
            began = time.perf_counter()
            found.integral(values)
            rates.append(len(values) / (time.perf_counter() - began))
    rate = statistics.median(rates[1:])
    return Measurement(">= 5e6", f"{rate:.3g}", rate >= 5e6)
