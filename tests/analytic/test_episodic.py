"""Episodic actor-critic and q-learning against the closed forms of mean-variance investment."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from rlcore.agents.martingale import EpisodicActorCritic, EpisodicConfig, EpisodicQLearning
from rlcore.agents.martingale.episodic import row_gradients, scores, weights
from rlcore.agents.martingale.mean_variance_forms import Multiplier, WealthPolicy, WealthValue, precision
from rlcore.data import Trajectory
from rlcore.envs.finance import MeanVariance, MeanVarianceConfig
from rlcore.errors import ConfigError, NumericsError, RlcoreError
from rlcore.experiments import mean_variance as experiment
from rlcore.experiments.mean_variance_history import HistorySource
from rlcore.functional.martingale import reward_to_go
from rlcore.nn.mlp import LinearInFeatures, Mlp, Scalar
from rlcore.simulation import GaussianFeedback, begin, rollout

GAMMA = 0.1
ENV = MeanVariance(MeanVarianceConfig(temperature=GAMMA), dtype=torch.float64)
RHO, SIGMA, STEPS = ENV.config.sharpe_rate, ENV.config.volatility, 252


def forms(theta: list[float] | None = None, phi: list[float] | None = None) -> tuple[WealthValue, WealthPolicy]:
    """Value and policy at given parameters; by default at the optimum."""
    multiplier = Multiplier(1.4, ENV.multiplier)
    value, policy = WealthValue(multiplier), WealthPolicy(multiplier)
    entropy = 0.5 * GAMMA * (RHO**2 - math.log(SIGMA**2 / (math.pi * GAMMA)))
    best_phi = [RHO / SIGMA, math.log(0.5 * GAMMA / SIGMA**2), RHO**2]
    with torch.no_grad():
        value.theta.copy_(torch.tensor(theta or [entropy, -0.25 * GAMMA * RHO**2, RHO**2]))
        policy.phi.copy_(torch.tensor(phi or best_phi))
    return value, policy


def paths(policy: Any, count: int, seed: int) -> Trajectory:
    """Daily paths of a year under an agent or another policy."""
    return rollout(ENV, policy, begin(ENV, count, seed=seed), STEPS)[0]


def last_day(policy: WealthPolicy, x: float) -> Trajectory:
    """The last day from wealth x on 36 paths whose moments in action and shock are exact up to the fifth degree."""
    levels = math.sqrt(3.0) * torch.tensor([-1.0, 0.0, 0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    nodes = levels[torch.tensor(list(itertools.product(range(6), repeat=2)))]  # [36, 2]
    h, drift = ENV.config.dt, RHO * SIGMA
    before = torch.tensor([x, h], dtype=torch.float64).expand(36, 2)
    action = policy.act(before, nodes[:, :1]).detach()
    after = before[:, :1] + action * (drift * h + SIGMA * math.sqrt(h) * nodes[:, 1:])
    obs = torch.stack([before, torch.cat([after, torch.zeros_like(after)], dim=1)])
    ended = torch.ones(1, 36, dtype=torch.bool)
    time = torch.tensor([1.0 - h, 1.0], dtype=torch.float64)
    batch = Trajectory(time, obs, action.unsqueeze(0), torch.zeros(1, 36).double(), time.diff(), ended)
    return policy.multiplier.rewarded(batch)


def test_the_forms_hold_the_known_value() -> None:
    value, policy = forms()
    time, x = torch.linspace(0.0, 1.0, 7, dtype=torch.float64), torch.linspace(0.5, 2.0, 7, dtype=torch.float64)
    obs = torch.stack([x, 1.0 - time], dim=1)
    torch.testing.assert_close(value(obs).detach(), ENV.optimal_value(time, x))
    torch.testing.assert_close(policy.act(obs, None).detach(), ENV.optimal_policy().act(obs))
    assert float(policy.log_variance(obs)[0].detach().exp()) == pytest.approx(ENV.exploratory_variance(0.0))


@pytest.mark.parametrize("entropy", ["analytic", "sampled"])
def test_policy_gradient_of_the_last_day_is_exact(entropy: Literal["analytic", "sampled"]) -> None:
    value, policy = forms([0.3, -0.2, 1.0], [2.0, 0.5, 0.7])
    agent = EpisodicActorCritic(value, policy, EpisodicConfig(temperature=GAMMA), entropy=entropy)
    batch = last_day(policy, 1.1)
    _, actor = agent.objectives(batch, agent.residual(batch))
    found = torch.autograd.grad(actor, [policy.phi])[0]
    h, y = ENV.config.dt, 1.1 - ENV.multiplier
    mean, variance = -policy.phi[0] * y, torch.exp(policy.phi[1] + policy.phi[2] * h)
    spread = (mean**2 + variance) * ((RHO * SIGMA * h) ** 2 + SIGMA**2 * h)
    expected_reward = -(y**2 + 2.0 * y * mean * RHO * SIGMA * h + spread)
    gain = expected_reward + 0.5 * GAMMA * h * torch.log(variance)
    torch.testing.assert_close(found, torch.autograd.grad(gain, [policy.phi])[0], rtol=1e-10, atol=1e-12)


def test_q_learning_on_its_own_policy_is_the_actor_critic_with_sampled_entropy() -> None:
    value, policy = forms([0.3, -0.2, 1.0], [2.0, 0.5, 0.7])
    config = EpisodicConfig(temperature=GAMMA)
    actor, learner = (
        EpisodicActorCritic(value, policy, config, entropy="sampled"),
        EpisodicQLearning(value, policy, config),
    )
    batch = policy.multiplier.rewarded(paths(actor, 16, seed=1))
    delta = actor.residual(batch)
    torch.testing.assert_close(learner.residual(batch), delta)
    climbed = torch.autograd.grad(actor.objectives(batch, delta)[1], [policy.phi])[0]
    torch.testing.assert_close(torch.autograd.grad(learner.objectives(batch)[2], [policy.phi])[0], GAMMA * climbed)


def deviations(terms: Tensor) -> Tensor:  # [B, p] -> [p]
    """Distance of the mean over paths from 0, in standard errors."""
    return (terms.mean(0) / (terms.std(0) / math.sqrt(len(terms)))).abs()


@pytest.mark.parametrize("behaviour", ["own", "foreign"])
def test_at_the_optimum_the_expected_steps_vanish(behaviour: str) -> None:
    value, policy = forms()
    agent = EpisodicQLearning(value, policy, EpisodicConfig(temperature=GAMMA), weight=precision(value, policy))
    foreign = GaussianFeedback(lambda obs: torch.full_like(obs[:, :1], 2.0), 1.0, 1)
    batch = policy.multiplier.rewarded(paths(agent if behaviour == "own" else foreign, 2000, seed=2))
    eta = weights(agent.weight, batch)
    weighted = (agent.residual(batch) * eta).unsqueeze(-1)
    tests = row_gradients(value, batch.obs[:-1]), scores(policy, batch)
    for test in tests:
        assert float(deviations((test * weighted).sum(0)).max()) < 4.0
    with torch.no_grad():
        policy.phi[0] -= 3.0  # away from it they do not
    wrong = agent.residual(batch) * eta
    assert float(deviations((scores(policy, batch) * wrong.unsqueeze(-1)).sum(0))[0]) > 6.0


def test_plain_steps_are_the_sums_of_the_paper() -> None:
    value, policy = forms([0.3, -0.2, 1.0], [2.0, 0.5, 0.7])
    config = EpisodicConfig(0.3, GAMMA, value_rate=0.02, policy_rate=0.01, decay=0.0)
    agent = EpisodicActorCritic(value, policy, config, entropy="sampled", score_memory=0.5)
    batch = policy.multiplier.rewarded(paths(agent, 4, seed=3))
    delta, dt = agent.residual(batch), ENV.config.dt
    xi, score = row_gradients(value, batch.obs[:-1]), scores(policy, batch)
    zeta, theta, phi = torch.zeros(4, 3).double(), torch.zeros(4, 3).double(), torch.zeros(4, 3).double()
    for k in range(STEPS):
        discounted = math.exp(-0.3 * k * dt) * delta[k].unsqueeze(1)
        theta, phi = theta + xi[k] * delta[k].unsqueeze(1), phi + (score[k] + zeta) * discounted
        zeta = 0.5**dt * (zeta + score[k] * dt)
    expected = value.theta.detach() + 0.02 * theta.mean(0), policy.phi.detach() + 0.01 * phi.mean(0)
    agent.update(batch)
    torch.testing.assert_close(value.theta.detach(), expected[0])
    torch.testing.assert_close(policy.phi.detach(), expected[1])


def coarse(obs: Tensor) -> Tensor:  # [..., 2] -> [..., 3]
    """(1, tau, x), which do not span the value."""
    return torch.cat([torch.ones_like(obs[..., :1]), obs[..., 1:], obs[..., :1]], dim=-1)


def test_martingale_loss_gives_the_best_approximation_in_mean_square() -> None:
    value, (_, policy) = LinearInFeatures(coarse, 3, dtype=torch.float64), forms()
    config = EpisodicConfig(0.0, GAMMA, value_rate=1.0, policy_rate=0.0, decay=0.0, natural=True)
    agent = EpisodicQLearning(value, policy, config, form="martingale loss")
    gaps = []
    for seed in range(12):
        batch = policy.multiplier.rewarded(paths(agent, 400, seed=seed))
        agent.update(batch)  # one step of Gauss and Newton solves the linear problem
        rows, time = coarse(batch.obs[:-1]).flatten(0, 1), batch.t[:-1, None].expand(-1, 400)
        q = reward_to_go(agent.q(batch.obs[:-1], batch.action) * ENV.config.dt, batch.dt, ~batch.alive, 0.0)
        sampled = torch.linalg.lstsq(rows, (batch.reward.sum(0) - q.detach()).reshape(-1, 1)).solution[:, 0]
        torch.testing.assert_close(value.theta.detach(), sampled, rtol=1e-6, atol=1e-6)
        truth = ENV.optimal_value(time, batch.obs[:-1, :, 0]).reshape(-1, 1)
        gaps.append(value.theta.detach() - torch.linalg.lstsq(rows, truth).solution[:, 0])
    assert float(deviations(torch.stack(gaps)).max()) < 4.0


def test_a_network_learns_the_known_value_by_plain_steps() -> None:
    network = Mlp(2, [32], 1, generator=torch.Generator().manual_seed(0)).double()
    value, (_, policy) = Scalar(network), forms()
    config = EpisodicConfig(0.0, GAMMA, value_rate=0.01, policy_rate=0.0, decay=0.3)
    agent = EpisodicQLearning(value, policy, config, torch.optim.Adam, form="martingale loss")
    left, x = torch.meshgrid(torch.linspace(0.1, 0.9, 9), torch.linspace(1.0, 1.6, 7), indexing="ij")
    grid = torch.stack([x, left], dim=-1).double()  # where most paths are
    truth = ENV.optimal_value(1.0 - grid[..., 1], grid[..., 0])

    def error() -> float:
        with torch.no_grad():
            return float((value(grid) - truth).square().mean().sqrt())

    before = error()
    for seed in range(30):
        agent.update(policy.multiplier.rewarded(paths(agent, 128, seed=seed)))
    assert error() < 0.3 * before


@pytest.mark.parametrize("agent", experiment.AGENTS)
def test_learning_reaches_the_optimum(agent: str) -> None:
    cell = next(c for c in experiment.CELLS if c.name == "0.3_0.2")
    config = replace(experiment.PRESETS["quick"], agent=agent, paths=128, iterations=40, evaluations=1)
    env = experiment.make_env(cell, config)
    found = experiment.learned_moments(env, *experiment.train(cell, config, seed=0))
    assert found.sharpe > 0.93 * env.rebalanced_sharpe_ratio()
    assert found.mean == pytest.approx(1.4, abs=0.1)


def test_martingale_loss_improves_the_policy() -> None:
    value, policy = forms([0.1, 0.1, 0.1], [1.0, 0.1, 0.1])
    config = EpisodicConfig(0.0, GAMMA, value_rate=0.4, policy_rate=0.1, natural=True)
    agent = EpisodicQLearning(value, policy, config, form="martingale loss")
    start = experiment.linear_moments(ENV, 1.0, ENV.multiplier).sharpe
    for seed in range(20):
        agent.update(policy.multiplier.rewarded(paths(agent, 256, seed=seed)))
    assert experiment.linear_moments(ENV, float(policy.phi[0].detach()), ENV.multiplier).sharpe > start + 0.3


def test_moments_of_a_linear_policy() -> None:
    mean, second = ENV.rebalanced_moments()
    found = experiment.linear_moments(ENV, RHO / SIGMA, ENV.multiplier)
    assert found.mean == pytest.approx(mean)
    assert found.variance == pytest.approx(second - (mean - ENV.multiplier) ** 2)
    assert found.sharpe == pytest.approx(ENV.rebalanced_sharpe_ratio())
    sampled = experiment.simulated_moments(ENV, lambda obs: -7.0 * (obs[:, :1] - ENV.multiplier), 10_000, seed=4)
    assert sampled.mean == pytest.approx(mean, abs=4.0 * math.sqrt(found.variance / 10_000))


def test_multiplier_rewards_as_the_environment_does_and_finds_its_optimum() -> None:
    multiplier = Multiplier(1.4, ENV.multiplier)
    batch = paths(ENV.optimal_policy(), 512, seed=5)
    torch.testing.assert_close(multiplier.rewarded(batch).reward, batch.reward)
    multiplier.value.fill_(1.8)
    policy = WealthPolicy(multiplier)
    with torch.no_grad():
        policy.phi[0] = RHO / SIGMA
    agent = EpisodicActorCritic(WealthValue(multiplier), policy)
    for seed in range(40):
        multiplier.update(paths(agent, 128, seed=seed))
    assert float(multiplier.value) == pytest.approx(ENV.multiplier, abs=0.1)


def test_history_is_replayed_and_resumed() -> None:
    agent = EpisodicActorCritic(*forms())
    source = HistorySource(ENV, 64, 3, seed=7)
    source.next(agent)
    state = source.state_dict()
    batch, other = source.next(agent), HistorySource(ENV, 64, 3, seed=7)
    other.load_state_dict(state)
    torch.testing.assert_close(other.next(agent).obs, batch.obs, rtol=0.0, atol=0.0)
    assert (source.steps, source.simulated) == (2 * 64 * STEPS, 128.0)
    returns = (batch.obs[1:, :, 0] - batch.obs[:-1, :, 0]) / batch.action[:, :, 0]
    assert float((returns[:, :1].unsqueeze(0) - source.returns[:, None, None]).abs().amin(0).max()) < 1e-9
    torch.testing.assert_close(batch.reward, Multiplier(1.4, ENV.multiplier).rewarded(batch).reward)
    with pytest.raises(ConfigError, match="years"):
        HistorySource(ENV, 64, 0, seed=7)


def test_bad_input_is_refused() -> None:
    value, policy = forms()
    with pytest.raises(ConfigError, match="temperature"):
        EpisodicConfig(temperature=0.0)
    with pytest.raises(ConfigError, match="gradient_clip"):
        EpisodicConfig(gradient_clip=-1.0)
    with pytest.raises(ConfigError, match="entropy"):
        EpisodicActorCritic(value, policy, entropy="guessed")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="score_memory"):
        EpisodicActorCritic(value, policy, score_memory=2.0)
    with pytest.raises(ConfigError, match="form"):
        EpisodicQLearning(value, policy, form="other")  # type: ignore[arg-type]
    with pytest.raises(RlcoreError, match="no agent"):
        experiment.make_agent(ENV, replace(experiment.PRESETS["quick"], agent="PPO"))
    agent = EpisodicActorCritic(value, policy)
    batch = policy.multiplier.rewarded(paths(agent, 2, seed=6))
    with pytest.raises(NumericsError, match="diverged in update 1"):
        agent.update(batch.replace(reward=batch.reward + math.nan))
