"""The martingale agents against closed forms."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor, nn

from rlcore.agents.martingale import (
    Clstd,
    ClstdConfig,
    Ctd,
    CtdConfig,
    CtdOnline,
    GradientTd,
    GradientTdConfig,
    MartingaleLoss,
    MartingaleLossConfig,
    Mstde,
    MstdeConfig,
    QLearning,
    QLearningConfig,
)
from rlcore.data import ReplayBuffer, Trajectory
from rlcore.envs.control.lqr import ERGODIC, LQ_B, ScalarLqr
from rlcore.envs.control.ornstein_uhlenbeck import OrnsteinUhlenbeck, OrnsteinUhlenbeckConfig
from rlcore.errors import ConfigError, NumericsError
from rlcore.experiments.acceptance.foundation import clstd_error
from rlcore.experiments.exact_samples import balanced_steps
from rlcore.functional import truncated
from rlcore.nn.mlp import LinearInFeatures
from rlcore.nn.quadratic_q import BoxQuadraticQ, QuadraticQ
from rlcore.simulation import GaussianFeedback, begin, rollout, rollout_with_reset
from rlcore.training import PathSource, ReplaySource, RolloutSource, Source


def squares(x: Tensor) -> Tensor:
    return torch.cat([x**2, torch.ones_like(x)], dim=-1)


def test_clstd_has_the_bias_of_its_fixed_point() -> None:
    for dt in (0.1, 0.02):
        env = OrnsteinUhlenbeck(OrnsteinUhlenbeckConfig(dt=dt))
        expected = env.clstd_fixed_point(dt)[0] - env.theta()[0]
        assert clstd_error(dt, balanced_steps(dt, exponent=16)) == pytest.approx(expected, rel=0.02)


def test_clstd_is_of_first_order_in_dt() -> None:
    steps = (0.2, 0.1, 0.05)
    errors = [clstd_error(dt, balanced_steps(dt, exponent=14)) for dt in steps]
    assert np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(1.0, abs=0.05)


def test_clstd_names_a_singular_problem() -> None:
    agent = Clstd(torch.zeros_like, lambda x: torch.cat([x, x], -1), 2, ClstdConfig())
    env = OrnsteinUhlenbeck()
    with pytest.raises(NumericsError, match="singular"):
        agent.update(PathSource(env, 16, 10, seed=0).next(agent))


def test_ctd_reaches_what_clstd_solves_for() -> None:
    env = OrnsteinUhlenbeck(OrnsteinUhlenbeckConfig(dt=0.1, horizon=10.0), dtype=torch.float64)
    value = LinearInFeatures(squares, 2, dtype=torch.float64)
    agent = Ctd(torch.zeros_like, value, CtdConfig(learning_rate=0.3, decay=False))
    agent.learn(PathSource(env, paths=4000, path_steps=10, seed=0), 150)
    assert value.theta.detach().tolist() == pytest.approx(env.clstd_fixed_point(0.1), abs=0.02)


def test_q_is_normalised_on_the_line() -> None:
    q = QuadraticQ(LinearInFeatures(squares, 2, 1), 1, temperature=0.3, log_scale=0.7)
    with torch.no_grad():
        q.mean.theta.copy_(torch.tensor([[0.4], [-0.2]]))

        def density(a: float) -> float:
            return math.exp(float(q(torch.tensor([[1.5]]), torch.tensor([[a]]))) / 0.3)

    assert integrate.quad(density, -8, 8)[0] == pytest.approx(1.0, abs=1e-5)
    assert float(q.variance) == pytest.approx(0.3 * math.exp(0.7))


@pytest.mark.parametrize(("centre", "spread"), [(0.0, 0.0), (3.0, -6.0), (-3.0, 2.0)])
def test_q_is_normalised_on_the_box(centre: float, spread: float) -> None:
    constant = torch.tensor([[centre, spread]])
    q = BoxQuadraticQ(LinearInFeatures(torch.ones_like, 1, 2), 1, 0.5, -2.0, 2.0)
    with torch.no_grad():
        q.network.theta.copy_(constant)  # type: ignore[union-attr]
        obs = torch.zeros(2001, 1)
        a = torch.linspace(-2.0, 2.0, 2001).unsqueeze(1)
        density = torch.exp(q(obs, a).double() / 0.5)
        assert float(torch.trapezoid(density, a[:, 0].double())) == pytest.approx(1.0, abs=2e-3)
        drawn = q.act(torch.zeros(20_000, 1), torch.randn(20_000, 1, generator=torch.Generator().manual_seed(0)))
        mean, scale = (float(v[0, 0]) for v in q.law(torch.zeros(1, 1)))
    law = stats.truncnorm((-2.0 - mean) / scale, (2.0 - mean) / scale, mean, scale)
    assert float(drawn.min()) >= -2.0
    assert float(drawn.max()) <= 2.0
    assert stats.kstest(drawn[:, 0].numpy(), law.cdf).pvalue > 1e-3


def test_log_mass_far_in_the_tails() -> None:
    low = torch.tensor([-40.0, 5.0, 30.0, -1.0], dtype=torch.float64)
    high = torch.tensor([-38.0, 6.0, 31.0, 1.0], dtype=torch.float64)
    tail = stats.norm.logsf([5.0, 30.0]), stats.norm.logsf([6.0, 31.0])
    expected = tail[0] + np.log1p(-np.exp(tail[1] - tail[0]))
    got = truncated.log_mass(low, high).numpy()
    np.testing.assert_allclose(got[1:3], expected, rtol=1e-10)
    np.testing.assert_allclose(got[3], math.log(stats.norm.cdf(1.0) - stats.norm.cdf(-1.0)), rtol=1e-12)
    assert got[0] == pytest.approx(stats.norm.logcdf(-38.0), rel=1e-10)


def optimal_agent(env: ScalarLqr, discount_rate: float) -> QLearning:
    """q-learning with its parameters set to the exact solution."""
    best = env.solution()
    value = LinearInFeatures(lambda x: torch.cat([0.5 * x**2, x, torch.ones_like(x)], -1), 3, dtype=torch.float64)
    mean = LinearInFeatures(lambda x: torch.cat([x, torch.ones_like(x)], -1), 2, 1, dtype=torch.float64)
    q = QuadraticQ(mean, 1, env.config.temperature).double()
    agent = QLearning(value, q, QLearningConfig(discount_rate=discount_rate, decay=False)).double()
    with torch.no_grad():
        k0 = best.k0 if discount_rate else 0.0
        value.theta.copy_(torch.tensor([best.K.item(), best.k.item(), k0]))
        mean.theta.copy_(torch.tensor([[best.gain.item()], [best.offset.item()]]))
        q.log_scale.fill_(math.log(best.covariance.item() / env.config.temperature))
        agent.average_reward.fill_(0.0 if discount_rate else best.value_per_second)
    return agent


@pytest.mark.parametrize("config", [replace(ERGODIC, dt=1e-3), replace(LQ_B, dt=1e-3)])
def test_increments_vanish_on_average_at_the_optimum_under_any_behaviour(config: object) -> None:
    """The off-policy martingale theorem: E[test function x delta] = 0, up to O(dt), whoever acted."""
    env = ScalarLqr(config, dtype=torch.float64)  # type: ignore[arg-type]
    agent = optimal_agent(env, env.spec.discount_rate)
    behaviour = GaussianFeedback(lambda x: -0.5 * x + 0.2, 0.5, noise_dim=1)
    batch, _ = rollout_with_reset(env, behaviour, begin(env, 20_000, seed=3), 20)
    before = [p.detach().clone() for p in agent.parameters()]
    residual = agent.update(batch)
    change = [float(((p - b) / (0.01 * 1e-3)).abs().max()) for p, b in zip(agent.parameters(), before, strict=True)]
    per_second = float(residual["train/residual_mean"]) / env.spec.dt
    noise = float(residual["train/residual_sd"]) / env.spec.dt / math.sqrt(len(batch))
    assert abs(per_second) < 4.0 * noise + 5e-3
    assert max(change) < 1.0  # gradients per second at rate 1e-3; away from the optimum they are of order one and more


def test_q_learning_moves_towards_the_known_gain_off_policy() -> None:
    env = ScalarLqr(replace(ERGODIC, dt=0.1))
    value = LinearInFeatures(lambda x: torch.cat([0.5 * x**2, x], -1), 2)
    mean = LinearInFeatures(lambda x: torch.cat([x, torch.ones_like(x)], -1), 2, 1)
    rates = QLearningConfig(value_rate=0.5, q_rate=0.5, scale_rate=1.0, update_interval=0.1)
    agent = QLearning(value, QuadraticQ(mean, 1, 0.1), rates)
    behaviour = GaussianFeedback(torch.zeros_like, 1.0, noise_dim=1)
    batch, _ = rollout_with_reset(env, behaviour, begin(env, 2000, seed=0), 50)
    buffer = ReplayBuffer(len(batch))
    buffer.add(batch)
    agent.learn(ReplaySource(buffer, 4096, generator=torch.Generator().manual_seed(0)), 3000)
    assert mean.theta.detach().flatten().tolist() == pytest.approx([-0.354, -0.708], abs=0.05)


def test_the_rate_is_per_second() -> None:
    """Two updates on half the data and half the interval move as far as one on all of it, to first order."""
    env = ScalarLqr(replace(ERGODIC, dt=0.05))

    def trained(interval: float, steps: int, updates: int) -> float:
        value = LinearInFeatures(lambda x: torch.cat([0.5 * x**2, x], -1), 2)
        mean = LinearInFeatures(lambda x: torch.cat([x, torch.ones_like(x)], -1), 2, 1)
        agent = QLearning(value, QuadraticQ(mean, 1, 0.1), QLearningConfig(update_interval=interval, decay=False))
        agent.learn(RolloutSource(env, 512, steps, seed=1), updates)
        return float(mean.theta[1].detach())

    assert trained(0.1, 2, 20) == pytest.approx(trained(0.2, 4, 10), rel=0.05)


def test_bad_settings_are_refused() -> None:
    q = QuadraticQ(LinearInFeatures(squares, 2, 1), 1, 0.1)
    value = LinearInFeatures(squares, 2)
    for wrong in ({"q_rate": math.nan}, {"value_rate": -1.0}, {"discount_rate": -0.1}, {"gradient_clip": 0.0}):
        with pytest.raises(ConfigError):
            QLearning(value, q, QLearningConfig(**wrong))
    with pytest.raises(ConfigError, match="temperature"):
        QuadraticQ(LinearInFeatures(squares, 2, 1), 1, 0.0)


def test_trajectory_of_a_policy_agent_feeds_an_evaluator() -> None:
    env = ScalarLqr(LQ_B, dtype=torch.float64)
    best = env.solution()
    agent = Clstd(lambda x: best.gain.item() * x, squares, 2, ClstdConfig(discount_rate=0.5))
    source = PathSource(env, paths=4000, path_steps=200, seed=0)
    for _ in range(3):
        agent.update(source.next(agent))
    exact = env.value_of_policy(best.gain.item(), best.offset.item(), 1e-12)
    truth = exact.K.item() / 2
    assert float(agent.theta[0]) == pytest.approx(truth, rel=0.06)
    assert rollout(env, agent, begin(env, 2, seed=0), 3)[0].reward.shape == (3, 2)


class Quartic(nn.Module):
    """q(x, a) = -a^4 - gamma log of its integral, or without the last term; a = (gamma G)^(1/4), G of a Gamma law."""

    def __init__(self, temperature: float, shift: float) -> None:
        super().__init__()
        self.temperature, self.noise_dim = temperature, 1
        mass = 2.0 * math.gamma(1.25) * temperature**0.25  # int exp(-a^4 / gamma) da
        self.shift = nn.Parameter(torch.tensor(shift - temperature * math.log(mass)))

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        return self.shift - (action**4).sum(-1)

    def act(self, obs: Tensor, noise: Tensor | None) -> Tensor:
        uniform = torch.special.ndtr(torch.zeros_like(obs) if noise is None else noise)
        drawn = stats.gamma(0.25).ppf((2.0 * uniform - 1.0).abs().numpy()) * self.temperature
        return torch.sign(uniform - 0.5) * torch.as_tensor(drawn, dtype=obs.dtype) ** 0.25


def test_a_q_that_breaks_the_constraint_is_refused() -> None:
    env = ScalarLqr(replace(ERGODIC, dt=0.1), dtype=torch.float64)
    for shift in (0.0, 0.2):
        value = LinearInFeatures(lambda x: torch.cat([0.5 * x**2, x], -1), 2, dtype=torch.float64)
        agent = QLearning(value, Quartic(0.3, shift).double(), QLearningConfig())  # type: ignore[arg-type]
        source = RolloutSource(env, 64, 2, seed=0)
        if not shift:
            agent.learn(source, 2)
            continue
        with pytest.raises(NumericsError, match=r"iteration 1 of 2.*int exp\(q\(x, a\) / gamma\) da = 1, got 1\.9"):
            agent.learn(source, 2)


def test_a_gradient_method_that_diverges_says_when_and_what_to_change() -> None:
    batch = balanced_steps(0.1, exponent=8)

    def value() -> LinearInFeatures:
        return LinearInFeatures(squares, 2, dtype=torch.float64)

    class Same(Source[Trajectory]):
        def next(self, policy: object) -> Trajectory:
            return batch

    for agent in (
        Ctd(torch.zeros_like, value(), CtdConfig(learning_rate=1e4, decay=False)),
        CtdOnline(torch.zeros_like, value(), CtdConfig(learning_rate=1e4, decay=False), trace_decay=0.0),
        GradientTd(torch.zeros_like, value(), GradientTdConfig(0.5, 1e4, 1e4)),
        Mstde(torch.zeros_like, value(), MstdeConfig(0.5, 1e4)),
        MartingaleLoss(torch.zeros_like, value(), MartingaleLossConfig(0.5, 1e4)),
    ):
        with pytest.raises(NumericsError, match=r"iteration \d+ of 500, phase 'learn': .* diverged.*got .*lower"):
            agent.learn(Same(), 500)


def test_rows_without_time_and_states_without_bound_are_named() -> None:
    def learner(rate: float = 1e-9) -> QLearning:
        value = LinearInFeatures(lambda x: torch.cat([0.5 * x**2, x], -1), 2)
        mean = LinearInFeatures(lambda x: torch.cat([x, torch.ones_like(x)], -1), 2, 1)
        return QLearning(value, QuadraticQ(mean, 1, 0.1), QLearningConfig(0.0, rate, rate, rate, 0.1))

    env = ScalarLqr(replace(ERGODIC, dt=0.1))
    rows = RolloutSource(env, 8, 3, seed=0).next(learner())
    repeated = rows.dt.clone()
    repeated[1, 2] = 0.0
    with pytest.raises(NumericsError, match=r"every row needs dt > 0, got 0 s at index \[1, 2\]"):
        learner().update(rows.replace(dt=repeated))
    unstable = ScalarLqr(replace(ERGODIC, A=4.0, B=1.0, D=0.0, sigma=1.0, dt=0.1))
    with pytest.raises(NumericsError, match=r"iteration \d+ of 2000.*the policy does not stabilise the problem"):
        learner().learn(RolloutSource(unstable, 8, 1, seed=0), 2000)
