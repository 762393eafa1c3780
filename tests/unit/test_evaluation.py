from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from rlcore.errors import ConfigError
from rlcore.reporting.evaluation import evaluate
from rlcore.simulation import ControlSpec, Environment, EnvState, Feedback, GaussianFeedback


class Drift(Environment):
    """x' = x + u dt + sqrt(dt) z, reward (1 + x) dt; ends by itself at `end` seconds with a bonus."""

    def __init__(self, *, horizon: float = 1.0, rate: float = 0.0, end: float = math.inf, noise: float = 1.0) -> None:
        super().__init__(ControlSpec("test/Drift-v0", 1, 1, 1, 0.1, horizon, rate), dtype=torch.float64)
        self.end, self.noise = end, noise

    def initial_state(self, noise: Tensor) -> EnvState:
        return EnvState(torch.zeros(len(noise), dtype=torch.float64), torch.zeros_like(noise))

    def transition(self, state: EnvState, action: Tensor, noise: Tensor) -> tuple[EnvState, Tensor]:
        dt = self.spec.dt
        after = state.x + dt * action + math.sqrt(dt) * self.noise * noise
        return EnvState(state.t + dt, after), dt * (1.0 + state.x[:, 0])

    def terminated(self, state: EnvState) -> Tensor:
        return state.t > self.end - 0.5 * self.spec.dt

    def terminal_reward(self, state: EnvState) -> Tensor:
        return torch.full_like(state.x[:, 0], 7.0)


STILL = Feedback(torch.zeros_like)


def test_return_is_discounted_in_physical_time() -> None:
    found = evaluate(STILL, Drift(rate=0.5, noise=0.0), paths=3)
    expected = (1.0 - math.exp(-0.5)) / 0.5  # a constant rate of 1 per second over 1 s
    assert np.allclose(found.returns, expected, rtol=1e-12)
    assert np.allclose(found.totals, 1.0)
    assert np.allclose(found.average_reward, 1.0)
    assert found.seconds == pytest.approx(1.0)
    assert found.mean == pytest.approx(expected)
    assert found.interval.low == pytest.approx(found.interval.high) == pytest.approx(expected)


def test_burn_in_is_left_out() -> None:
    ramp = Feedback(torch.ones_like)  # x = t
    found = evaluate(ramp, Drift(horizon=math.inf, rate=0.5, noise=0.0), paths=2, steps=10, burn_in=2.0)
    expected = [0.1 * (1.0 + 2.0 + 0.1 * k) for k in range(10)]
    assert np.allclose(found.totals, sum(expected))
    assert np.allclose(
        found.returns, sum((1.0 - math.exp(-0.05)) / 0.05 * math.exp(-0.05 * k) * r for k, r in enumerate(expected))
    )
    assert found.mean_average_reward == pytest.approx(sum(expected))


@pytest.mark.parametrize("burn_in", [0.0, 0.2])
def test_chunks_do_not_change_anything(monkeypatch: pytest.MonkeyPatch, burn_in: float) -> None:
    env = Drift(rate=0.3, end=0.7)
    whole = evaluate(STILL, env, paths=5, burn_in=burn_in)
    monkeypatch.setattr("rlcore.reporting.evaluation.CHUNK_NUMBERS", 5 * 4 * 3)  # three steps
    pieces = evaluate(STILL, env, paths=5, burn_in=burn_in)
    assert np.allclose(whole.returns, pieces.returns, rtol=1e-12)
    assert np.allclose(whole.average_reward, pieces.average_reward, rtol=1e-12)


def test_a_path_that_ends_early_is_averaged_over_its_life() -> None:
    found = evaluate(STILL, Drift(end=0.5, noise=0.0), paths=2)
    assert np.allclose(found.totals, 0.5 + 7.0)
    assert np.allclose(found.average_reward, 7.5 / 0.5)


def test_same_seed_means_the_same_noise_for_every_policy() -> None:
    env = Drift()
    push = Feedback(torch.ones_like)
    gains = evaluate(push, env, paths=8).totals - evaluate(STILL, env, paths=8).totals
    assert np.allclose(gains, sum(0.1 * 0.1 * k for k in range(10)))  # the noise cancels path by path
    assert not np.allclose(evaluate(STILL, env, paths=8, seed=1).totals, evaluate(STILL, env, paths=8).totals)
    assert np.array_equal(evaluate(STILL, env, paths=3).totals, evaluate(STILL, env, paths=8).totals[:3])


def test_sampled_actions_on_request() -> None:
    policy = GaussianFeedback(torch.zeros_like, 1.0, 1)
    env = Drift(noise=0.0)
    assert np.ptp(evaluate(policy, env, paths=8).totals) == 0.0
    assert np.ptp(evaluate(policy, env, paths=8, deterministic=False).totals) > 0.0


def test_bad_input() -> None:
    with pytest.raises(ConfigError, match="infinite horizon"):
        evaluate(STILL, Drift(horizon=math.inf))
    with pytest.raises(ConfigError, match="at least 1 step"):
        evaluate(STILL, Drift(), burn_in=1.0)
    with pytest.raises(ConfigError, match="burn_in"):
        evaluate(STILL, Drift(), burn_in=math.nan)
    with pytest.raises(ConfigError, match="path"):
        evaluate(STILL, Drift(), paths=0)
