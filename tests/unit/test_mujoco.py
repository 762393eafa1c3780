"""MuJoCo's runners in physical time; skipped where the extra `robotics` is not installed."""

from __future__ import annotations

import sys
from typing import Any

import gymnasium
import numpy as np
import pytest

import rlcore.envs  # noqa: F401  registers
from rlcore.envs.catalog import FOREIGN
from rlcore.envs.robotics.adroit import make_adroit
from rlcore.envs.robotics.ant_maze import make_ant_maze
from rlcore.envs.robotics.locomotion import TASKS, make_gym
from rlcore.errors import ConfigError, NumericsError, RlcoreError

CHEETAH = "rlcore/HalfCheetah-v0"


def test_every_runner_is_listed() -> None:
    assert set(FOREIGN) == set(TASKS)


def test_what_to_install_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(RlcoreError, match=r"pip install 'rlcore-lab\[robotics\]'"):
        gymnasium.make(CHEETAH)


@pytest.mark.parametrize("make", [lambda: make_ant_maze("umaze"), lambda: make_adroit("pen")])
def test_what_to_install_is_said_by_ants_and_hands(monkeypatch: pytest.MonkeyPatch, make: Any) -> None:
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(RlcoreError, match=r"pip install 'rlcore-lab\[robotics\]'"):
        make()


@pytest.fixture
def robotics() -> None:
    pytest.importorskip("mujoco")
    pytest.importorskip("imageio")


@pytest.mark.usefixtures("robotics")
class TestRunners:
    """Rates, times and ends."""

    @pytest.mark.parametrize("env_id", list(FOREIGN))
    def test_times_and_spaces(self, env_id: str) -> None:
        env = gymnasium.make(env_id, dt=0.01, horizon=0.05)
        obs, info = env.reset(seed=0)
        assert env.observation_space.contains(obs)
        assert info["t"] == 0.0
        for k in range(1, 6):
            obs, reward, terminated, truncated, info = env.step(np.zeros(env.action_space.shape))
            assert info["t"] == pytest.approx(0.01 * k)
            assert reward == pytest.approx(0.01 * info["reward_rate"])
            assert (terminated, truncated) == (False, k == 5)

    def test_is_gymnasiums_own_at_its_interval(self) -> None:
        """With its step of 10 ms the states are equal, and the reward is that of Gymnasium times dt."""
        ours, theirs = make_gym(CHEETAH, physics_timestep=0.01), gymnasium.make("HalfCheetah-v5").unwrapped
        a, _ = ours.reset(seed=3)
        b, _ = theirs.reset(seed=3)
        rng = np.random.default_rng(0)
        for _ in range(20):
            action = rng.uniform(-1, 1, 6)
            a, mine, *_ = ours.step(action)
            b, theirs_reward, *_ = theirs.step(action)
            assert a == pytest.approx(b)
            assert mine == pytest.approx(0.05 * theirs_reward)

    def test_the_motion_does_not_depend_on_dt(self) -> None:
        """One action held for .2 s: the same physics and the same return."""
        ends, returns = [], []
        for dt in (0.05, 0.01, 0.002):
            env = make_gym(CHEETAH, dt=dt)
            env.reset(seed=1)
            total = 0.0
            for _ in range(round(0.2 / dt)):
                obs, reward, *_ = env.step(np.full(6, 0.3))
                total += reward
            ends.append(obs)
            returns.append(total)
        assert ends[1] == pytest.approx(ends[0], abs=1e-9)
        assert ends[2] == pytest.approx(ends[0], abs=1e-9)
        assert returns == pytest.approx([returns[0]] * 3)

    def test_bad_input(self) -> None:
        with pytest.raises(ConfigError, match="frame_skip"):
            make_gym(CHEETAH, frame_skip=3)
        with pytest.raises(ConfigError, match="horizon"):
            make_gym(CHEETAH, horizon=0.001)
        env = make_gym(CHEETAH)
        env.reset(seed=0)
        with pytest.raises(NumericsError, match="finite"):
            env.step(np.full(6, np.nan))
