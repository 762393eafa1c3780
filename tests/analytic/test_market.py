"""A market that moves with one's trades: closed forms of linear rules, what is best for proxy and truth, the hack."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from rlcore.envs import make
from rlcore.envs.hacking import market_law as law
from rlcore.envs.hacking.market import PAPER, SIGNAL, WEALTH, WEIGHT, Market, MarketConfig
from rlcore.envs.hacking.market_law import LinearRule
from rlcore.errors import ConfigError
from rlcore.experiments.hacking_study import watch
from rlcore.simulation import begin, rollout, rollout_with_reset


@pytest.fixture(scope="module")
def env() -> Market:
    return Market(dtype=torch.float64)


def test_mertons_weight_is_best_of_the_constants_and_earns_half_its_premium(env: Market) -> None:
    assert env.merton_weight() == pytest.approx(0.75)
    earned = {w: law.earned(env.config, law.occupancy(env.config, env.hold(w))).true for w in (0.0, 0.5, 0.75, 1.5)}
    assert earned[0.75] == pytest.approx(100.0 * 0.06**2 / (2 * 2.0 * 0.04))
    assert max(earned, key=lambda w: earned[w]) == 0.75
    assert earned[0.0] == 0.0 == pytest.approx(earned[1.5])


@pytest.mark.parametrize("name", ["desk", "markowitz", "best"])
def test_a_linear_rule_earns_its_closed_form(env: Market, name: str) -> None:
    rule = getattr(env, name)()
    closed = law.earned(env.config, law.occupancy(env.config, rule))
    found = watch(env, rule, paths=4000, steps=63, burn_in=126)
    proxy, true = (4.0 * total for total in found.totals())  # % a year
    error = [4.0 * 4.0 * float(x.sum(0).std()) / math.sqrt(4000) for x in (found.proxy, found.true)]
    assert max(error) < 0.6
    assert proxy == pytest.approx(closed.proxy, abs=error[0])
    assert true == pytest.approx(closed.true, abs=error[1] + 0.02 * abs(closed.true))  # trades at the limit are cut
    assert found.correlation == pytest.approx(closed.r, abs=0.02)


@pytest.mark.parametrize("beta", [0.0, 2.0])
def test_no_linear_rule_beats_the_best_one(beta: float) -> None:
    """Its gradient in level, keep and slope vanishes where nothing is discounted; so does that of the proxy's."""
    env = Market(MarketConfig(discount_rate=beta))
    for rule, which in ((env.best(), "true"), (env.markowitz(), "proxy")):
        top = getattr(law.earned(env.config, law.occupancy(env.config, rule)), which)
        for name in ("level", "keep", "slope"):
            for step in (-1e-3, 1e-3):
                near = replace(rule, **{name: getattr(rule, name) + step})
                lower = getattr(law.earned(env.config, law.occupancy(env.config, near)), which)
                assert lower < top if beta == 0.0 or which == "proxy" else lower < top + 1e-2


def test_the_best_rule_solves_its_bellman_equation(env: Market) -> None:
    """w of Gârleanu and Pedersen maximises r(s, x, w) + delta E V(s', w) with V quadratic, found here by iteration."""
    c = env.config
    h, g = law.quadratic(c, c.delivered, c.impact)
    rho, delta = law.forgetting(c), law.discount(c)
    p = q0 = q1 = 0.0  # V = -p x^2 / 2 + (q0 + q1 s) x + what x does not change
    for _ in range(3000):
        curve = -h[2, 2] + delta * p
        level, keep, slope = g[2] + delta * q0, h[1, 2], h[0, 2] + delta * rho * q1
        p, q0, q1 = -h[1, 1] - keep**2 / curve, keep * level / curve, keep * slope / curve
    best = env.best()
    np.testing.assert_allclose(np.array([level, keep, slope]) / curve, [best.level, best.keep, best.slope], rtol=1e-9)


def test_without_impact_and_with_a_sound_sample_proxy_and_truth_are_one() -> None:
    env = make("rlcore/Market-v0", impact=0.0, promise=0.06)
    assert env.best() == env.markowitz()
    found = watch(env, env.markowitz(), paths=8, steps=20)
    torch.testing.assert_close(found.proxy, found.true)


