"""The hot loop: a path is its own, ends are absorbed or restarted, and a time limit is not a termination."""

from __future__ import annotations

import math
from importlib import import_module

import pytest
import torch
from torch import Tensor

from rlcore.errors import ConfigError
from rlcore.simulation import (
    ControlledDiffusion,
    ControlSpec,
    EnvState,
    EulerMaruyama,
    Feedback,
    GaussianFeedback,
    RolloutState,
    begin,
    rollout,
    rollout_with_reset,
)

BARRIER, PRIZE, RATE = 1.5, 10.0, 0.5


class Barrier(ControlledDiffusion):
    """dX = u dt + dW, r = -x^2; ends above the barrier, with a prize."""

    def __init__(self, horizon: float = math.inf, dt: float = 0.125, barrier: float = BARRIER) -> None:
        spec = ControlSpec("test/Barrier-v0", 1, 1, 1, dt, horizon=horizon, discount_rate=RATE)
        super().__init__(spec, EulerMaruyama(), dtype=torch.float64)
        self.barrier = barrier

    def initial_state(self, noise: Tensor) -> EnvState:
        return EnvState(noise.new_zeros(noise.shape[0]), 0.1 * noise)

    def drift(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:
        return u

    def diffusion(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:
        return torch.ones_like(x).unsqueeze(-1)

    def reward_rate(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:
        return -(x[:, 0] ** 2)

    def terminated(self, state: EnvState) -> Tensor:
        return state.x[:, 0] > self.barrier

    def terminal_reward(self, state: EnvState) -> Tensor:
        return torch.full_like(state.x[:, 0], PRIZE)


POLICY = GaussianFeedback(lambda obs: 0.5 - obs, 0.3, 1)


@pytest.mark.parametrize("with_reset", [False, True])
def test_a_path_does_not_depend_on_the_batch(with_reset: bool) -> None:
    env, loop = Barrier(horizon=2.0), rollout_with_reset if with_reset else rollout
    together, _ = loop(env, POLICY, begin(env, 8, seed=3), 40)
    for row in (0, 5):
        alone, _ = loop(env, POLICY, begin(env, 1, seed=3, first_row=row), 40)
        for name in ("obs", "action", "reward"):
            assert torch.equal(getattr(together, name)[:, row], getattr(alone, name)[:, 0]), name


@pytest.mark.parametrize("split", [1, 7, 39])
def test_a_path_does_not_depend_on_the_steps_per_call(split: int) -> None:
    env = Barrier(horizon=2.0)
    whole, end = rollout_with_reset(env, POLICY, begin(env, 8, seed=3), 40)
    first, middle = rollout_with_reset(env, POLICY, begin(env, 8, seed=3), split)
    second, last = rollout_with_reset(env, POLICY, middle, 40 - split)
    for name in ("obs", "action", "reward", "discount", "next_obs"):
        assert torch.equal(getattr(whole, name), torch.cat([getattr(first, name), getattr(second, name)])), name
    assert torch.equal(end.env.x, last.env.x)
    assert end.step == last.step == 40


def test_a_path_does_not_depend_on_the_noise_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    env = Barrier()
    whole, _ = rollout(env, POLICY, begin(env, 8, seed=3), 40)
    monkeypatch.setattr(import_module("rlcore.simulation.stepping"), "CHUNK_NUMBERS", 8 * 2 * 3)  # three steps
    chunked, _ = rollout(env, POLICY, begin(env, 8, seed=3), 40)
    assert torch.equal(whole.obs, chunked.obs)


def test_seeds_differ_and_repeat() -> None:
    env = Barrier()
    first, again, other = (rollout(env, POLICY, begin(env, 4, seed=s), 10)[0].obs for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_an_ended_path_is_absorbed_and_paid_once() -> None:
    env = Barrier()
    path, _ = rollout(env, POLICY, begin(env, 256, seed=0), 80)
    ended = path.terminated[-1]
    assert bool(ended.any())
    assert bool((path.terminated[1:] >= path.terminated[:-1]).all()), "an end is for ever"
    assert bool((path.reward[~path.alive] == 0.0).all())
    over = ~path.alive
    assert torch.equal(path.obs[1:][over], path.obs[:-1][over])
    arrival = path.terminated & path.alive
    assert torch.equal(arrival.sum(0), ended.long())
    running = -env.spec.dt * path.obs[:-1, :, 0] ** 2
    torch.testing.assert_close(path.reward[arrival], running[arrival] + PRIZE)
    torch.testing.assert_close(path.reward[path.alive & ~arrival], running[path.alive & ~arrival])


def test_a_path_that_begins_ended_earns_nothing() -> None:
    env = Barrier()
    above = EnvState(torch.zeros(1, dtype=torch.float64), torch.full((1, 1), 2.0, dtype=torch.float64))
    start = RolloutState(above, torch.zeros(1, dtype=torch.int64), 0, 0)
    path, _ = rollout(env, POLICY, start, 5)
    assert float(path.reward.abs().sum()) == 0.0
    assert bool(path.terminated.all())


def test_a_time_limit_truncates_and_does_not_terminate() -> None:
    env = Barrier(horizon=1.0, barrier=math.inf)
    steps, _ = rollout_with_reset(env, POLICY, begin(env, 16, seed=0), 20)
    expected = torch.zeros(20, 16, dtype=torch.bool)
    expected[7::8] = True  # 8 steps of 0.125 s
    assert torch.equal(steps.extras["last"], expected)
    torch.testing.assert_close(steps.discount, torch.full_like(steps.discount, math.exp(-RATE * 0.125)))


def test_a_termination_has_discount_zero_and_the_prize() -> None:
    env = Barrier()
    steps, _ = rollout_with_reset(env, POLICY, begin(env, 64, seed=0), 60)
    last = steps.extras["last"]
    assert bool(last.any())
    assert torch.equal(steps.discount == 0.0, last)
    assert bool((steps.reward[last] > PRIZE - 5.0).all())
    assert bool((steps.reward[~last] <= 0.0).all())


def test_next_obs_is_the_true_one_at_resets() -> None:
    env = Barrier(horizon=1.0)
    steps, _ = rollout_with_reset(env, POLICY, begin(env, 64, seed=0), 60)
    last = steps.extras["last"][:-1]
    assert torch.equal(steps.next_obs[:-1][~last], steps.obs[1:][~last])
    assert not bool((steps.next_obs[:-1][last] == steps.obs[1:][last]).any())
    terminated = steps.discount == 0.0
    assert bool((steps.next_obs[terminated] > BARRIER).all())
    assert bool((steps.obs <= BARRIER).all()), "a fresh row begins below the barrier"


def test_deterministic_asks_for_no_action_noise() -> None:
    env = Barrier()
    path, _ = rollout(env, POLICY, begin(env, 4, seed=0), 10, deterministic=True)
    plain, _ = rollout(env, Feedback(lambda obs: 0.5 - obs), begin(env, 4, seed=0), 10)
    assert torch.equal(path.action, plain.action)
    assert torch.equal(path.obs, plain.obs)


def test_trajectory_and_transitions_tell_the_same() -> None:
    env = Barrier()
    path, _ = rollout(env, POLICY, begin(env, 32, seed=0), 30)
    steps, _ = rollout_with_reset(env, POLICY, begin(env, 32, seed=0), 30)
    rows = path.transitions(RATE)
    alive = path.alive
    for name in ("obs", "action", "reward", "next_obs", "discount"):
        first_episode = getattr(steps, name)[alive]
        assert torch.equal(getattr(rows, name)[alive], first_episode), name


@pytest.mark.parametrize("loop", [rollout, rollout_with_reset])
def test_no_steps_are_refused(loop: object) -> None:
    env = Barrier()
    with pytest.raises(ConfigError, match="at least 1"):
        loop(env, POLICY, begin(env, 2, seed=0), 0)  # type: ignore[operator]
    with pytest.raises(ConfigError, match="at least 1"):
        begin(env, 0, seed=0)


def test_whole_paths_need_a_common_time() -> None:
    env = Barrier(horizon=1.0)
    _, apart = rollout_with_reset(env, POLICY, begin(env, 64, seed=0), 13)
    with pytest.raises(ConfigError, match="same time"):
        rollout(env, POLICY, apart, 1)


def test_a_product_with_the_noise_must_agree_with_the_matrix() -> None:
    class Doubled(Barrier):
        def diffuse(self, t: Tensor, x: Tensor, u: Tensor, z: Tensor) -> Tensor:
            return 2.0 * z

    class Same(Barrier):
        def diffuse(self, t: Tensor, x: Tensor, u: Tensor, z: Tensor) -> Tensor:
            return z

    with pytest.raises(ConfigError, match=r"Doubled.diffuse must be diffusion"):
        begin(Doubled(), 4, seed=0)
    paths = [rollout(env, POLICY, begin(env, 4, seed=0), 20)[0] for env in (Barrier(), Same())]
    torch.testing.assert_close(paths[0].obs, paths[1].obs, rtol=0.0, atol=1e-15)
