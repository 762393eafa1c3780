"""The hot loop: batched rollouts of pure environments.

Noise is drawn for a chunk of steps at once, and every number of it depends only on (seed, row, step): a path is the
same whatever the batch it runs in and however the steps are split over calls.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from rlcore.data.batches import Trajectory, Transitions
from rlcore.errors import ConfigError
from rlcore.simulation.environment import Environment, EnvState, check_environment
from rlcore.simulation.noise import Stream, normals, step_noise
from rlcore.simulation.policy import Policy

CHUNK_NUMBERS = 1 << 17  # normals drawn at once: enough to amortise the calls, few enough to stay in the cache


class RolloutState(NamedTuple):
    """Where a batch of paths stands in space, time and noise."""

    env: EnvState
    row: Tensor  # [B] int64, the global number of each path
    step: int  # control steps since the rows began; resets do not set it back
    seed: int

    @property
    def batch(self) -> int:
        return self.row.shape[0]


def begin(env: Environment, batch: int, *, seed: int, first_row: int = 0) -> RolloutState:
    """Start `batch` paths, rows first_row, first_row + 1, ...; checks the environment's contract once."""
    if batch < 1:
        raise ConfigError(f"batch must be at least 1 path, got {batch}")
    if not vars(env).get("_contract_checked", False):
        check_environment(env)
        env._contract_checked = True  # type: ignore[attr-defined]
    row = torch.arange(first_row, first_row + batch, device=env.device)
    return RolloutState(env.initial_state(initial_noise(env, seed, row, 0)), row, 0, seed)


def initial_noise(env: Environment, seed: int, row: Tensor, step: int) -> Tensor:  # -> [B, r]
    """Noise for the initial states of an episode that begins at control step `step`."""
    width = env.spec.initial_noise_dim
    return normals(seed, row, Stream.INITIAL, step * width, width, env.dtype).T


