"""Exploration noise that is correlated in physical time, against its closed form."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from rlcore.envs.control.lqr import LQ_B, ScalarLqr
from rlcore.errors import ConfigError
from rlcore.simulation import GaussianFeedback, begin, rollout
from rlcore.simulation.correlated import NoiseFromState, WithCorrelatedNoise


@pytest.mark.parametrize("dt", [0.1, 0.01])
def test_noise_has_unit_variance_and_an_exponential_autocorrelation_at_any_dt(dt: float) -> None:
    env = WithCorrelatedNoise(ScalarLqr(replace(LQ_B, dt=dt)), width=1, correlation_time=0.2)
    policy = NoiseFromState(GaussianFeedback(torch.zeros_like, 0.5, noise_dim=1))
    path, _ = rollout(env, policy, begin(env, 20_000, seed=0), round(0.3 / dt))
    z = path.obs[..., -1]
    assert float(z[0].var()) == pytest.approx(1.0, abs=0.04)
    assert float(z[-1].var()) == pytest.approx(1.0, abs=0.04)
    assert float((z[0] * z[-1]).mean()) == pytest.approx(math.exp(-0.3 / 0.2), abs=0.03)
    assert torch.equal(path.action[..., 0], 0.5 * z[:-1])


def test_paths_do_not_depend_on_how_the_steps_are_split_over_calls() -> None:
    env = WithCorrelatedNoise(ScalarLqr(LQ_B, dtype=torch.float64), width=1, correlation_time=0.1)
    policy = NoiseFromState(GaussianFeedback(torch.zeros_like, 0.5, noise_dim=1))
    whole, _ = rollout(env, policy, begin(env, 5, seed=3), 12)
    first, stand = rollout(env, policy, begin(env, 5, seed=3), 7)
    rest, _ = rollout(env, policy, stand, 5)
    assert torch.equal(whole.obs, torch.cat([first.obs[:-1], rest.obs]))


def test_the_problem_itself_is_unchanged() -> None:
    """With an action that ignores z, the state moves as it does without the wrapper."""
    env = ScalarLqr(LQ_B, dtype=torch.float64)
    wrapped = WithCorrelatedNoise(env, width=1, correlation_time=0.1)
    state = env.initial_state(torch.ones(4, 1, dtype=torch.float64))
    with_z = wrapped.initial_state(torch.ones(4, 2, dtype=torch.float64))
    noise, action = torch.full((4, 1), 0.3, dtype=torch.float64), torch.full((4, 1), -0.2, dtype=torch.float64)
    after, reward = env.transition(state, action, noise)
    after_z, reward_z = wrapped.transition(with_z, action, torch.cat([noise, noise], dim=1))
    assert torch.equal(after.x, after_z.x[:, :1])
    assert torch.equal(reward, reward_z)
    assert torch.equal(wrapped.observe(after_z)[:, :1], env.observe(after))


@pytest.mark.parametrize("time", [0.0, -1.0, math.nan])
def test_a_correlation_time_must_be_positive(time: float) -> None:
    with pytest.raises(ConfigError, match="correlation_time"):
        WithCorrelatedNoise(ScalarLqr(LQ_B), width=1, correlation_time=time)
