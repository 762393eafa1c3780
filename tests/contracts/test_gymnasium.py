"""What `GymEnv` and `GymVectorEnv` promise, on a toy and on every registered id."""

import warnings

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from numpy.testing import assert_allclose, assert_array_equal

from rlcore.envs import CATALOG
from rlcore.errors import ConfigError, NumericsError, ShapeError
from rlcore.interop.batch import ResetNeededError
from rlcore.interop.gymnasium import GymEnv, GymVectorEnv
from rlcore.simulation import Feedback, begin, rollout_with_reset

IDS = sorted(CATALOG)
MODES = list(AutoresetMode)


def zero_actions(envs):
    return np.zeros(envs.action_space.shape, dtype=envs.action_space.dtype)


def check_quietly(env):
    """Gymnasium's checker; unbounded observations and physical action ranges are our choice."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        check_env(env, skip_render_check=False)
    ours = ("infinity", "symmetric and normalized", "alternative render modes")
    assert not [str(w.message) for w in said if not any(word in str(w.message) for word in ours)]


def test_checker_accepts_the_toy(toy):
    check_quietly(GymEnv(toy(), render_mode="rgb_array"))


@pytest.mark.parametrize("env_id", IDS)
def test_every_id_passes_the_checker(env_id):
    check_quietly(gymnasium.make(env_id).unwrapped)


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("mode", MODES)
def test_every_id_makes_a_native_vector_env(env_id, mode):
    envs = gymnasium.make_vec(env_id, num_envs=3, autoreset_mode=mode)
    assert isinstance(envs.unwrapped, GymVectorEnv)
    assert envs.metadata["autoreset_mode"] is mode
    obs, _ = envs.reset(seed=1)
    single, _ = gymnasium.make(f"rlcore.envs:{env_id}").reset(seed=1)
    assert_array_equal(obs[0], single)
    for _ in range(3):
        obs, reward, terminated, _, info = envs.step(zero_actions(envs))
        assert envs.observation_space.contains(obs)
        assert reward.shape == info["t"].shape == info["dt"].shape == (3,)
        if mode is AutoresetMode.DISABLED and terminated.any():
            break  # these rows wait for a reset


def test_same_seed_same_path(toy):
    def path(env, seed):
        env.action_space.seed(0)
        out = [env.reset(seed=seed)[0]]
        for _ in range(8):
            obs, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            out += [obs, [reward]]
            if terminated or truncated:
                out.append(env.reset()[0])
        return np.concatenate(out)

    env = GymEnv(toy(horizon=0.3))
    assert_array_equal(path(env, 5), path(env, 5))
    assert not np.array_equal(path(env, 5), path(env, 6))
    first, second = env.reset(seed=5)[0], env.reset()[0]
    assert not np.array_equal(first, second)  # a reset without a seed goes on


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_vector_rows_are_the_rows_of_the_core(toy, dtype):
    env = toy(wall=1.0, dtype=dtype)
    law = Feedback(lambda obs: -0.5 * obs)
    batch, _ = rollout_with_reset(env, law, begin(env, 4, seed=11), 12)
    envs = GymVectorEnv(env, 4, AutoresetMode.SAME_STEP)
    obs, _ = envs.reset(seed=11)
    for k in range(12):
        assert_allclose(obs, batch.obs[k], rtol=1e-5, atol=1e-6)
        obs, reward, terminated, truncated, _ = envs.step(-0.5 * obs)
        assert_allclose(reward, batch.reward[k], rtol=1e-5, atol=1e-6)
        assert_array_equal(terminated | truncated, batch.extras["last"][k])
        assert_array_equal(terminated, batch.discount[k] == 0)


def test_row_equals_a_single_env_with_the_same_noise(toy):
    envs, one = GymVectorEnv(toy(wall=1.0), 4, "SameStep"), GymEnv(toy(wall=1.0))
    obs, single = envs.reset(seed=3)[0], one.reset(seed=3, options={"first_row": 2})[0]
    for _ in range(12):
        assert_array_equal(obs[2], single)
        obs, reward, terminated, truncated, _ = envs.step(0.1 * obs)
        single, earned, *ended, _ = one.step(0.1 * single)
        assert reward[2] == earned
        assert [terminated[2], truncated[2]] == ended
        if any(ended):
            single = one.reset()[0]


@pytest.mark.parametrize("mode", MODES)
def test_modes_are_those_of_the_sync_vector_env(toy, mode):
    """Structure of every answer as `SyncVectorEnv` gives it over single copies of the same rows."""
    ours = RecordEpisodeStatistics(GymVectorEnv(toy(wall=1.2), 3, mode))
    sync = RecordEpisodeStatistics(SyncVectorEnv([lambda: GymEnv(toy(wall=1.2))] * 3, autoreset_mode=mode))
    ours.reset(seed=0)
    sync.reset(seed=[0, 0, 0])
    obs = ours.env.stepper.observe()
    for i, single in enumerate(sync.env.envs):
        assert_array_equal(single.reset(seed=0, options={"first_row": i})[0], obs[i])
    ended = 0
    for _ in range(25):
        a, b = ours.step(zero_actions(ours)), sync.step(zero_actions(ours))
        if mode is AutoresetMode.SAME_STEP:  # in the other modes the copies spend their noise at other steps
            assert_array_equal(a[0], b[0])
        if ended == 0:
            for mine, theirs in zip(a[:4], b[:4], strict=True):
                assert_allclose(mine, theirs, rtol=1e-6)
        if mode is AutoresetMode.SAME_STEP:
            assert set(a[4]) == set(b[4])
            if "final_obs" in a[4]:
                assert_array_equal(a[4]["_final_obs"], b[4]["_final_obs"])
                assert set(a[4]["final_info"]) == set(b[4]["final_info"])
                assert_allclose(a[4]["final_info"]["t"], b[4]["final_info"]["t"])
                for mine, theirs in zip(a[4]["final_obs"], b[4]["final_obs"], strict=True):
                    assert (mine is None) == (theirs is None)
                    assert mine is None or np.array_equal(mine, theirs)
        if "episode" in a[4] and "episode" in b[4] and mode is AutoresetMode.SAME_STEP:
            assert_array_equal(a[4]["_episode"], b[4]["_episode"])
            assert_allclose(a[4]["episode"]["r"], b[4]["episode"]["r"], rtol=1e-6)
        over = a[2] | a[3]
        ended += over.sum()
        if mode is AutoresetMode.DISABLED:
            if over.any():
                ours.reset(options={"reset_mask": over.copy()})
            if (b[2] | b[3]).any():
                sync.env.reset(options={"reset_mask": b[2] | b[3]})
    assert ended > 3


def test_next_step_ignores_the_action_and_pays_nothing(toy):
    envs = GymVectorEnv(toy(horizon=0.3), 2, AutoresetMode.NEXT_STEP)
    envs.reset(seed=0)
    for _ in range(3):
        obs, _, _, truncated, info = envs.step(zero_actions(envs))
    assert truncated.all()
    assert_allclose(info["t"], 0.3)
    begun, reward, terminated, truncated, info = envs.step(np.full((2, 2), np.nan, dtype=np.float32))
    assert_array_equal(np.concatenate([reward, terminated, truncated]), 0.0)
    assert_array_equal(info["t"], 0.0)
    assert not np.array_equal(begun, obs)
    *_, info = envs.step(zero_actions(envs))
    assert_allclose(info["t"], 0.1)


def test_disabled_waits_for_a_partial_reset(toy):
    envs = GymVectorEnv(toy(wall=0.5, horizon=100.0), 16, AutoresetMode.DISABLED)
    envs.reset(seed=0)
    over = np.zeros(16, dtype=bool)
    while not over.any():
        before, _, terminated, truncated, _ = envs.step(zero_actions(envs))
        over = terminated | truncated
    with pytest.raises(ResetNeededError, match=rf"over in rows \[{np.flatnonzero(over)[0]}"):
        envs.step(zero_actions(envs))
    after, info = envs.reset(options={"reset_mask": over})
    assert_array_equal(after[~over], before[~over])
    assert (after[over] != before[over]).all()
    assert_array_equal(info["_t"], over)
    envs.step(zero_actions(envs))
    with pytest.raises(ShapeError, match="reset_mask must be bool"):
        envs.reset(options={"reset_mask": np.zeros(16, dtype=bool)})
    with pytest.raises(ConfigError, match="leave it out"):
        envs.reset(seed=1, options={"reset_mask": over})


def test_terminal_reward_and_ends(toy):
    env = GymEnv(toy(wall=0.0))
    env.reset(seed=0)
    _, reward, terminated, truncated, info = env.step(np.zeros(2, dtype=np.float32))
    assert terminated
    assert not truncated
    assert reward > 6.0
    assert info["dt"] == 0.1
    env = GymEnv(toy())
    env.reset(seed=0)
    ends = [env.step(np.zeros(2))[2:4] for _ in range(5)]
    assert ends == [(False, False)] * 4 + [(False, True)]
    with pytest.raises(ResetNeededError, match="over in rows"):
        env.step(np.zeros(2))


def test_max_episode_steps_truncates(toy):
    envs = GymVectorEnv(toy(), 2, max_episode_steps=2)
    envs.reset(seed=0)
    assert [bool(envs.step(zero_actions(envs))[3].all()) for _ in range(2)] == [False, True]


def test_bad_calls_say_what_is_wrong(toy):
    env = GymEnv(toy())
    with pytest.raises(ResetNeededError, match="was not reset yet"):
        env.step(np.zeros(2))
    env.reset(seed=0)
    with pytest.raises(ShapeError, match=r"action must have shape \[2\], got \[3\]"):
        env.step(np.zeros(3))
    with pytest.raises(NumericsError, match="action must be finite"):
        env.step(np.array([0.0, np.nan]))
    env.step(np.array([0.0, 1e30]))  # finite, though its square is not in float32
    with pytest.raises(ConfigError, match="render_mode"):
        GymEnv(toy(), render_mode="human")
    with pytest.raises(ConfigError, match="one integer"):
        GymVectorEnv(toy(), 2).reset(seed=[1, 2])


def test_returned_arrays_are_copies(toy):
    envs, same = GymVectorEnv(toy(), 2, "SameStep"), GymVectorEnv(toy(), 2, "SameStep")
    (obs, _), (kept, _) = envs.reset(seed=0), same.reset(seed=0)
    for _ in range(7):
        obs[:] = 99.0
        obs, *rest = envs.step(zero_actions(envs))
        expected, reward, terminated, truncated, _ = same.step(zero_actions(envs))
        assert_array_equal(obs, expected)
        for mine, theirs in zip(rest, (reward, terminated, truncated), strict=False):
            assert_array_equal(mine, theirs)
            mine[:] = True
    assert kept.dtype == np.float32


def test_rgb_array(toy):
    env = GymEnv(toy(), render_mode="rgb_array")
    env.reset(seed=0)
    assert env.render().shape == (8, 8, 3)
    assert env.metadata == {"render_modes": ["rgb_array"], "render_fps": 10}
    envs = GymVectorEnv(toy(), 3, render_mode="rgb_array")
    envs.reset(seed=0)
    assert [frame.dtype for frame in envs.render()] == [np.uint8] * 3
