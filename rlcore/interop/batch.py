"""Parallel paths of one environment behind numpy arrays: what the Gymnasium and the Stable-Baselines3 adapter share.

The noise is that of the core: row i with seed s sees what row i of `begin(env, B, seed=s)` sees, and a row that starts
anew does so as in `rollout_with_reset`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray
from torch import Tensor

from rlcore.errors import ConfigError, NumericsError, RlcoreError, ShapeError
from rlcore.simulation.environment import Environment, EnvState, Renderable
from rlcore.simulation.noise import Stream, step_noise
from rlcore.simulation.stepping import CHUNK_NUMBERS, begin, initial_noise

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

CHUNK_STEPS = 1024  # at most so many steps of noise are drawn ahead, so that a reset of one path stays cheap


class ResetNeededError(RlcoreError, gymnasium.error.ResetNeeded):
    """A step was asked for before a reset, or after the end of an episode."""


class Step(NamedTuple):
    """What one control interval gives, before any reset."""

    obs: Floats  # [B, d] the true next observation
    reward: Floats  # [B] includes the terminal reward
    terminated: Bools  # [B]
    truncated: Bools  # [B] at the time limit, where it is not terminated


def spaces(env: Environment) -> tuple[Box, Box | Discrete]:
    """Observation and action space of one copy."""
    spec = env.spec
    observation = Box(-np.inf, np.inf, (spec.observation_dim,), np.float32)
    if spec.discrete:
        return observation, Discrete(spec.action_dim)
    return observation, Box(spec.action_low, spec.action_high, (spec.action_dim,), np.float32)


def metadata(env: Environment, render_mode: str | None) -> dict[str, Any]:
    """Gymnasium's metadata; refuses a render mode that the environment does not have."""
    modes = ["rgb_array"] if isinstance(env, Renderable) else []
    if render_mode is not None and render_mode not in modes:
        raise ConfigError(f"render_mode must be None or one of {modes} for {env.spec.name}, got {render_mode!r}")
    return {"render_modes": modes, "render_fps": max(1, round(1.0 / env.spec.dt))}


