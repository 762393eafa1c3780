from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from rlcore.errors import ConfigError, ShapeError
from rlcore.reporting.statistics import fitted_slope, interquartile_mean, mean, stratified_bootstrap, summarise


@pytest.mark.parametrize("runs", [1, 2, 3, 4, 5, 7, 10, 101])
def test_iqm_is_the_trimmed_mean_that_rliable_takes(runs: int) -> None:
    scores = np.random.default_rng(runs).standard_cauchy((runs, 3))
    expected = scipy.stats.trim_mean(scores, 0.25, axis=None)
    assert interquartile_mean(scores.reshape(-1)) == pytest.approx(expected, rel=1e-12)


def test_iqm_reduces_the_last_axis() -> None:
    scores = np.random.default_rng(0).normal(size=(4, 9))
    assert np.allclose(interquartile_mean(scores), [scipy.stats.trim_mean(row, 0.25) for row in scores])
    with pytest.raises(ShapeError, match="at least one"):
        interquartile_mean([])


@pytest.mark.parametrize("statistic", [mean, interquartile_mean])
def test_interval_covers_the_centre_of_normal_samples(statistic: object) -> None:
    generator = np.random.default_rng(1)
    hits = 0
    for seed in range(400):
        low, high = stratified_bootstrap(generator.normal(3.0, 2.0, 40), statistic, resamples=500, seed=seed)  # type: ignore[arg-type]
        hits += low <= 3.0 <= high
    assert 0.95 - 4 * (0.95 * 0.05 / 400) ** 0.5 <= hits / 400 <= 1.0  # 4 standard errors below


def test_interval_of_a_normal_mean_is_as_wide_as_theory_says() -> None:
    low, high = stratified_bootstrap(np.random.default_rng(2).normal(0.0, 1.0, 2000), mean)
    assert high - low == pytest.approx(2 * 1.96 / 2000**0.5, rel=0.06)


def test_strata_are_resampled_apart() -> None:
    scores = np.array([0.0, 100.0]) + np.zeros((6, 2))  # tasks differ, runs do not: no uncertainty is left
    assert stratified_bootstrap(scores, mean) == (50.0, 50.0)
    assert stratified_bootstrap(scores.reshape(-1), mean).high > 50.0


def test_same_seed_same_interval_in_chunks_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.random.default_rng(3).normal(size=(5, 2))
    whole = stratified_bootstrap(scores, seed=7)
    monkeypatch.setattr("rlcore.reporting.statistics.CHUNK_NUMBERS", 100)
    assert stratified_bootstrap(scores, seed=7) == whole
    assert stratified_bootstrap(scores, seed=8) != whole


def test_summary() -> None:
    summary = summarise([1.0, 2.0, 3.0, 4.0, 100.0])
    assert (summary.mean, summary.iqm, summary.n) == (22.0, 3.0, 5)
    assert summary.low < 22.0 < summary.high
    assert summarise([5.0]) == (5.0, 5.0, 5.0, 5.0, 1)


def test_bad_input() -> None:
    with pytest.raises(ShapeError, match="scores must be"):
        stratified_bootstrap(np.zeros((0, 2)))
    with pytest.raises(ConfigError, match="level"):
        stratified_bootstrap([1.0], level=1.0)


def test_a_slope_is_fitted_with_its_interval() -> None:
    x = np.array([4.0, 8.0, 16.0, 32.0])
    exact = fitted_slope(x, 3.0 * x**-4)
    assert exact.exponent == pytest.approx(-4.0)
    assert exact.half_width == pytest.approx(0.0, abs=1e-6)
    noisy = fitted_slope(x, 3.0 * x**-4 * np.array([1.1, 0.9, 1.1, 0.9]))
    assert abs(noisy.exponent + 4.0) < noisy.half_width < 1.0
    assert np.isnan(fitted_slope(x, [np.nan, 2.0, 1.0, 0.0]).half_width)
    with pytest.raises(ConfigError, match="two positive points"):
        fitted_slope(x, [np.nan, 1.0, 0.0, -1.0])
