"""`GymSource` gives the true next observation in every autoreset mode, and joins no two episodes."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rlcore.errors import ConfigError
from rlcore.interop.gym_source import GymPathSource, GymSource
from rlcore.interop.gymnasium import GymEnv, GymVectorEnv
from rlcore.simulation import Feedback, GaussianFeedback

LAW = Feedback(lambda obs: -0.5 * obs)


def native(env, count, mode):
    return GymVectorEnv(env, count, mode)


def foreign(env, count, mode):
    return SyncVectorEnv([lambda: GymEnv(env)] * count, autoreset_mode=mode)


def still(toy, **settings):
    """Without noise in the step, so that a row that joined two episodes would break the equation of motion."""

    class Still(toy):
        def diffusion(self, t, x, u):
            return super().diffusion(t, x, u) * 0.0

    return Still(**settings)


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("make", [native, foreign])
def test_rows_obey_the_dynamics_across_ends(toy, make, mode):
    env = still(toy, wall=0.8, horizon=0.4)
    source = GymSource(make(env, 5, mode), dt=0.1, discount_rate=0.5, seed=3, steps_per_call=40)
    outward = Feedback(lambda obs: 2.0 * obs)
    batch = source.next(outward)
    expected = batch.obs + 0.1 * (-0.5 * batch.obs + batch.action)
    torch.testing.assert_close(batch.next_obs, expected)
    torch.testing.assert_close(batch.action, 2.0 * batch.obs)
    ended = batch.next_obs[:, 0].abs() > 0.8
    assert 0 < int(ended.sum()) < int(batch.extras["last"].sum())  # some terminate, others are truncated
    torch.testing.assert_close(batch.discount, torch.where(ended, 0.0, float(np.exp(-0.05))))
    assert bool((batch.reward[ended] > 4.0).all())  # the terminal reward is in it
    assert bool((batch.dt == 0.1).all())
    assert source.steps == len(batch)
    assert source.simulated == pytest.approx(0.1 * len(batch))
    if mode is not AutoresetMode.NEXT_STEP:
        assert len(batch) == 200


def test_next_step_skips_a_call_in_which_all_rows_are_dead(toy):
    source = GymSource(GymVectorEnv(toy(horizon=0.2), 3), dt=0.1, discount_rate=0.0, seed=0)
    assert [len(source.next(LAW)) for _ in range(6)] == [3] * 6
    assert source.calls == 8


def test_full_numeric_final_obs_is_read_through_its_mask(toy):
    class Numeric(GymVectorEnv):
        def step(self, actions):
            obs, reward, terminated, truncated, info = super().step(actions)
            if "final_obs" in info:
                full = obs.copy()
                mask = info["_final_obs"]
                full[mask] = np.stack(list(info["final_obs"][mask]))
                info["final_obs"] = full
            return obs, reward, terminated, truncated, info

    plain, numeric = (
        GymSource(make(toy(wall=0.8), 4, AutoresetMode.SAME_STEP), dt=0.1, discount_rate=0.5, seed=1, steps_per_call=12)
        for make in (GymVectorEnv, Numeric)
    )
    torch.testing.assert_close(plain.next(LAW).next_obs, numeric.next(LAW).next_obs, rtol=0, atol=0)


def test_noisy_policies_are_repeatable_and_a_resume_starts_new_episodes(toy):
    policy = GaussianFeedback(lambda obs: -obs, 0.3, noise_dim=2)

    def source():
        return GymSource(GymVectorEnv(toy(), 4), dt=0.1, discount_rate=0.5, seed=2, steps_per_call=3)

    one, two = source(), source()
    first = one.next(policy)
    torch.testing.assert_close(first.action, two.next(policy).action, rtol=0, atol=0)
    three = source()
    three.load_state_dict(one.state_dict())
    assert (three.steps, three.calls) == (one.steps, one.calls)
    assert not torch.equal(three.next(policy).obs, first.obs)


def test_choices_are_the_largest_scores_and_other_spaces_are_refused():
    envs = SyncVectorEnv([lambda: gymnasium.make("CartPole-v1")], autoreset_mode=AutoresetMode.SAME_STEP)
    source = GymSource(envs, dt=0.02, discount_rate=0.0, seed=0, steps_per_call=4)
    for push, sign in ((0, -1.0), (1, 1.0)):  # left and right
        scores = torch.nn.functional.one_hot(torch.tensor([push]), 2).float()
        rows = source.next(Feedback(lambda obs, scores=scores: scores.expand(len(obs), 2)))
        assert bool((sign * (rows.next_obs[:, 1] - rows.obs[:, 1]) > 0.0).all())
        assert torch.equal(rows.action, scores.expand(4, 2))
    switches = gymnasium.make("CartPole-v1")
    switches.action_space = gymnasium.spaces.MultiBinary(3)
    with pytest.raises(ConfigError, match="action space must be a Box or Discrete"):
        GymSource(SyncVectorEnv([lambda: switches]), dt=0.02, discount_rate=0.0, seed=0)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_rows_know_the_time_in_their_episode(toy, mode):
    source = GymSource(native(toy(wall=0.8, horizon=0.4), 5, mode), dt=0.1, discount_rate=0.5, seed=3)
    age = torch.zeros(5)
    for _ in range(20):
        over = torch.from_numpy(source.over.copy())
        alive = ~over if mode is AutoresetMode.NEXT_STEP else torch.ones_like(over)
        rows = source.next(Feedback(lambda obs: 2.0 * obs))
        torch.testing.assert_close(rows.extras["t"], 0.1 * age[alive].double())
        age[~alive] = 0.0
        age[alive] = torch.where(rows.extras["last"], 0.0, age[alive] + 1.0)
    assert bool((age >= 0.0).all())


def test_rows_in_a_row_follow_each_other_and_noise_is_held(toy):
    env = still(toy, horizon=0.4)
    rows = GymSource(
        native(env, 3, AutoresetMode.SAME_STEP), dt=0.1, discount_rate=0.5, seed=3, steps_per_call=7, hold=2
    )
    policy = GaussianFeedback(lambda obs: 0.0 * obs, 1.0, 1)
    batch = GymPathSource(rows).next(policy)
    assert batch.reward.shape == (7, 3)
    goes_on = ~batch.extras["last"][:-1]
    torch.testing.assert_close(batch.next_obs[:-1][goes_on], batch.obs[1:][goes_on])
    action = batch.action.squeeze(-1)
    assert torch.equal(action[0], action[1])
    assert bool((action[1] != action[2]).all())
    with pytest.raises(ConfigError, match="SAME_STEP"):
        GymPathSource(GymSource(native(env, 3, AutoresetMode.NEXT_STEP), dt=0.1, discount_rate=0.5, seed=3))
