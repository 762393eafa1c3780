"""A true reward beside the proxy, through Gymnasium and back."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rlcore.errors import DataError
from rlcore.interop.gym_source import GymSource
from rlcore.interop.true_reward import WithTrueReward
from rlcore.simulation import Feedback

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
