"""What Gymnasium calls to build our environments, and the door for a user's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
from gymnasium.vector import AutoresetMode

from rlcore.envs import make
from rlcore.interop.gymnasium import GymEnv, GymVectorEnv
from rlcore.simulation import Environment


def make_gym(env_id: str, render_mode: str | None = None, **overrides: Any) -> GymEnv:
    """Entry point of `gymnasium.make`; `overrides` are settings, `dtype` or `device`."""
    return GymEnv(make(env_id, **overrides), render_mode=render_mode)


def make_gym_vector(
    env_id: str,
    num_envs: int = 1,
    autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
    max_episode_steps: int | None = None,
    render_mode: str | None = None,
    **overrides: Any,
) -> GymVectorEnv:
    """Entry point of `gymnasium.make_vec`: all copies step at once, as one batch."""
    env = make(env_id, **overrides)
    return GymVectorEnv(env, num_envs, autoreset_mode, max_episode_steps, render_mode)


def register(env_id: str, factory: Callable[..., Environment], **kwargs: Any) -> None:
    """Make `gymnasium.make(env_id)` and `gymnasium.make_vec(env_id)` build factory(**kwargs).

    `factory` is an environment class or any function that returns one; keywords given to `make` reach it too.
    """

    def single(render_mode: str | None = None, **given: Any) -> GymEnv:
        return GymEnv(factory(**given), render_mode=render_mode)

    def vector(
        num_envs: int = 1,
        autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        **given: Any,
    ) -> GymVectorEnv:
        return GymVectorEnv(factory(**given), num_envs, autoreset_mode, max_episode_steps, render_mode)

    gymnasium.register(id=env_id, entry_point=single, vector_entry_point=vector, kwargs=kwargs)
