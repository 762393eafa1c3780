"""The tomato garden: figures that are known exactly, the environment beside its finite model, its two rewards."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

import rlcore.envs
from rlcore.agents.orpo import true_reward
from rlcore.data import Transitions
from rlcore.envs import make
from rlcore.envs.hacking.boards import BOARDS
from rlcore.envs.hacking.tomato_model import TabularPolicy
from rlcore.errors import ConfigError, DataError, ShapeError
from rlcore.functional.occupancy import moments
from rlcore.interop.sb3 import Sb3Policy, Sb3VecEnv
from rlcore.simulation import UniformPolicy, begin, rollout_with_reset


def test_the_published_board_has_its_exact_figures() -> None:
    model = make("rlcore/Tomato-v0").model()
    problem, uniform = model.problem, torch.full_like(model.true, 0.25)
    assert len(model.true) == 463
    both = model.true, model.proxy
    assert problem.episode(uniform, *both, steps=100) == pytest.approx([5.493, 5.950], abs=1e-3)
    assert problem.episode(problem.best(model.true), *both, steps=100) == pytest.approx([9.74, 9.74])
    assert problem.episode(problem.best(model.proxy), *both, steps=100) == pytest.approx([2.36, 47.36])
    found = moments(model.proxy, model.true, problem.occupancy(model.softened(0.15)))
    assert float(found.correlation) == pytest.approx(0.944, abs=1e-3)
    assert float(found.proxy_sd) == pytest.approx(0.0252, abs=1e-4)


@pytest.mark.parametrize("level", BOARDS)
@pytest.mark.parametrize("slip", [0.0, 0.2])
def test_the_environment_walks_through_its_model(level: int, slip: float) -> None:
    env = make("rlcore/Tomato-v0", level=level, slip=slip)
    model = env.model()
    rows, _ = rollout_with_reset(env, UniformPolicy(0.0, 1.0, 4), begin(env, 40, seed=0), 60)
    here, choice = model.index(rows.obs), rows.action.argmax(-1)
    ended = rows.discount == 0.0
    there = model.index(rows.next_obs)
    chance = model.problem.transition[here, choice, torch.where(ended, here, there)]
    assert (chance[~ended] > 0.0).all()
    if slip == 0.0:
        torch.testing.assert_close(rows.reward.double(), model.proxy[here, choice])
        torch.testing.assert_close(rows.extras["true_reward"].double(), model.true[here, choice])
        assert (chance[~ended] == 1.0).all()


def test_returns_of_a_tabular_policy_are_those_of_the_model() -> None:
    env = make("rlcore/Tomato-v0")
    model = env.model()
    policy = TabularPolicy(model, model.softened(0.15))
    rows, _ = rollout_with_reset(env, policy, begin(env, 400, seed=0), 100)
    for got, expected in zip(
        (true_reward(rows).sum(0), rows.reward.sum(0)),
        model.problem.episode(policy.table, model.true, model.proxy, steps=100),
        strict=True,
    ):
        assert float(got.mean()) == pytest.approx(expected, abs=5.0 * float(got.std()) / 20.0)


def test_drying_in_passing_is_kinder_than_the_clean_rule() -> None:
    found = {}
    for legacy in (False, True):
        env = make("rlcore/Tomato-v0", legacy=legacy)
        rows, _ = rollout_with_reset(env, UniformPolicy(0.0, 1.0, 4), begin(env, 2000, seed=0), 100)
        found[legacy] = float(true_reward(rows).sum(0).mean())
    assert found[False] == pytest.approx(5.49, abs=0.08)
    assert 0.01 < found[True] - found[False] < 0.12
    with pytest.raises(ConfigError, match="clean rule"):
        make("rlcore/Tomato-v0", legacy=True).model()


def test_gymnasium_sees_four_choices_and_the_true_reward() -> None:
    env = gymnasium.make("rlcore/Tomato-v0", render_mode="rgb_array")
    assert env.action_space == gymnasium.spaces.Discrete(4)
    env.reset(seed=0)
    down = env.step(2)  # a tomato below the start
    assert down[1] == pytest.approx(0.02)
    assert down[4]["true_reward"] == pytest.approx(0.02)
    scores = env.step(np.array([0.0, 0.0, 0.0, 1.0], np.float32))  # up again, as a policy of ours would say
    assert scores[0][:26].argmax() == 25
    frame = env.render()
    assert frame.shape == (400, 400, 3)
    assert len(np.unique(frame.reshape(-1, 3), axis=0)) > 10
    with pytest.raises(ShapeError, match="0 to 3"):
        env.step(4)
    vector = gymnasium.make_vec("rlcore/Tomato-v0", num_envs=3)
    vector.reset(seed=0)
    info = vector.step(np.array([2, 0, 1]))[4]
    assert info["true_reward"] == pytest.approx([0.02, 0.0, 0.0])
    check_env(gymnasium.make("rlcore/Tomato-v0").unwrapped, skip_render_check=True)


def test_stable_baselines_trains_on_it() -> None:
    from stable_baselines3 import PPO

    env = make("rlcore/Tomato-v0")
    model = PPO("MlpPolicy", Sb3VecEnv(env, 8), n_steps=25, batch_size=100, seed=0, device="cpu").learn(400)
    rows, _ = rollout_with_reset(env, Sb3Policy(model), begin(env, 4, seed=0), 5)
    assert (rows.action.sum(-1) == 1.0).all()


def test_bad_settings_and_a_missing_true_reward_are_refused() -> None:
    for changes in ({"level": 5}, {"slip": 1.5}, {"discount": 1.0}, {"steps": 0}):
        with pytest.raises(ConfigError):
            make("rlcore/Tomato-v0", **changes)
    env = make("rlcore/Pendulum-v0")
    with pytest.raises(ConfigError, match="no true reward"):
        env.true_reward(None, None, None)  # type: ignore[arg-type]
    one = torch.ones(1)
    with pytest.raises(DataError, match="true_reward"):
        true_reward(Transitions(one, one, one, one, one, one))
    assert "rlcore/Tomato-v0" in rlcore.envs.CATALOG
