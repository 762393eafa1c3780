"""`GymSource` against an environment whose every transition is known: modes, kinds of ends, vectors, wrappers."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import FlattenObservation, TimeLimit

from rlcore.data import Transitions
from rlcore.errors import ConfigError
from rlcore.interop.gym_source import GymSource
from rlcore.interop.recording import mean_return, record
from rlcore.simulation import Feedback

ENDS = ((3, "terminated"), (1, "truncated"), (4, "both"), (1, "terminated"), (2, "truncated"))  # episode after episode
LAW = Feedback(lambda obs: 0.1 * obs[:, 1:2] - 0.2)


class Counter(gymnasium.Env):
    """Observes (copy, episode, step) and pays 100 copy + 10 episode + step + action; ends as `ENDS` says, by turns."""

    observation_space = Box(-np.inf, np.inf, (3,), np.float64)
    action_space = Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, copy: int = 0) -> None:
        self.copy, self.episode, self.step_number = copy, -1, 0

    def seen(self) -> np.ndarray:
        return np.array([self.copy, self.episode, self.step_number], dtype=np.float64)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.episode, self.step_number = self.episode + 1, 0
        return self.seen(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        length, how = ENDS[self.episode % len(ENDS)]
        assert self.step_number < length, "stepped beyond an end"
        self.step_number += 1
        over = self.step_number == length
        reward = 100.0 * self.copy + 10.0 * self.episode + self.step_number + float(action[0])
        return self.seen(), reward, over and how in ("terminated", "both"), over and how in ("truncated", "both"), {}


class AsDict(gymnasium.ObservationWrapper):
    """The same observation in two parts."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.observation_space = Dict({"a": Box(-np.inf, np.inf, (1,)), "b": Box(-np.inf, np.inf, (2,))})

    def observation(self, observation: np.ndarray) -> dict[str, np.ndarray]:
        parts = observation.astype(np.float32)
        return {"a": parts[:1], "b": parts[1:]}


def check_rows(batch: Transitions, copies: int) -> None:
    """Every row is a transition of `Counter`, and, per copy, no row is missing or doubled."""
    obs, after = batch.obs, batch.next_obs
    assert torch.equal(after, obs + torch.tensor([0.0, 0.0, 1.0])), "the next observation is of the same episode"
    torch.testing.assert_close(batch.action, 0.1 * obs[:, 1:2] - 0.2)
    expected = 100.0 * obs[:, 0] + 10.0 * obs[:, 1] + after[:, 2] + batch.action[:, 0]
    torch.testing.assert_close(batch.reward, expected, rtol=1e-5, atol=1e-5)
    length, how = zip(*(ENDS[int(episode) % len(ENDS)] for episode in obs[:, 1]), strict=True)
    last = after[:, 2] == torch.tensor(length)
    assert torch.equal(batch.extras["last"], last)
    ends_for_good = torch.tensor([kind != "truncated" for kind in how])
    torch.testing.assert_close(batch.discount, torch.where(last & ends_for_good, 0.0, float(np.exp(-0.05))))
    for copy in range(copies):
        mine = [(int(e), int(k)) for c, e, k in obs.tolist() if c == copy]
        ordered = [(e, k) for e in range(mine[-1][0] + 1) for k in range(ENDS[e % len(ENDS)][0])]
        assert mine == ordered[: len(mine)]


