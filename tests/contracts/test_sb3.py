"""What `Sb3VecEnv` and `Sb3Policy` promise, on a toy and on every registered id."""

import warnings

import gymnasium
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

import rlcore.envs
from rlcore.envs import CATALOG
from rlcore.errors import ConfigError
from rlcore.interop.gymnasium import GymEnv
from rlcore.interop.sb3 import Sb3Policy, Sb3VecEnv
from rlcore.simulation import Feedback, Policy, begin, rollout, rollout_with_reset

IDS = sorted(CATALOG)


def check_quietly(env):
    """SB3's checker; it advises actions in [-1, 1], which we leave to the environment, and nothing else."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        check_env(env)
    assert not [str(w.message) for w in said if "symmetric and normalized Box action space" not in str(w.message)]


def test_checker_accepts_the_toy(toy):
    check_quietly(GymEnv(toy()))


@pytest.mark.parametrize("env_id", IDS)
def test_every_id_passes_the_checker(env_id):
    check_quietly(gymnasium.make(env_id).unwrapped)


@pytest.mark.parametrize("env_id", IDS)
def test_every_id_runs_in_the_vec_env(env_id):
    envs = Sb3VecEnv(rlcore.envs.make(env_id), 3)
    assert envs.reset().shape == (3, *envs.observation_space.shape)
    obs, reward, done, infos = envs.step(np.zeros((3, *envs.action_space.shape), dtype=envs.action_space.dtype))
    assert np.isfinite(obs).all()
    assert reward.shape == done.shape == (3,)
    assert len(infos) == 3


def test_rows_are_those_of_the_core_and_ends_are_reported(toy):
    env = toy(wall=0.7)
    batch, _ = rollout_with_reset(env, Feedback(lambda obs: -0.5 * obs), begin(env, 4, seed=9), 20)
    envs = Sb3VecEnv(env, 4, seed=9)
    obs, ends = envs.reset(), set()
    for k in range(20):
        assert_allclose(obs, batch.obs[k], rtol=1e-5, atol=1e-6)
        obs, reward, done, infos = envs.step(-0.5 * obs)
        assert_allclose(reward, batch.reward[k], rtol=1e-5, atol=1e-6)
        assert_array_equal(done, batch.extras["last"][k])
        for i in range(4):
            assert ("terminal_observation" in infos[i]) == ("TimeLimit.truncated" in infos[i]) == done[i]
            if done[i]:
                assert_allclose(infos[i]["terminal_observation"], batch.next_obs[k, i], rtol=1e-5, atol=1e-6)
                assert infos[i]["TimeLimit.truncated"] == bool(batch.discount[k, i] > 0)
                assert envs.reset_infos[i]["t"] == 0.0
                ends.add(infos[i]["TimeLimit.truncated"])
    assert ends == {True, False}


def test_arrays_and_infos_are_independent(toy):
    envs = Sb3VecEnv(toy(), 3)
    first = envs.reset()
    kept = first.copy()
    obs, reward, _, infos = envs.step(np.zeros((3, 2), dtype=np.float32))
    assert_array_equal(first, kept)
    infos[0]["mine"] = 1
    reward[:] = 0.0
    obs[:] = 99.0
    assert "mine" not in infos[1]
    assert (envs.step(np.zeros((3, 2), dtype=np.float32))[0] < 50).all()


def test_seeding(toy):
    envs = Sb3VecEnv(toy(), 3, seed=4)
    first, second = envs.reset(), envs.reset()
    assert not np.array_equal(first, second)
    envs.seed(4)
    assert_array_equal(envs.reset(), first)


def test_asking_the_copies(toy):
    envs = Sb3VecEnv(toy(), 3, render_mode="rgb_array")
    envs.reset()
    assert envs.get_attr("spec", indices=[0, 2])[1].dt == 0.1
    assert envs.env_is_wrapped(VecMonitor) == [False] * 3
    assert envs.render().shape[2] == 3
    with pytest.raises(ConfigError, match="cannot set"):
        envs.set_attr("wall", 2.0)


def test_monitor_and_normalize(toy):
    envs = VecNormalize(VecMonitor(Sb3VecEnv(toy(), 4)))
    envs.reset()
    for _ in range(5):
        obs, _, done, infos = envs.step(np.zeros((4, 2), dtype=np.float32))
    assert done.all()
    assert [info["episode"]["l"] for info in infos] == [5] * 4
    assert np.isfinite(obs).all()


def test_ppo_and_sac_learn_and_act_in_the_core(toy):
    env = toy()
    models = [
        PPO("MlpPolicy", VecNormalize(Sb3VecEnv(env, 8)), n_steps=16, batch_size=64, n_epochs=1, seed=0, device="cpu"),
        SAC("MlpPolicy", Sb3VecEnv(env, 8), learning_starts=64, train_freq=8, batch_size=32, seed=0, device="cpu"),
    ]
    for model in models:
        model.learn(400)
        policy = Sb3Policy(model)
        assert isinstance(policy, Policy)
        trajectory, _ = rollout(env, policy, begin(env, 6, seed=0), 5)
        assert trajectory.action.shape == (5, 6, 2)
        assert policy.act(torch.zeros(3, 2, dtype=torch.float64)).dtype == torch.float64
        mean, _ = evaluate_policy(model, VecMonitor(Sb3VecEnv(env, 4)), n_eval_episodes=4)
        assert np.isfinite(mean)


class TrueRewards(BaseCallback):
    """Keeps what the steps of a training were worth."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def _on_step(self):
        self.seen += [info["true_reward"] for info in self.locals["infos"]]
        return True


@pytest.mark.parametrize("name", ["Tomato", "Glucose", "Pandemic", "Traffic", "Market"])
def test_ppo_trains_on_the_proxy_of_what_can_be_hacked_and_sees_the_truth(name):
    env = rlcore.envs.make(f"rlcore/{name}-v0")
    watch = TrueRewards()
    model = PPO("MlpPolicy", Sb3VecEnv(env, 4), n_steps=16, batch_size=32, n_epochs=1, seed=0, device="cpu")
    before = [p.detach().clone() for p in model.policy.parameters()]
    model.learn(128, callback=watch)
    assert len(watch.seen) == 128
    assert np.isfinite(watch.seen).all()
    assert any(not torch.equal(p, q) for p, q in zip(before, model.policy.parameters(), strict=True))
    assert all(bool(p.isfinite().all()) for p in model.policy.parameters())
    rows, _ = rollout_with_reset(env, Sb3Policy(model), begin(env, 2, seed=1), 4)
    assert bool(rows.reward.isfinite().all())


def test_the_policy_applies_the_statistics_of_vec_normalize(toy):
    envs = VecNormalize(Sb3VecEnv(toy(), 8))
    model = PPO("MlpPolicy", envs, n_steps=16, batch_size=64, n_epochs=1, seed=0, device="cpu").learn(128)
    obs = torch.tensor([[0.3, -0.2]])
    expected, _ = model.predict(envs.normalize_obs(obs.numpy()), deterministic=True)
    assert_allclose(Sb3Policy(model).act(obs), expected, rtol=1e-6)
