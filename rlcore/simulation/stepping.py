"""One control step of a rollout as a pure function. Every mode runs these; they differ only in what surrounds them.

`absorbing` keeps an ended path where it ended, `restarting` begins it anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from rlcore.errors import ConfigError
from rlcore.simulation.environment import Environment, EnvState, check_environment
from rlcore.simulation.noise import Draw, Stream, blocks, normals, step_noise
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


class Place(NamedTuple):
    """What one step hands to the next."""

    env: EnvState
    obs: Tensor  # [B, d]
    over: Tensor  # bool [B], whether the path has ended for ever


Record = dict[str, Tensor]
Renew = Callable[[EnvState, Tensor], EnvState]
"""Replaces the rows that are finished, bool [B], by fresh ones."""
Step = Callable[[Environment, Policy, Place, Tensor, Tensor | None, Renew], tuple[Place, Record]]
"""Process noise [B, w] and action noise [B, a] or None -> the next place and what is kept of the step."""


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


def absorbing(
    env: Environment, policy: Policy, place: Place, process: Tensor, action_noise: Tensor | None, renew: Renew
) -> tuple[Place, Record]:
    """A step of whole paths: one that ends stays where it ended and earns nothing more."""
    u = policy.act(place.obs, noise=action_noise)
    after, earned = env.transition(place.env, u, process)
    record, over = {"action": u}, place.over
    if env.terminates:
        ended = env.terminated(after)
        earned = torch.where(over, 0.0, earned + torch.where(ended, env.terminal_reward(after), 0.0))
        after = EnvState(after.t, torch.where(over.unsqueeze(1), place.env.x, after.x))
        record["terminated"] = over = over | ended
    obs = env.observe(after)
    return Place(after, obs, over), record | {"obs": obs, "reward": earned, "t": after.t[0]}


def restarting(
    env: Environment, policy: Policy, place: Place, process: Tensor, action_noise: Tensor | None, renew: Renew
) -> tuple[Place, Record]:
    """A step of paths that begin anew where they end, or reach the horizon; `next_obs` stays the true one."""
    spec, now = env.spec, place.obs
    u = policy.act(now, noise=action_noise)
    after, earned = env.transition(place.env, u, process)
    record = {"obs": now, "action": u, "next_obs": env.observe(after), "since": place.env.t.to(env.dtype)}
    last = None
    if env.terminates:
        record["terminated"] = last = env.terminated(after)
        earned = earned + torch.where(last, env.terminal_reward(after), 0.0)
    if env.has_true_reward:
        record["true_reward"] = env.true_reward(place.env, u, after)
    record["reward"] = earned
    if math.isfinite(spec.horizon):
        late = after.t > spec.horizon - 0.5 * spec.dt
        last = late if last is None else last | late
    if last is None:
        return Place(after, record["next_obs"], place.over), record
    record["last"] = last
    after = renew(after, last)
    return Place(after, env.observe(after), place.over), record


def restart(env: Environment, state: EnvState, finished: Tensor, seed: int, row: Tensor, step: int) -> EnvState:
    """Replace the finished rows by fresh ones, whose noise belongs to (row, step); only those are made."""
    rows = finished.nonzero().squeeze(1)
    if len(rows) == 0:
        return state
    fresh = env.initial_state(initial_noise(env, seed, row[rows], step))
    return EnvState(state.t.index_copy(0, rows, fresh.t), state.x.index_copy(0, rows, fresh.x))


def restarts(step: Step, env: Environment) -> bool:
    """Whether a path can begin anew under this step."""
    return step is restarting and (env.terminates or math.isfinite(env.spec.horizon))


def noise_of(
    env: Environment, width: int, stream: Stream, start: RolloutState, first: int, count: int, draw: Draw = blocks
) -> Tensor:
    """Noise [count, B, width] of steps first, first + 1, ... after the start."""
    if width == 0:
        return torch.zeros(count, start.batch, 0, dtype=env.dtype, device=env.device)
    return step_noise(start.seed, start.row, stream, start.step + first, count, width, env.dtype, draw)


def noise_spans(
    env: Environment, action_width: int, start: RolloutState, steps: int, multiple: int = 1, draw: Draw = blocks
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield (first step, process noise [C, B, w], action noise [C, B, a]), C a multiple of `multiple` till the end."""
    widths = (env.step_noise_dim, action_width)
    chunk = max(1, CHUNK_NUMBERS // max(1, start.batch * sum(widths)) // multiple) * multiple
    for first in range(0, steps, chunk):
        count = min(chunk, steps - first)
        process, action = (
            noise_of(env, width, stream, start, first, count, draw)
            for stream, width in zip((Stream.PROCESS, Stream.ACTION), widths, strict=True)
        )
        yield first, process, action


def noise_chunks(
    env: Environment, action_width: int, start: RolloutState, steps: int
) -> Iterator[tuple[int, Tensor, Tensor | None]]:
    """Yield (k, process noise [B, w], action noise [B, a] or None) for each step."""
    for first, process, action in noise_spans(env, action_width, start, steps):
        action_at = action.unbind() if action_width else [None] * len(process)
        yield from zip(range(first, first + len(process)), process.unbind(), action_at, strict=True)


def run_eager(
    step: Step, env: Environment, policy: Policy, start: RolloutState, steps: int, action_width: int, out: Record
) -> EnvState:
    """`steps` steps, one operation after the other; what is kept goes into `out`, [K, ...] each -> the last state."""
    place = first_place(env, start)
    at = {name: value.unbind() for name, value in out.items()}  # views, made once
    for k, process, action in noise_chunks(env, action_width, start, steps):
        place, record = step(env, policy, place, process, action, _renew(env, start, k + 1))
        for name, value in record.items():
            at[name][k].copy_(value)
    return place.env


def _renew(env: Environment, start: RolloutState, after: int) -> Renew:
    return lambda state, finished: restart(env, state, finished, start.seed, start.row, start.step + after)


def first_place(env: Environment, start: RolloutState) -> Place:
    """Where a loop begins."""
    return Place(start.env, env.observe(start.env), env.terminated(start.env))
