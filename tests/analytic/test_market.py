"""A market with a promise: Merton's weight, costs, the in-sample Sharpe ratio, the hack."""

from __future__ import annotations

import math

import pytest
import torch

from rlcore.envs import make
from rlcore.envs.hacking.market import SIGNAL, WEALTH, Market
from rlcore.errors import ConfigError
from rlcore.experiments.hacking_study import watch
from rlcore.simulation import begin, rollout


@pytest.fixture(scope="module")
def env() -> Market:
    return Market(dtype=torch.float64)


def test_mertons_weight_is_best_of_the_constants_without_costs() -> None:
    free = make("rlcore/Market-v0", cost=0.0)
    assert free.merton_weight() == pytest.approx(0.75)
    assert free.utility(0.75) == pytest.approx(0.06**2 / (2 * 2.0 * 0.04))
    grid = [0.25 * k for k in range(-4, 9)]
    assert max(grid, key=free.utility) == 0.75


@pytest.mark.parametrize("weight", [0.4, 0.75, 2.0])
def test_a_constant_weight_earns_its_closed_form(env: Market, weight: float) -> None:
    found = watch(env, env.constant(weight), paths=20_000, steps=252)
    first = env.config.cost * abs(weight - env.merton_weight())  # the trade from the initial weight
    error = 4.0 * weight * env.config.volatility / math.sqrt(20_000)
    assert found.totals()[1] == pytest.approx(env.utility(weight) - first, abs=error)


def test_the_proxy_of_an_episode_is_the_in_sample_sharpe_ratio(env: Market) -> None:
    start = begin(env, 64, seed=0)
    path, end = rollout(env, env.follow_signal(), start, 252)
    gain = env.sharpe(end.env.x) - env.sharpe(start.env.x)
    torch.testing.assert_close(path.reward.sum(0), gain)
    assert torch.allclose(env.sharpe(start.env.x), torch.tensor(0.3, dtype=torch.float64), atol=1e-6)


def test_following_the_signal_promises_its_closed_form_and_loses(env: Market) -> None:
    found = watch(env, env.follow_signal(), paths=4000, steps=252)
    promised = env.sample_sharpe()
    weight = 252 / (252 + env.config.prior_days)
    assert promised == pytest.approx(1.5297, abs=1e-4)
    assert found.totals()[0] + 0.3 == pytest.approx(weight * promised + (1 - weight) * 0.3, abs=0.12)
    assert found.totals()[1] < 0.0 < env.utility(env.merton_weight())
    base = watch(env, env.constant(), paths=4000, steps=252)
    assert base.totals()[0] < 0.15 < found.totals()[0]
    assert base.correlation > 0.7


def test_leverage_pleases_the_proxy_as_much_and_ruins_the_truth(env: Market) -> None:
    one, three = (watch(env, env.follow_signal(k), paths=500, steps=252).totals() for k in (1.0, 2.0))
    assert three[0] == pytest.approx(one[0], abs=0.2)
    assert three[1] < 2.0 * one[1]


def test_the_signal_keeps_its_law_and_rows_are_independent(env: Market) -> None:
    state = begin(env, 8000, seed=0).env
    for k in range(20):
        noise = torch.randn(8000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(k))
        state, _ = env.transition(state, torch.zeros(8000, 1, dtype=torch.float64), noise)
    assert float(state.x[:, SIGNAL].var()) == pytest.approx(1.0, abs=0.06)
    assert torch.allclose(state.x[:, WEALTH], torch.tensor(-0.75 * 0.001, dtype=torch.float64)), "sold once, then out"
    many, _ = rollout(env, env.constant(), begin(env, 6, seed=1), 30)
    few, _ = rollout(env, env.constant(), begin(env, 2, seed=1, first_row=3), 30)
    torch.testing.assert_close(many.reward[:, 3:5], few.reward)
    with pytest.raises(ConfigError, match="volatility"):
        make("rlcore/Market-v0", volatility=0.0)