def counters(copies: int) -> list[Any]:
    return [lambda copy=copy: Counter(copy) for copy in range(copies)]


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("steps_per_call", [1, 7])
def test_every_transition(mode: AutoresetMode, steps_per_call: int) -> None:
    envs = SyncVectorEnv(counters(3), autoreset_mode=mode)
    source = GymSource(envs, dt=0.1, discount_rate=0.5, seed=0, steps_per_call=steps_per_call)
    parts = [source.next(LAW) for _ in range(42 // steps_per_call)]
    rows = Transitions(
        **{
            name: torch.cat([getattr(part, name) for part in parts])
            for name in ("obs", "action", "reward", "discount", "next_obs", "dt")
        },
        extras={"last": torch.cat([part.extras["last"] for part in parts])},
    )
    check_rows(rows, 3)
    assert source.steps == len(rows)
    if mode is not AutoresetMode.NEXT_STEP:
        assert len(rows) == 3 * 42


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_processes(mode: AutoresetMode) -> None:
    envs = AsyncVectorEnv(counters(2), autoreset_mode=mode)
    try:
        check_rows(GymSource(envs, dt=0.1, discount_rate=0.5, seed=0, steps_per_call=25).next(LAW), 2)
    finally:
        envs.close()


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_flattened_dictionaries(mode: AutoresetMode) -> None:
    for wrap in (AsDict, lambda env: FlattenObservation(AsDict(env))):
        copies = [lambda copy=copy, wrap=wrap: wrap(Counter(copy)) for copy in range(2)]
        envs = SyncVectorEnv(copies, autoreset_mode=mode)
        source = GymSource(envs, dt=0.1, discount_rate=0.5, seed=0, steps_per_call=25)
        check_rows(source.next(LAW), 2)


def test_a_single_environment() -> None:
    check_rows(GymSource(Counter(), dt=0.1, discount_rate=0.5, seed=0, steps_per_call=40).next(LAW), 1)


def test_actions_of_any_shape() -> None:
    """A box of 2 x 1 takes the flat action (u_0, u_1) row by row."""

    class Wide(Counter):
        action_space = Box(-1.0, 1.0, (2, 1), np.float32)

        def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
            assert action.shape == (2, 1)
            return super().step(action[1])

    both = Feedback(lambda obs: torch.cat([obs[:, :1] + 0.9, 0.1 * obs[:, 1:2] - 0.2], 1))
    rows = GymSource(Wide(), dt=0.1, discount_rate=0.5, seed=0, steps_per_call=20).next(both)
    check_rows(rows.replace(action=rows.action[:, 1:]), 1)


def test_a_goal_environment_of_mujoco() -> None:
    robotics = pytest.importorskip("gymnasium_robotics")
    gymnasium.register_envs(robotics)
    env = gymnasium.make("PointMaze_UMaze-v3", continuing_task=False, max_episode_steps=20)
    rows = GymSource(env, dt=0.01, discount_rate=1.005, seed=0, steps_per_call=60).next(
        Feedback(lambda obs: obs[:, :2])
    )
    assert rows.obs.shape == (60, 8), "achieved goal, desired goal, observation"
    assert torch.equal(rows.obs[:, :2], rows.obs[:, 4:6])
    last = rows.extras["last"]
    assert last.nonzero().flatten().tolist() == [19, 39, 59]
    assert torch.equal(rows.next_obs[:-1][~last[:-1]], rows.obs[1:][~last[:-1]])
    assert not torch.equal(rows.next_obs[19], rows.obs[20])


def test_a_time_limit_truncates() -> None:
    """Gymnasium's own limit of 2 steps: a step that also terminates does so for good."""
    source = GymSource(TimeLimit(Counter(), 2), dt=0.1, discount_rate=0.0, seed=0, steps_per_call=30)
    rows = source.next(LAW)
    length = torch.tensor([min(2, ENDS[int(e) % len(ENDS)][0]) for e in rows.obs[:, 1]])
    assert torch.equal(rows.extras["last"], rows.next_obs[:, 2] == length)
    ended = torch.tensor([ENDS[int(e) % len(ENDS)] == (1, "terminated") for e in rows.obs[:, 1]])
    assert torch.equal(rows.discount == 0.0, ended)


def test_recording() -> None:
    """Rows of each copy stand together, in order; the first episode earns 1 + 2 + 3 and three actions of -0.2."""
    rows = record(LAW, Counter, copies=3, steps=17, dt=0.1, discount_rate=0.5, seed=0)
    check_rows(rows[:16], 1)
    ends = rows.extras["last"].view(3, 17)
    assert bool(ends[:, -1].all()), "where the record stops, its episode is cut"
    assert torch.equal(rows.obs.view(3, 17, 3)[0], rows.obs.view(3, 17, 3)[1])
    assert mean_return(LAW, Counter, episodes=4, seed=0) == pytest.approx(1 + 2 + 3 - 3 * 0.2)


def test_a_lost_last_observation_is_noticed() -> None:
    class Forgetful(SyncVectorEnv):
        def step(self, actions):
            *rest, info = super().step(actions)
            info.pop("final_obs", None)
            return *rest, info

    envs = Forgetful(counters(2), autoreset_mode=AutoresetMode.SAME_STEP)
    source = GymSource(envs, dt=0.1, discount_rate=0.5, seed=0, steps_per_call=5)
    with pytest.raises(ConfigError, match="lacks 'final_obs'"):
        source.next(LAW)
