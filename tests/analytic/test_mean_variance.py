"""Mean-variance investment against its closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from rlcore.envs.finance import MeanVariance, MeanVarianceConfig
from rlcore.errors import ConfigError
from rlcore.simulation import begin, check_environment, rollout, rollout_with_reset


def test_example_numbers() -> None:
    env = MeanVariance()
    assert env.config.sharpe_rate == pytest.approx(1.4)
    assert env.multiplier == pytest.approx(1.465581, abs=1e-6)
    assert env.terminal_mean() == pytest.approx(1.4, abs=1e-12)
    assert env.terminal_variance(0.0) == pytest.approx(0.026232, abs=1e-6)
    assert env.terminal_variance() == pytest.approx(0.076232, abs=1e-6)


@pytest.mark.parametrize(
    ("stock_return", "volatility", "continuous", "daily"),
    [
        (-0.3, 0.1, 167.0, 150.0),
        (-0.1, 0.1, 1.795, 1.790),
        (0.0, 0.1, 0.202, 0.202),
        (0.3, 0.1, 50.4, 47.3),
        (0.3, 0.2, 2.470, 2.459),
        (0.5, 0.3, 3.455, 3.430),
        (0.3, 0.4, 0.795, 0.795),
    ],
)
def test_sharpe_ratios_of_the_published_grid(
    stock_return: float, volatility: float, continuous: float, daily: float
) -> None:
    env = MeanVariance(MeanVarianceConfig(stock_return=stock_return, volatility=volatility))
    assert env.sharpe_ratio() == pytest.approx(continuous, rel=3e-3)
    assert env.rebalanced_sharpe_ratio() == pytest.approx(daily, rel=3e-3)


@pytest.mark.parametrize("temperature", [0.0, 0.1])
@pytest.mark.parametrize("steps", [12, 252])
def test_rebalanced_moments_by_simulation(temperature: float, steps: int) -> None:
    paths = 40_000 if steps == 12 else 10_000
    env = MeanVariance(MeanVarianceConfig(dt=1.0 / steps), dtype=torch.float64)
    path, last = rollout(env, env.optimal_policy(temperature), begin(env, paths, seed=5), steps)
    wealth = last.env.x[:, 0]
    mean, second = env.rebalanced_moments(temperature=temperature)
    squares = (wealth - env.multiplier) ** 2
    assert float(wealth.mean()) == pytest.approx(mean, abs=4.0 * float(wealth.std()) / math.sqrt(paths))
    assert float(squares.mean()) == pytest.approx(second, abs=4.0 * float(squares.std()) / math.sqrt(paths))
    torch.testing.assert_close(path.reward.sum(0), (env.multiplier - 1.4) ** 2 - squares)
    assert bool(path.terminated[-1].all())
    assert not bool(path.terminated[-2].any())


@pytest.mark.parametrize("temperature", [0.0, 0.1])
def test_rebalanced_moments_tend_to_the_continuous_ones(temperature: float) -> None:
    env = MeanVariance()
    gaps = []
    for steps in (1000, 2000):
        mean, second = env.rebalanced_moments(steps, temperature)
        assert mean == pytest.approx(env.terminal_mean(), abs=2e-3)
        gaps.append(second - (mean - env.multiplier) ** 2 - env.terminal_variance(temperature))
    assert abs(gaps[1]) < 1e-3
    assert gaps[0] / gaps[1] == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize("temperature", [0.0, 0.1])
def test_value_solves_the_exploratory_hjb_equation(temperature: float) -> None:
    """V_t + E_pi[ (mu - r) a V_x + sigma^2 a^2 V_xx / 2 ] + gamma H(pi) = 0 at the optimal pi."""
    env = MeanVariance(dtype=torch.float64)
    c, h = env.config, 1e-4
    times, wealths = torch.linspace(0.1, 0.9, 5).double(), torch.linspace(0.5, 2.0, 6).double()
    t, x = (grid.flatten() for grid in torch.meshgrid(times, wealths, indexing="ij"))

    def value(at_t: torch.Tensor, at_x: torch.Tensor) -> torch.Tensor:
        return env.optimal_value(at_t, at_x, temperature)

    v_t = (value(t + h, x) - value(t - h, x)) / (2 * h)
    v_x = (value(t, x + h) - value(t, x - h)) / (2 * h)
    v_xx = (value(t, x + h) - 2 * value(t, x) + value(t, x - h)) / h**2
    mean = env.optimal_policy(0.0).act(torch.stack([x, c.horizon - t], dim=1))[:, 0]
    variance = torch.tensor([env.exploratory_variance(float(s), temperature) for s in t], dtype=torch.float64)
    entropy = 0.5 * torch.log(2 * math.pi * math.e * variance) if temperature else torch.zeros_like(t)
    excess = c.stock_return - c.interest_rate
    residual = v_t + excess * mean * v_x + 0.5 * c.volatility**2 * (mean**2 + variance) * v_xx + temperature * entropy
    assert float(residual.abs().max()) < 1e-6
    torch.testing.assert_close(-excess * v_x / (c.volatility**2 * v_xx), mean, rtol=1e-5, atol=1e-5)  # argmax
    if temperature:
        torch.testing.assert_close(-temperature / (c.volatility**2 * v_xx), variance, rtol=1e-5, atol=1e-5)
    wealth = torch.linspace(0.0, 3.0, 7, dtype=torch.float64)
    paid = (env.multiplier - c.target) ** 2 - (wealth - env.multiplier) ** 2
    torch.testing.assert_close(value(torch.ones_like(wealth), wealth), paid)


def test_value_at_the_start_is_minus_the_variance() -> None:
    """With w = w*, the constraint holds and the Lagrangian is the variance."""
    env = MeanVariance(dtype=torch.float64)
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    assert float(env.optimal_value(zero, one, 0.0)) == pytest.approx(-env.terminal_variance(0.0), abs=1e-12)


def test_policy_is_the_stated_gaussian() -> None:
    env = MeanVariance(dtype=torch.float64)
    obs = torch.tensor([[1.0, 1.0], [1.2, 0.25]], dtype=torch.float64)
    policy = env.optimal_policy()
    mean = policy.act(obs)
    assert mean[:, 0].tolist() == pytest.approx([-7.0 * (1.0 - env.multiplier), -7.0 * (1.2 - env.multiplier)])
    spread = (policy.act(obs, noise=torch.ones(2, 1, dtype=torch.float64)) - mean)[:, 0] ** 2
    assert spread.tolist() == pytest.approx([env.exploratory_variance(0.0), env.exploratory_variance(0.75)])


def test_termination_sets_the_discount_and_the_start() -> None:
    env = MeanVariance(MeanVarianceConfig(dt=0.25))
    check_environment(env)
    steps, _ = rollout_with_reset(env, env.optimal_policy(), begin(env, 3, seed=0), 9)
    assert torch.where(steps.discount[:, 0] == 0)[0].tolist() == [3, 7]
    assert torch.where(steps.reward[:, 0] != 0)[0].tolist() == [3, 7]
    assert steps.obs[:, 0, 1].tolist() == pytest.approx([1.0, 0.75, 0.5, 0.25] * 2 + [1.0])
    assert steps.obs[4, :, 0].tolist() == [1.0] * 3
    assert steps.next_obs[3, :, 1].tolist() == [0.0] * 3


def test_a_given_multiplier_is_used() -> None:
    env = MeanVariance(MeanVarianceConfig(multiplier=1.6))
    assert env.multiplier == 1.6
    assert env.terminal_mean() == pytest.approx(1.6 - 0.6 * math.exp(-1.96))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"volatility": 0.0}, "volatility"),
        ({"stock_return": math.nan}, "stock_return"),
        ({"stock_return": 0.02}, "multiplier"),
        ({"dt": 0.3}, "multiple of dt"),
        ({"temperature": -1.0}, "temperature"),
    ],
)
def test_bad_settings_are_named(bad: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MeanVariance(MeanVarianceConfig(**bad))