class BatchStepper:
    """B paths of one environment with a time limit: start, step, start anew. Every array it returns is a fresh copy."""

    def __init__(self, env: Environment, num_envs: int, max_episode_steps: int | None = None) -> None:
        if max_episode_steps is not None and max_episode_steps < 1:
            raise ConfigError(f"max_episode_steps must be at least 1, got {max_episode_steps}")
        self.env, self.num_envs = env, num_envs
        horizon = min(env.spec.horizon, (max_episode_steps or math.inf) * env.spec.dt)
        self.latest = horizon - 0.5 * env.spec.dt  # [s] a path beyond this time has reached its limit
        self.chunk = min(CHUNK_STEPS, max(1, CHUNK_NUMBERS // max(1, num_envs * env.step_noise_dim)))
        self.numpy_dtype = np.float32 if env.dtype == torch.float32 else np.float64
        self.over = np.ones(num_envs, dtype=bool)  # rows whose episode has ended and that wait for a reset
        self.waiting = True  # whether there is such a row
        self.safe_until: float = 0.0  # no row reaches its time limit before this control step
        self.started = False
        self.true_reward: Floats | None = None  # [B] of the last step, where the environment has one
        start = begin(env, num_envs, seed=0)  # checks num_envs and the contract of the environment
        self.state, self.row, self.count, self.seed = start
        self.began = np.zeros(num_envs, dtype=np.int64)  # the control step at which each episode began
        self.noise: Sequence[Tensor] = ()  # [B, w] of each step from noise_from on: views, made once per chunk
        self.noise_from = 0

    def begin(self, seed: int, first_row: int = 0) -> Floats:
        """Start every row from a seed; the rows are first_row, first_row + 1, ..."""
        self.state, self.row, self.count, self.seed = begin(self.env, self.num_envs, seed=seed, first_row=first_row)
        self.noise, self.started, self.true_reward = (), True, None
        self.over, self.waiting = np.zeros(self.num_envs, dtype=bool), False
        self.began[:], self.safe_until = 0, 0.0
        return self.observe()

    @torch.inference_mode()
    def restart(self, rows: Bools) -> Floats:
        """Start these rows anew, each with the next noise of its own -> observations of all rows."""
        if bool((self.began[rows] == self.count).any()):
            self.count += 1  # they began at this very step: its initial noise is spent
        fresh = self.env.initial_state(initial_noise(self.env, self.seed, self.row, self.count))
        self.state = select(rows, fresh, self.state)
        self.over[rows], self.began[rows], self.safe_until = False, self.count, 0.0
        self.waiting = bool(self.over.any())
        return self.observe()

    @torch.inference_mode()
    def step(self, action: Any, hold: Bools | None = None) -> Step:
        """One control interval under action [B, m]; the rows in `hold` stay where they are and earn nothing."""
        moves = None if hold is None else ~hold
        if self.waiting:
            self.check_started(self.over if moves is None else self.over & moves)
        taken = self.action(action, moves)
        after, earned = self.env.transition(self.state, taken, self.process_noise())
        if self.env.has_true_reward:
            true = as_floats(self.env.true_reward(self.state, taken, after))
            self.true_reward = true if hold is None else np.where(hold, np.float32(0.0), true)
        if hold is None and not self.may_end():
            self.state, self.count = after, self.count + 1
            return Step(self.observe(), as_floats(earned), *(np.zeros(self.num_envs, bool) for _ in range(2)))
        if hold is not None:
            after = select(hold, self.state, after)
        terminated = np.zeros(self.num_envs, bool)
        if self.env.terminates:
            ended = self.env.terminated(after)
            terminated = ended.cpu().numpy()
            earned = earned + torch.where(ended, self.env.terminal_reward(after), 0.0)
        truncated = (after.t.cpu().numpy() > self.latest) & ~terminated
        reward = as_floats(earned)
        if hold is not None:
            reward[hold], terminated = 0.0, terminated & ~hold
        self.state, self.count = after, self.count + 1
        self.over = terminated | truncated
        self.waiting = bool(self.over.any())
        return Step(self.observe(), reward, terminated.copy(), truncated)

    def may_end(self) -> bool:
        """Whether the coming step can end an episode: it terminates, or the oldest row may reach its limit."""
        if self.env.terminates or self.waiting:
            return True
        if self.count < self.safe_until:
            return False
        oldest = int(self.began.min())
        if math.isinf(self.latest):
            self.safe_until = math.inf
        else:
            self.safe_until = oldest + math.floor(self.latest / self.env.spec.dt) - 1  # one step short, for rounding
        return self.count >= self.safe_until

    def observe(self) -> Floats:  # -> [B, d]
        return as_floats(self.env.observe(self.state))

    def seconds(self) -> NDArray[np.float64]:  # -> [B] s since each episode began
        return np.array(self.state.t.cpu().numpy(), dtype=np.float64)

    def frame(self, row: int) -> NDArray[np.uint8]:  # -> [H, W, 3]
        """A drawing of one row."""
        if not isinstance(self.env, Renderable):
            raise ConfigError(f"{self.env.spec.name} cannot be drawn; give its class a `render(state)`")
        return self.env.render(EnvState(self.state.t[row : row + 1], self.state.x[row : row + 1]))

    def process_noise(self) -> Tensor:  # -> [B, w]
        place = self.count - self.noise_from
        if not 0 <= place < len(self.noise):
            env, place = self.env, 0
            self.noise_from = self.count
            if env.step_noise_dim:
                numbers = (self.count, self.chunk, env.step_noise_dim)
                self.noise = step_noise(self.seed, self.row, Stream.PROCESS, *numbers, env.dtype).unbind()
            else:
                self.noise = [torch.zeros(self.num_envs, 0, dtype=env.dtype, device=env.device)] * self.chunk
        return self.noise[place]

    def action(self, value: Any, moves: Bools | None) -> Tensor:  # -> [B, m]
        """The action as a tensor of its own; rows that do not move may hold anything."""
        spec = self.env.spec
        if spec.discrete and np.ndim(value) == 1:
            value = chosen(value, spec.action_dim)
        check_action_shape(value, (self.num_envs, spec.action_dim))
        action: NDArray[np.floating[Any]] = np.array(value, dtype=self.numpy_dtype)
        if not np.isfinite(np.vdot(action, action)):  # one cheap call; finite numbers may still overflow in it
            finite = np.isfinite(action)
            bad = ~finite.all(axis=1) if moves is None else ~finite.all(axis=1) & moves
            if bad.any():
                raise NumericsError(f"action must be finite, got {action[bad][0].tolist()} in row {int(bad.argmax())}")
        return torch.from_numpy(action).to(self.env.device)

    def check_started(self, over: Bools) -> None:
        if not self.started:
            raise ResetNeededError(f"{self.env.spec.name} was not reset yet; call reset() before step()")
        if over.any():
            rows = np.flatnonzero(over).tolist()
            raise ResetNeededError(f"the episode is over in rows {rows}; reset them before the next step")


def check_action_shape(value: Any, shape: tuple[int, ...]) -> None:
    """Raise unless the action has exactly this shape."""
    if np.shape(value) != shape:
        raise ShapeError(f"action must have shape {list(shape)}, got {list(np.shape(value))}; reshape it first")


def chosen(value: Any, choices: int) -> NDArray[np.float32]:  # [N] -> [N, m]
    """Choices by number as scores, 1 for the one that is chosen."""
    number = np.asarray(value)
    if not np.issubdtype(number.dtype, np.integer) or ((number < 0) | (number >= choices)).any():
        raise ShapeError(f"action must be a whole number from 0 to {choices - 1}, got {number.tolist()}")
    scores: NDArray[np.float32] = np.eye(choices, dtype=np.float32)[number]
    return scores


def as_floats(value: Tensor) -> Floats:
    """A float32 NumPy copy."""
    return np.array(value.cpu().numpy(), dtype=np.float32)


def select(rows: Bools, chosen: EnvState, other: EnvState) -> EnvState:
    """`chosen` in these rows and `other` elsewhere."""
    mask = torch.from_numpy(rows).to(other.x.device)
    return EnvState(torch.where(mask, chosen.t, other.t), torch.where(mask.unsqueeze(1), chosen.x, other.x))