def test_the_optimum_of_the_proxy_is_a_hack_and_costs_the_more_the_shorter_the_interval(env: Market) -> None:
    costs = []
    for days in (1.0, 0.25):
        there = Market(MarketConfig(dt=days / 252.0))
        hack, desk = (
            law.earned(there.config, law.occupancy(there.config, rule)) for rule in (there.markowitz(), there.desk())
        )
        assert hack.proxy > 2.0 * desk.proxy
        assert hack.true < -15.0 < 0.0 < desk.true
        costs.append(desk.true - hack.true)
    assert costs[1] > 3.5 * costs[0], "like 1 / dt"


def test_chi_squared_is_the_integral_of_squared_densities(env: Market) -> None:
    base, near = (law.occupancy(env.config, rule) for rule in (env.desk(), env.desk(share=0.6, spread=0.045)))
    assert law.root_chi2(base, base) == pytest.approx(0.0, abs=1e-5)
    generator = np.random.default_rng(0)
    drawn = generator.multivariate_normal(*near, size=200_000)

    def log_density(x: np.ndarray, of: law.Gaussian) -> np.ndarray:
        off = x - of.mean
        return -0.5 * (np.einsum("ni,ij,nj->n", off, np.linalg.inv(of.cov), off) + np.linalg.slogdet(of.cov)[1])

    estimate = np.expm1(log_density(drawn, near) - log_density(drawn, base)).mean()
    assert law.root_chi2(near, base) ** 2 == pytest.approx(estimate, rel=0.05)
    assert math.isinf(law.root_chi2(law.occupancy(env.config, env.markowitz()), base))


def test_the_held_rule_is_certified_and_gains_what_the_desk_left(env: Market) -> None:
    c, desk, held = env.config, env.desk(), law.held_rule(env.config, env.desk())
    (before, after), laws = (law.earned(c, law.occupancy(c, rule)) for rule in (desk, held)), law.occupancy
    kappa = (after.proxy - before.proxy) * c.dt / before.proxy_sd / law.root_chi2(laws(c, held), laws(c, desk))
    assert kappa > math.sqrt(1.0 - before.r**2) + 0.03
    assert 1.1 * before.true < after.true < law.earned(c, laws(c, env.best())).true


def test_wealth_is_what_the_true_reward_says_on_average(env: Market) -> None:
    """Gains less half of gamma times the variance that the weights carry; the paper's gains are the backtest's."""
    path, end = rollout_with_reset(env, env.desk(), begin(env, 20_000, seed=3), 126)
    after = path.next_obs[..., WEIGHT]
    risk = 100.0 * env.config.dt * (0.04 * after**2).sum(0)
    for column, reward in ((WEALTH, path.extras["true_reward"]), (PAPER, path.reward)):
        gap = 100.0 * end.env.x[:, column] - risk - reward.sum(0)
        assert float(gap.mean()) == pytest.approx(0.0, abs=4.0 * float(gap.std()) / math.sqrt(20_000))


def test_the_signal_keeps_its_law_and_rows_are_independent(env: Market) -> None:
    state = begin(env, 8000, seed=0).env
    for k in range(20):
        noise = torch.randn(8000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(k))
        state, _ = env.transition(state, torch.full((8000, 1), -0.75 if k == 0 else 0.0, dtype=torch.float64), noise)
    assert float(state.x[:, SIGNAL].var()) == pytest.approx(1.0, abs=0.06)
    torch.testing.assert_close(state.x[:, WEIGHT], torch.full_like(state.x[:, 0], 0.75 - 9.0 / 252.0))
    many, _ = rollout(env, env.desk(), begin(env, 6, seed=1), 30)
    few, _ = rollout(env, env.desk(), begin(env, 2, seed=1, first_row=3), 30)
    torch.testing.assert_close(many.reward[:, 3:5], few.reward)
    assert isinstance(env.hold(), LinearRule)
    with pytest.raises(ConfigError, match="volatility"):
        make("rlcore/Market-v0", volatility=0.0)
