"""Black-Scholes, stopped Brownian motion and Merton against their closed forms."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from rlcore.envs.control.stopped_brownian import StoppedBrownian, StoppedBrownianConfig
from rlcore.envs.finance.black_scholes import GROWTH, BlackScholes, BlackScholesConfig
from rlcore.envs.finance.merton import Market, Merton, MertonConfig, MertonConsumption, MertonConsumptionConfig
from rlcore.errors import ConfigError
from rlcore.reporting.evaluation import evaluate
from rlcore.simulation import Environment, EnvState, Feedback, Policy, begin, rollout

F64 = torch.float64


def derivatives(function: object, *at: float) -> tuple[Tensor, ...]:
    """f, df/dt, df/dx, d2f/dx2 at (t, x)."""
    t, x = (torch.tensor(v, dtype=F64, requires_grad=True) for v in at)
    value = function(t, x)  # type: ignore[operator]
    by_t, by_x = torch.autograd.grad(value, (t, x), create_graph=True)
    (by_xx,) = torch.autograd.grad(by_x, x)
    return value.detach(), by_t.detach(), by_x.detach(), by_xx


@pytest.mark.parametrize("config", [BlackScholesConfig(), GROWTH, BlackScholesConfig(growth=0.1, strike=0.7)])
def test_the_price_solves_its_equation(config: BlackScholesConfig) -> None:
    env = BlackScholes(config, dtype=F64)
    for x in (0.8, 1.0, 1.3):
        value, by_t, by_x, by_xx = derivatives(env.value, 0.3, x) if config.strike else _growth_parts(env, x)
        generator = by_t + config.growth * x * by_x + 0.5 * (config.volatility * x) ** 2 * by_xx
        assert float(generator - config.discount_rate * value) == pytest.approx(0.0, abs=1e-12)
        assert float(env.delta(torch.tensor(0.3, dtype=F64), torch.tensor(x, dtype=F64))) == pytest.approx(float(by_x))


def _growth_parts(env: BlackScholes, x: float) -> tuple[Tensor, ...]:
    value = env.value(torch.tensor(0.3, dtype=F64), torch.tensor(x, dtype=F64))
    rate = env.config.growth - env.config.discount_rate
    return value, -rate * value, value / x, torch.zeros((), dtype=F64)


def test_the_price_at_the_money() -> None:
    env = BlackScholes(dtype=F64)
    assert float(env.value(torch.zeros(1, dtype=F64), torch.ones(1, dtype=F64))) == pytest.approx(0.1045058, abs=1e-7)


def test_sampled_payoffs_have_the_price_as_their_mean() -> None:
    env = BlackScholes(BlackScholesConfig(initial_low=1.0, initial_high=1.0, dt=0.1), dtype=F64)
    batch = rollout(env, Feedback(lambda obs: obs[:, :1]), begin(env, 100_000, seed=0), 10)[0]
    paid = math.exp(-0.05) * batch.reward.sum(0)
    assert float(paid.mean()) == pytest.approx(0.1045058, abs=3.0 * float(paid.std()) / math.sqrt(100_000))


def exit_times(dt: float, bridge: bool, paths: int = 25_000) -> Tensor:
    env = StoppedBrownian(StoppedBrownianConfig(dt=dt, bridge=bridge), dtype=F64)
    earned, stand = torch.zeros(paths, dtype=F64), begin(env, paths, seed=1)
    for _ in range(math.ceil(8.0 / (100 * dt))):
        batch, stand = rollout(env, Feedback(torch.zeros_like), stand, 100)
        earned += batch.reward.sum(0)
    return earned


def test_the_bridge_sees_every_exit() -> None:
    for dt in (0.04, 0.01):
        assert float(exit_times(dt, True).mean()) == pytest.approx(1.0, abs=0.02)


def test_watching_the_grid_alone_is_late_by_half_an_order() -> None:
    errors = [float(exit_times(dt, False).mean()) - 1.0 for dt in (0.04, 0.01, 0.0025)]
    assert errors == pytest.approx([0.260, 0.119, 0.056], abs=0.02)
    assert np.polyfit(np.log([0.04, 0.01, 0.0025]), np.log(errors), 1)[0] == pytest.approx(0.5, abs=0.12)


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_the_stopped_value_solves_its_equation(beta: float) -> None:
    config = StoppedBrownianConfig(
        low=-0.5, high=2.0, sigma=0.7, running=0.3, payoff_low=1.0, payoff_high=-2.0, discount_rate=beta
    )
    env = StoppedBrownian(config, dtype=F64)
    x = torch.tensor(0.4, dtype=F64, requires_grad=True)
    value = env.value(x)
    (slope,) = torch.autograd.grad(value, x, create_graph=True)
    (curve,) = torch.autograd.grad(slope, x)
    assert float(0.5 * 0.49 * curve + 0.3 - beta * value) == pytest.approx(0.0, abs=1e-12)
    assert env.value(torch.tensor([-0.5, 2.0], dtype=F64)).tolist() == pytest.approx([1.0, -2.0])


def test_the_discounted_exit() -> None:
    config = StoppedBrownianConfig(running=0.0, payoff_low=1.0, payoff_high=1.0, discount_rate=0.5)
    assert float(StoppedBrownian(config).value(torch.zeros(()))) == pytest.approx(1.0 / math.cosh(1.0))


def test_merton_by_the_hamilton_jacobi_bellman_equation() -> None:
    env = Merton(dtype=F64)
    m, best = env.market, env.market.best_fraction()
    assert best == pytest.approx(0.75)
    by_t, by_x, by_xx = derivatives(env.value, 0.2, 1.3)[1:]

    def hamiltonian(share: float) -> float:
        drift = 1.3 * (m.interest_rate + share * (m.stock_return - m.interest_rate))
        return float(by_t + drift * by_x + 0.5 * (1.3 * share * m.volatility) ** 2 * by_xx)

    assert hamiltonian(best) == pytest.approx(0.0, abs=1e-12)
    assert max(hamiltonian(best - 0.1), hamiltonian(best + 0.1)) < 0.0
    assert float(env.value(torch.zeros((), dtype=F64), torch.ones((), dtype=F64))) == pytest.approx(-0.958390, abs=1e-6)


def test_merton_is_worth_what_is_simulated() -> None:
    env = Merton(MertonConfig(dt=0.1), dtype=F64)
    for share in (0.75, 0.2):
        found = evaluate(Feedback(lambda obs, share=share: torch.full_like(obs[:, :1], share)), env, paths=50_000)
        truth = float(env.value(torch.zeros((), dtype=F64), torch.ones((), dtype=F64), share))
        assert found.mean == pytest.approx(truth, abs=3.0 * float(np.std(found.returns)) / math.sqrt(50_000))


def test_consumption_by_the_hamilton_jacobi_bellman_equation() -> None:
    env = MertonConsumption(dtype=F64)
    m, beta, best = env.market, env.config.discount_rate, env.best_consumption()
    assert best == pytest.approx(0.07125)
    x = torch.tensor(1.3, dtype=F64, requires_grad=True)
    value = env.value(x)
    (by_x,) = torch.autograd.grad(value, x, create_graph=True)
    (by_xx,) = torch.autograd.grad(by_x, x)

    def hamiltonian(share: float, k: float) -> float:
        drift = 1.3 * (m.interest_rate + share * (m.stock_return - m.interest_rate) - k)
        spread = 0.5 * (1.3 * share * m.volatility) ** 2
        return float(m.utility(torch.tensor(1.3 * k, dtype=F64)) + drift * by_x + spread * by_xx - beta * value)

    assert hamiltonian(0.75, best) == pytest.approx(0.0, abs=1e-9)
    assert max(hamiltonian(0.6, best), hamiltonian(0.75, 0.06), hamiltonian(0.75, 0.09)) < 0.0
    assert float(env.value(torch.ones((), dtype=F64))) == pytest.approx(-196.9837, abs=1e-4)


def test_consumption_is_worth_what_is_simulated() -> None:
    env = MertonConsumption(MertonConsumptionConfig(dt=0.05, horizon=150.0), dtype=F64)
    policy: Policy = Feedback(lambda obs: torch.tensor([[0.5, 0.1]], dtype=F64).expand(len(obs), 2))
    found = evaluate(policy, env, paths=2000)
    assert found.mean == pytest.approx(float(env.value(torch.ones((), dtype=F64), 0.5, 0.1)), rel=0.02)


def test_the_envs_are_pure() -> None:
    environments: list[Environment] = [BlackScholes(), StoppedBrownian(), Merton(), MertonConsumption()]
    for env in environments:
        state = env.initial_state(torch.zeros(3, env.spec.initial_noise_dim))
        before = EnvState(state.t.clone(), state.x.clone())
        env.transition(state, torch.zeros(3, env.spec.action_dim), torch.ones(3, env.step_noise_dim))
        assert torch.equal(state.x, before.x)
        assert torch.equal(state.t, before.t)


def test_bad_settings_are_refused() -> None:
    for bad in (
        lambda: BlackScholesConfig(volatility=-0.2),
        lambda: BlackScholesConfig(initial_low=1.2, initial_high=0.8),
        lambda: BlackScholesConfig(strike=math.nan),
        lambda: StoppedBrownianConfig(start=2.0),
        lambda: StoppedBrownianConfig(sigma=0.0),
        lambda: Market(risk_aversion=1.0),
        lambda: Market(volatility=0.0),
        lambda: MertonConfig(dt=0.3),
        lambda: MertonConsumption(MertonConsumptionConfig(market=Market(risk_aversion=0.3), discount_rate=0.05)),
    ):
        with pytest.raises(ConfigError):
            bad()
    assert replace(GROWTH, dt=0.1).strike is None
