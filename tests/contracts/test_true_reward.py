"""A true reward beside the proxy, through Gymnasium and back."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rlcore.agents.orpo import PpoConfig, RatioConfig, RegularizerConfig, orpo
from rlcore.errors import ConfigError, DataError
from rlcore.interop.gym_source import GymPathSource, GymSource
from rlcore.interop.true_reward import WithTrueReward
from rlcore.simulation import Feedback
from rlcore.simulation.environment import ControlSpec

STILL = Feedback(lambda obs: torch.zeros(len(obs), 1))


class Count(gymnasium.Env):
    """Counts its steps, pays 1 for each, and ends after three."""

    observation_space = Box(-np.inf, np.inf, (1,), np.float32)
    action_space = Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.full(1, self.steps, np.float32), 1.0, self.steps == 3, False, {"worth": 10.0 * self.steps}


def worth(obs, action, reward, info):
    return 10.0 * float(obs[0])


@pytest.mark.parametrize("source", ["worth", worth])
@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_every_row_has_the_true_reward_of_its_own_step(source, mode):
    envs = SyncVectorEnv([lambda: WithTrueReward(Count(), source)] * 2, autoreset_mode=mode)
    rows = GymSource(envs, dt=1.0, discount_rate=0.0, seed=0, steps_per_call=7, true_reward="true_reward").next(STILL)
    assert torch.equal(rows.extras["true_reward"], 10.0 * rows.next_obs[:, 0])
    assert bool(rows.extras["last"].any())
    assert (rows.reward == 1.0).all()


def test_a_missing_true_reward_is_one_line():
    env = WithTrueReward(Count(), "value")
    env.reset()
    with pytest.raises(DataError, match="'value'") as caught:
        env.step(np.zeros(1))
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="WithTrueReward"):
        GymSource(Count(), dt=1.0, discount_rate=0.0, seed=0, true_reward="true").next(STILL)


def cart():
    """The cart's pole as ever, its true reward less for a cart that is off the middle."""
    return WithTrueReward(gymnasium.make("CartPole-v1"), lambda obs, action, reward, info: reward - abs(float(obs[0])))


def test_orpo_trains_on_an_environment_of_gymnasium_from_end_to_end():
    def source(seed):
        envs = SyncVectorEnv([cart] * 4, autoreset_mode=AutoresetMode.SAME_STEP)
        settings = {"dt": 0.02, "discount_rate": 0.5, "steps_per_call": 60, "true_reward": "true_reward"}
        return GymPathSource(GymSource(envs, seed=seed, **settings))

    spec = ControlSpec("CartPole-v1", 4, 2, 0, dt=0.02, horizon=10.0, discount_rate=0.5, discrete=True)
    balance = Feedback(lambda obs: torch.stack([-obs[:, 2] - 0.3 * obs[:, 3], obs[:, 2] + 0.3 * obs[:, 3]], 1))
    base = source(1).next(balance).replace(reward=torch.randn(60, 4, generator=torch.Generator().manual_seed(0)))
    small = RegularizerConfig(r=0.9, ratio=RatioConfig(steps=2, rounds=1))
    agent = orpo(spec, base, small, PpoConfig(epochs=1, minibatch=60))
    rows = source(2)
    metrics = [agent.update(rows.next(agent)) for _ in range(2)][-1]
    assert metrics["hack/J_true"] <= metrics["hack/J_proxy"] + 1e-6
    assert all(bool(torch.isfinite(value).all()) for value in metrics.values())


@pytest.mark.parametrize("worthless", [None, float("nan"), "much"])
def test_a_true_reward_that_is_no_number_is_one_line(worthless):
    env = WithTrueReward(Count(), lambda obs, action, reward, info: worthless)
    env.reset()
    with pytest.raises(DataError, match="finite number") as caught:
        env.step(np.zeros(1))
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="info key, or a function"):
        WithTrueReward(Count(), 3)