def noise_chunks(
    env: Environment, action_noise_dim: int, start: RolloutState, steps: int
) -> Iterator[tuple[int, Tensor, Tensor | None]]:
    """Yield (k, process noise [B, w], action noise [B, noise_dim] or None) for each step."""
    widths = (env.step_noise_dim, action_noise_dim)
    chunk = max(1, CHUNK_NUMBERS // max(1, start.batch * sum(widths)))
    for first in range(0, steps, chunk):
        count = min(chunk, steps - first)
        process, action = (
            step_noise(start.seed, start.row, stream, start.step + first, count, width, env.dtype) if width else None
            for stream, width in zip((Stream.PROCESS, Stream.ACTION), widths, strict=True)
        )
        none = torch.zeros(start.batch, 0, dtype=env.dtype, device=env.device)
        process_at = [none] * count if process is None else process.unbind()
        action_at = [None] * count if action is None else action.unbind()
        for k in range(count):
            yield first + k, process_at[k], action_at[k]


@torch.no_grad()
def rollout(
    env: Environment, policy: Policy, start: RolloutState, steps: int, *, deterministic: bool = False
) -> tuple[Trajectory, RolloutState]:
    """Whole paths over `steps` control steps, without reset: K steps, B paths -> Trajectory [K, B, ...].

    All rows must stand at the same time. `deterministic` asks the policy for its deterministic action.
    """
    if steps < 1:
        raise ConfigError(f"steps must be at least 1, got {steps}")
    spec, batch, state = env.spec, start.batch, start.env
    if bool((state.t != state.t[0]).any()):
        raise ConfigError(
            "rollout needs all paths at the same time; use rollout_with_reset for paths that restart apart"
        )
    t = torch.empty(steps + 1, dtype=torch.float64, device=env.device)
    obs = torch.empty(steps + 1, batch, spec.observation_dim, dtype=env.dtype, device=env.device)
    action = torch.empty(steps, batch, spec.action_dim, dtype=env.dtype, device=env.device)
    reward = torch.empty(steps, batch, dtype=env.dtype, device=env.device)
    terminated = torch.zeros(steps, batch, dtype=torch.bool, device=env.device)
    t[0], obs[0] = state.t[0], env.observe(state)
    t_at, obs_at, action_at, reward_at = t.unbind(), obs.unbind(), action.unbind(), reward.unbind()  # views, made once
    over = env.terminated(state)
    for k, process_noise, action_noise in noise_chunks(env, 0 if deterministic else policy.noise_dim, start, steps):
        u = policy.act(obs_at[k], noise=action_noise)
        after, earned = env.transition(state, u, process_noise)
        if env.terminates:
            ended = env.terminated(after)
            earned = torch.where(over, 0.0, earned + torch.where(ended, env.terminal_reward(after), 0.0))
            after = EnvState(after.t, torch.where(over.unsqueeze(1), state.x, after.x))  # an ended path is absorbed
            terminated[k] = over = over | ended
        state = after
        t_at[k + 1].copy_(state.t[0])
        obs_at[k + 1].copy_(env.observe(state))
        action_at[k].copy_(u)
        reward_at[k].copy_(earned)
    dt = torch.full((steps,), spec.dt, dtype=torch.float64, device=env.device)
    return Trajectory(t, obs, action, reward, dt, terminated), start._replace(env=state, step=start.step + steps)


@torch.no_grad()
def rollout_with_reset(
    env: Environment, policy: Policy, start: RolloutState, steps: int, *, deterministic: bool = False
) -> tuple[Transitions, RolloutState]:
    """`steps` control steps in which finished rows start anew -> Transitions [K, B, ...].

    A row is finished when it terminates or reaches the horizon; `extras["last"]` marks its last step. `next_obs` stays
    the true one, and only a termination sets the discount to 0. `extras["t"]` is the time since the episode began [s],
    at the start of the step, and `extras["true_reward"]` is there if the environment has a true reward.
    """
    if steps < 1:
        raise ConfigError(f"steps must be at least 1, got {steps}")
    spec, batch, state = env.spec, start.batch, start.env
    shape = (steps, batch)
    new = {"dtype": env.dtype, "device": env.device}
    obs, next_obs = (torch.empty(*shape, spec.observation_dim, **new) for _ in range(2))  # type: ignore[call-overload]
    action = torch.empty(*shape, spec.action_dim, **new)  # type: ignore[call-overload]
    reward = torch.empty(shape, **new)  # type: ignore[call-overload]
    terminated, last = (torch.zeros(shape, dtype=torch.bool, device=env.device) for _ in range(2))
    since = torch.empty_like(reward)
    extras = {"last": last, "t": since}
    if env.has_true_reward:
        extras["true_reward"] = torch.empty_like(reward)
    ends_in_time = math.isfinite(spec.horizon)
    now = env.observe(state)
    for k, process_noise, action_noise in noise_chunks(env, 0 if deterministic else policy.noise_dim, start, steps):
        u = policy.act(now, noise=action_noise)
        after, earned = env.transition(state, u, process_noise)
        obs[k], action[k], next_obs[k], since[k] = now, u, env.observe(after), state.t
        if env.terminates:
            terminated[k] = ended = env.terminated(after)
            earned = earned + torch.where(ended, env.terminal_reward(after), 0.0)
        if env.has_true_reward:
            extras["true_reward"][k] = env.true_reward(state, u, after)
        reward[k], state = earned, after
        if env.terminates or ends_in_time:
            torch.logical_or(terminated[k], after.t > spec.horizon - 0.5 * spec.dt, out=last[k])
            state = restart(env, after, last[k], start.seed, start.row, start.step + k + 1)
        now = env.observe(state)
    dt = torch.full_like(reward, spec.dt)
    discount = torch.exp(-spec.discount_rate * dt) * ~terminated
    batch_of_steps = Transitions(obs, action, reward, discount, next_obs, dt, extras)
    return batch_of_steps, start._replace(env=state, step=start.step + steps)


def restart(env: Environment, state: EnvState, finished: Tensor, seed: int, row: Tensor, step: int) -> EnvState:
    """Replace the finished rows by fresh ones, whose noise belongs to (row, step); only those are made."""
    rows = finished.nonzero().squeeze(1)
    if len(rows) == 0:
        return state
    fresh = env.initial_state(initial_noise(env, seed, row[rows], step))
    return EnvState(state.t.index_copy(0, rows, fresh.t), state.x.index_copy(0, rows, fresh.x))
