"""Aggregates over runs: the interquartile mean and stratified bootstrap intervals.

Source: Agarwal, Schwarzer, Castro, Courville and Bellemare, "Deep reinforcement learning at the edge of the statistical
precipice", NeurIPS 2021.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlcore.errors import ConfigError, ShapeError

CHUNK_NUMBERS = 1 << 20  # scores resampled at once

Array = NDArray[np.float64]


class Interval(NamedTuple):
    """Both ends of a confidence interval."""

    low: float
    high: float


class Slope(NamedTuple):
    """A fitted power law."""

    exponent: float
    half_width: float
    """Of the 95 % confidence interval of the exponent; nan for two points."""


class Summary(NamedTuple):
    """What is reported of one number that each of n independent runs gave."""

    mean: float
    iqm: float
    """Interquartile mean."""
    low: float
    """Lower end of the 95 % bootstrap interval of the mean; equal to it when n = 1."""
    high: float
    n: int


def mean(scores: ArrayLike) -> Array:  # [..., N] -> [...]
    """The mean over the last axis."""
    return np.asarray(np.mean(np.asarray(scores, dtype=np.float64), axis=-1))


def interquartile_mean(scores: ArrayLike) -> Array:  # [..., N] -> [...]
    """The mean of what remains after floor(N / 4) scores are cut from either end, over the last axis."""
    ordered = np.sort(np.asarray(scores, dtype=np.float64), axis=-1)
    count = ordered.shape[-1]
    if count == 0:
        raise ShapeError("the interquartile mean needs at least one score, got none")
    return np.asarray(ordered[..., count // 4 : count - count // 4].mean(axis=-1))


def stratified_bootstrap(
    scores: ArrayLike,
    statistic: Callable[[Array], Array] = interquartile_mean,
    *,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Percentile interval of statistic(all scores), runs resampled within each task.

    `scores` is [runs, tasks], or [runs] for one task; `statistic` maps [..., runs * tasks] -> [...].
    """
    table = np.asarray(scores, dtype=np.float64)
    table = table[:, None] if table.ndim == 1 else table
    if table.ndim != 2 or table.size == 0:
        raise ShapeError(f"scores must be [runs, tasks] with at least one of each, got {list(np.shape(scores))}")
    if resamples < 1 or not 0.0 < level < 1.0:
        raise ConfigError(f"need resamples >= 1 and 0 < level < 1, got {resamples} and {level}")
    runs, tasks = table.shape
    generator = np.random.default_rng(seed)
    values = np.empty(resamples)
    chunk = max(1, CHUNK_NUMBERS // table.size)
    for first in range(0, resamples, chunk):
        count = min(chunk, resamples - first)
        drawn = generator.integers(runs, size=(count, runs, tasks))
        values[first : first + count] = statistic(table[drawn, np.arange(tasks)].reshape(count, -1))
    low, high = np.quantile(values, [0.5 - 0.5 * level, 0.5 + 0.5 * level])
    return Interval(float(low), float(high))


def summarise(values: ArrayLike) -> Summary:
    """Mean, interquartile mean and 95 % bootstrap interval of the mean of independent values [n]."""
    flat = np.asarray(values, dtype=np.float64).reshape(-1)
    low, high = stratified_bootstrap(flat, mean)
    return Summary(float(mean(flat)), float(interquartile_mean(flat)), low, high, flat.size)


def fitted_slope(x: ArrayLike, y: ArrayLike) -> Slope:
    """The exponent k of y = c x^k by least squares in logarithms, over the points where y is positive and finite."""
    from scipy import stats  # costs a second to import

    abscissa, ordinate = (np.asarray(part, dtype=np.float64).reshape(-1) for part in (x, y))
    keep = np.isfinite(ordinate) & (ordinate > 0.0)
    if keep.sum() < 2:
        raise ConfigError(f"a slope needs at least two positive points, got {int(keep.sum())}")
    fit = stats.linregress(np.log(abscissa[keep]), np.log(ordinate[keep]))
    freedom = int(keep.sum()) - 2
    width = float(stats.t.ppf(0.975, freedom) * fit.stderr) if freedom else float("nan")
    return Slope(float(fit.slope), width)
