"""Actor-critic and big-Q SARSA against closed forms: exact gradients, invariance in dt, ends that explain."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from torch import Tensor

from rlcore.agents.martingale import ActorCritic, ActorCriticConfig, BigQSarsa, QuadraticBigQ
from rlcore.data import Transitions
from rlcore.envs.control.lqr import ERGODIC, LQ_B, ScalarLqr, ScalarLqrConfig
from rlcore.errors import ConfigError, NumericsError
from rlcore.experiments import ergodic_lq
from rlcore.experiments.acceptance.martingale.control import (
    difference_quotient,
    occupation,
    performance_difference,
    policy_gradient,
)
from rlcore.experiments.ergodic_lqr import action_features, value_features
from rlcore.nn.gaussian import Gaussian
from rlcore.nn.mlp import LinearInFeatures
from rlcore.simulation import EnvState, begin, rollout, rollout_with_reset
from rlcore.training.recorder import RunFolder

TAGS = (*ergodic_lq.PARAMETERS, "average_reward", "gap")
LAW = (-0.6, -0.1, 0.2)
STATES = torch.tensor([-1.0, 0.5, 2.0], dtype=torch.float64)


def float64(values: list[Any]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def with_constant(x: Tensor) -> Tensor:  # [..., 1] -> [..., 3]
    return torch.cat([0.5 * x**2, x, torch.ones_like(x)], dim=-1)


def exact_agent(env: ScalarLqr, law: tuple[float, float, float], **settings: object) -> ActorCritic:
    """An actor-critic whose critic is the exact value of its own policy."""
    truth, beta = env.value_of_policy(*law), env.config.discount_rate
    value = LinearInFeatures(with_constant, 3, dtype=torch.float64)
    mean = LinearInFeatures(action_features, 2, 1, dtype=torch.float64)
    policy = Gaussian(mean, 1).double()
    config = ActorCriticConfig(discount_rate=beta, temperature=env.config.temperature, decay=False, **settings)  # type: ignore[arg-type]
    agent = ActorCritic(value, policy, config).double()
    with torch.no_grad():
        value.theta.copy_(float64([truth.K.item(), truth.k.item(), truth.k0]))
        mean.theta.copy_(float64([[law[0]], [law[1]]]))
        policy.log_variance.fill_(math.log(law[2]))
        agent.average_reward.fill_(0.0 if beta else truth.value_per_second)
    return agent


def test_density_and_entropy_are_those_of_the_normal_law() -> None:
    policy = Gaussian(torch.nn.Identity(), 2, log_variance=-0.7)
    x, a = torch.tensor([[0.3, -1.0]]), torch.tensor([[0.5, 0.2]])
    law = torch.distributions.Normal(x, math.exp(-0.35))
    assert float(policy.log_prob(x, a).detach()) == pytest.approx(float(law.log_prob(a).sum()), abs=1e-6)
    assert float(policy.entropy().detach()) == pytest.approx(float(law.entropy().sum()), abs=1e-6)
    assert torch.equal(policy.act(x, None), x)


def test_occupation_moments_solve_the_moment_equations() -> None:
    """dX = -.5 X dt from x0 without noise: the integrals are known."""
    env = ScalarLqr(ScalarLqrConfig(A=-0.5, B=0.0, C=0.0, D=0.0, discount_rate=0.7))
    assert occupation(env, (0.0, 0.0, 1.0), 0.8).tolist() == pytest.approx([1 / 0.7, 0.8 / 1.2, 0.64 / 1.7])


def test_policy_gradient_formula_is_the_derivative_of_the_value() -> None:
    env = ScalarLqr(ScalarLqrConfig())
    formula = policy_gradient(env, LAW, 0.8)
    assert formula == pytest.approx((-0.12844279, -0.08838558), abs=1e-8)
    assert formula == pytest.approx(tuple(difference_quotient(env, LAW, 0.8, c) for c in (0, 2)), abs=1e-8)


def test_performance_difference_identity() -> None:
    direct, integral = performance_difference(ScalarLqr(ScalarLqrConfig()), LAW, (-0.9, -0.3, 0.15), 0.8)
    assert direct == pytest.approx(0.03342280814535, abs=1e-11)
    assert integral == pytest.approx(direct, abs=1e-11)


@pytest.mark.parametrize("entropy", ["analytic", "sampled"])
def test_the_actor_climbs_the_policy_gradient(entropy: str) -> None:
    """What the agent climbs, weighted by exp(-beta t) along sampled paths, has the exact gradient on average."""
    env = ScalarLqr(ScalarLqrConfig(dt=0.02, x0=0.8, initial_sd=0.0, horizon=10.0), dtype=torch.float64)
    agent = exact_agent(env, LAW, entropy=entropy)
    paths, steps = 8000, 400
    trajectory, _ = rollout(env, agent, begin(env, paths, seed=0), steps)
    batch = trajectory.transitions(0.0)
    climbed = agent.residual(batch)[1]  # [K, B]
    weighted = torch.exp(-0.7 * trajectory.t[:-1]).unsqueeze(1) * climbed
    mean, spread = agent.policy.mean.theta, agent.policy.log_variance  # type: ignore[union-attr]
    gain, logarithm = torch.autograd.grad(weighted.sum() / paths, (mean, spread))
    exact = policy_gradient(env, LAW, 0.8)
    assert float(gain[0, 0]) == pytest.approx(exact[0], abs=0.015)
    assert float(logarithm[0]) / LAW[2] == pytest.approx(exact[1], abs=0.02)


@pytest.mark.parametrize("config", [replace(ERGODIC, dt=1e-3), replace(LQ_B, dt=1e-3)])
def test_nothing_moves_on_average_at_the_optimum(config: ScalarLqrConfig) -> None:
    env = ScalarLqr(config, dtype=torch.float64)
    best = env.solution()
    law = (best.gain.item(), best.offset.item(), best.covariance.item())
    agent = exact_agent(env, law)
    batch, _ = rollout_with_reset(env, agent, begin(env, 20_000, seed=1), 20)
    value, climbed, delta = agent.residual(batch)
    seconds = batch.dt.sum()
    slopes = torch.autograd.grad((value * delta).sum() / seconds, list(agent.value.parameters()))
    slopes += torch.autograd.grad(climbed.sum() / seconds, list(agent.policy.parameters()))
    score = 1.0 / math.sqrt(best.covariance.item())  # its standard deviation
    noise = float(delta.std()) / env.spec.dt / math.sqrt(len(batch)) * score
    assert max(float(s.abs().max()) for s in slopes) < 5.0 * noise + 5e-3


def test_the_ergodic_problem_is_learned_whatever_dt() -> None:
    """Equal physical time: actor-critic and q-learning earn the same at dt 1 and .1, big-Q SARSA falls with dt."""

    def earned(name: str, dt: float) -> float:
        config = ergodic_lq.Config(
            dt=dt, fine_step=0.1, paths=500, seconds=40.0, rate=0.2, scale_factor=1.0, decay=False
        )
        return ergodic_lq.train(name, replace(config, evaluations=1), seed=0)["eval/average_reward"]

    assert earned("actor-critic", 0.1) == pytest.approx(earned("actor-critic", 1.0), abs=0.05)
    assert earned("q-learning", 0.1) == pytest.approx(earned("q-learning", 1.0), abs=0.05)
    assert earned("big-Q SARSA", 0.1) < earned("big-Q SARSA", 1.0) - 0.8


def test_big_q_increments_have_mean_zero_at_its_fixed_point() -> None:
    """One Euler step of the ergodic problem: matching the powers of x and a in E[delta | x, a] = 0 gives Q exactly.

    With c = (2 - k2) dt the mean is -(x + 2) / (2 - k2), k2 (dt - 2) + 1 / (2 - k2) = 2 and k1 = 2 / (2 - k2) - 1.
    """
    dt, gamma = 0.1, ERGODIC.temperature
    k2 = float(brentq(lambda k: k * (dt - 2.0) + 1.0 / (2.0 - k) - 2.0, -3.0, 0.0, xtol=1e-14))
    G = 2.0 - k2
    value = LinearInFeatures(value_features, 2, dtype=torch.float64)
    mean = LinearInFeatures(action_features, 2, 1, dtype=torch.float64)
    q = QuadraticBigQ(mean, value, 1, gamma, dt).double()
    agent = BigQSarsa(q).double()
    with torch.no_grad():
        value.theta.copy_(float64([k2, 2.0 / G - 1.0]))
        mean.theta.copy_(float64([[-1.0 / G], [-2.0 / G]]))
        q.log_scale.fill_(-math.log(G * dt))
        agent.average_reward.fill_(2.0 / G + 0.5 * gamma * math.log(2.0 * math.pi * gamma / G))
    node, mass = np.polynomial.hermite_e.hermegauss(4)
    x, a, z = (g.reshape(-1, 1) for g in torch.meshgrid(STATES, STATES, torch.as_tensor(node), indexing="ij"))
    env = ScalarLqr(replace(ERGODIC, dt=dt), dtype=torch.float64)
    after, reward = env.transition(EnvState(torch.zeros(len(x), dtype=torch.float64), x), a, z)
    step = torch.full_like(reward, dt)
    delta = agent.residual(Transitions(x, a, reward, torch.ones_like(step), after.x, step))[1]
    expected = delta.reshape(-1, len(node)) @ torch.as_tensor(mass / mass.sum())
    assert float(expected.abs().max()) < 1e-12


def test_the_whole_experiment_draws_its_figure(tmp_path: Path) -> None:
    config = ergodic_lq.Config(dt=0.1, paths=20, seconds=4.0, evaluations=4)
    with RunFolder(tmp_path / "run", {}, silent=True) as recorder:
        found = ergodic_lq.run(config, 0, recorder)
    assert found["eval/gap/q-learning"] > 0.0
    assert set(found) == {f"eval/{tag}/{name}" for name in ergodic_lq.AGENTS for tag in TAGS}
    assert (tmp_path / "run" / "figures" / "ergodic_lq.png").stat().st_size > 10_000
    assert (tmp_path / "run" / "figures" / "ergodic_lq-1.csv").read_text().startswith("label,")


def test_divergence_says_what_to_change() -> None:
    config = ergodic_lq.Config(dt=0.1, paths=4, seconds=400.0, rate=200.0, decay=False)
    for name in ergodic_lq.AGENTS:
        with pytest.raises(NumericsError, match=r"diverged after .* s per path.*lower the rates"):
            ergodic_lq.train(name, config, seed=0)


def test_bad_settings_are_refused() -> None:
    value, mean = LinearInFeatures(with_constant, 3), LinearInFeatures(action_features, 2, 1)
    for wrong in ({"policy_rate": 0.0}, {"temperature": -1.0}, {"entropy": "none"}, {"gradient_clip": math.nan}):
        with pytest.raises(ConfigError):
            ActorCritic(value, Gaussian(mean, 1), ActorCriticConfig(**wrong))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="dt"):
        QuadraticBigQ(mean, value, 1, 0.1, 0.0)
    with pytest.raises(ConfigError, match="agents"):
        ergodic_lq.make_agent("sarsa", ergodic_lq.Config(), 0.1)
