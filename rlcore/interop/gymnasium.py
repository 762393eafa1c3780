"""Gymnasium views of an environment: one copy (`GymEnv`) and natively batched copies (`GymVectorEnv`).

Both end an episode themselves: `terminated` comes from the environment, `truncated` from its horizon (and from
`max_episode_steps`), so a registered id needs no `TimeLimit` wrapper. Observations and rewards are float32; `info` has
`t`, the seconds since the episode began, and `dt`, the control interval [s], and after a step `true_reward` where the
environment has a true reward beside the one it pays. The last reward includes a terminal reward.

Seeds: `reset(seed=s)` starts rows 0, 1, ... of seed s of the core (`options={"first_row": i}` starts at row i), and a
later `reset()` goes on with new episodes of the same rows.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from rlcore.errors import ConfigError, ShapeError
from rlcore.interop.batch import BatchStepper, Bools, Floats, check_action_shape, metadata, spaces
from rlcore.simulation.environment import Environment


class GymEnv(gymnasium.Env[Floats, Floats]):
    """One copy of an environment for Gymnasium: float32 arrays in and out."""

    def __init__(self, env: Environment, render_mode: str | None = None) -> None:
        self.env, self.render_mode = env, render_mode
        self.metadata = metadata(env, render_mode)
        self.observation_space, self.action_space = spaces(env)  # type: ignore[assignment]
        self.stepper = BatchStepper(env, 1)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Floats, dict[str, Any]]:
        super().reset(seed=seed)
        first_row = (options or {}).get("first_row")
        if seed is not None or first_row is not None or not self.stepper.started:
            obs = self.stepper.begin(self.np_random_seed, first_row or 0)
        else:
            obs = self.stepper.restart(np.ones(1, dtype=bool))
        return obs[0], self.info()

    def step(self, action: Any) -> tuple[Floats, float, bool, bool, dict[str, Any]]:
        if not (self.env.spec.discrete and np.ndim(action) == 0):
            check_action_shape(action, (self.env.spec.action_dim,))
        after = self.stepper.step(np.asarray(action)[None])
        return after.obs[0], float(after.reward[0]), bool(after.terminated[0]), bool(after.truncated[0]), self.info()

    def info(self) -> dict[str, Any]:
        info = {"t": float(self.stepper.seconds()[0]), "dt": self.env.spec.dt}
        true = self.stepper.true_reward
        return info if true is None else info | {"true_reward": float(true[0])}

    def render(self) -> NDArray[np.uint8] | None:
        return None if self.render_mode is None else self.stepper.frame(0)


class GymVectorEnv(VectorEnv[Floats, Floats, NDArray[Any]]):
    """Many copies of an environment as one Gymnasium vector environment, stepped as one batch.

    | mode      | after the end of an episode                                                              |
    |-----------|------------------------------------------------------------------------------------------|
    | NEXT_STEP | the next step ignores the row's action, and returns a reset observation and reward 0     |
    | SAME_STEP | the same step returns the reset observation; the true one is in `info["final_obs"]`      |
    | DISABLED  | the row waits for `reset(options={"reset_mask": rows})`; a step before that raises       |
    """

    def __init__(
        self,
        env: Environment,
        num_envs: int,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.env, self.num_envs, self.render_mode = env, num_envs, render_mode
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**metadata(env, render_mode), "autoreset_mode": self.autoreset_mode}
        self.single_observation_space, self.single_action_space = spaces(env)
        self.stepper = BatchStepper(env, num_envs, max_episode_steps)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Floats, dict[str, Any]]:
        chosen = options or {}
        rows, first_row = chosen.get("reset_mask"), chosen.get("first_row")
        if seed is not None and not isinstance(seed, int | np.integer):
            raise ConfigError(f"seed must be one integer, of which each copy is a row, got {seed!r}")
        if rows is not None:
            return self.reset_rows(rows, seed)
        super().reset(seed=seed)
        if seed is not None or first_row is not None or not self.stepper.started:
            obs = self.stepper.begin(self.np_random_seed or 0, first_row or 0)
        else:
            obs = self.stepper.restart(np.ones(self.num_envs, dtype=bool))
        return obs, self.info()

    def reset_rows(self, rows: Any, seed: int | None) -> tuple[Floats, dict[str, Any]]:
        """A partial reset, of the rows where the mask is true."""
        mask = np.asarray(rows)
        if mask.dtype != np.bool_ or mask.shape != (self.num_envs,) or not mask.any():
            raise ShapeError(f"reset_mask must be bool [{self.num_envs}] with a True in it, got {rows!r}")
        if seed is not None:
            raise ConfigError(f"a partial reset goes on with the noise of its rows, got seed={seed}; leave it out")
        self.stepper.check_started(np.zeros(self.num_envs, dtype=bool))
        return self.stepper.restart(mask), self.info(mask)

    def step(self, actions: Any) -> tuple[Floats, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        stepper = self.stepper
        hold = None
        if self.autoreset_mode is AutoresetMode.NEXT_STEP and stepper.started and stepper.waiting:
            hold = stepper.over.copy()
            stepper.restart(hold)
        after = stepper.step(actions, hold)
        obs, info = after.obs, self.info()
        if self.autoreset_mode is AutoresetMode.SAME_STEP and stepper.waiting:
            ended = stepper.over.copy()
            final_obs = np.full(self.num_envs, None, dtype=object)
            for i in np.flatnonzero(ended).tolist():
                final_obs[i] = after.obs[i].copy()
            final = {"final_obs": final_obs, "_final_obs": ended, "final_info": self.info(ended), "_final_info": ended}
            obs = stepper.restart(ended)
            info = final | self.info()
        return obs, after.reward, after.terminated, after.truncated, info

    def info(self, rows: Bools | None = None) -> dict[str, Any]:
        """Time and control interval of these rows, by default of all, with Gymnasium's masks."""
        t, dt = self.stepper.seconds(), np.full(self.num_envs, self.env.spec.dt)
        if rows is None:
            every = np.ones(self.num_envs, dtype=bool)
            return {"t": t, "_t": every, "dt": dt, "_dt": every.copy()} | self.true(every)
        t[~rows] = dt[~rows] = 0.0
        return {"t": t, "_t": rows.copy(), "dt": dt, "_dt": rows.copy()} | self.true(rows)

    def true(self, rows: Bools) -> dict[str, Any]:
        """The true reward of the last step, where the environment tells it from its own."""
        true = self.stepper.true_reward
        return {} if true is None else {"true_reward": np.where(rows, true, 0.0), "_true_reward": rows.copy()}

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        return None if self.render_mode is None else tuple(self.stepper.frame(i) for i in range(self.num_envs))
