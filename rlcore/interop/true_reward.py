"""A true reward beside the proxy for any environment of Gymnasium: by the name of an info key, or by a function."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import gymnasium

from rlcore.errors import ConfigError, DataError

TrueReward = Callable[[Any, Any, float, dict[str, Any]], float]
"""(next observation, action, reward, info) -> what the step really was worth."""


class WithTrueReward(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Puts `true_reward` into info after every step; the reward that is paid stays the proxy.

    `source` is a key of the environment's info, or a function of (next observation, action, reward, info).
    """

    def __init__(self, env: gymnasium.Env[Any, Any], source: str | TrueReward) -> None:
        super().__init__(env)
        if not isinstance(source, str) and not callable(source):
            raise ConfigError(
                f"the true reward must be the name of an info key, or a function of (obs, action, reward, info), got "
                f"{source!r}"
            )
        self.source = source

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        if isinstance(self.source, str):
            if self.source not in info:
                raise DataError(
                    f"info has no true reward under {self.source!r}, only {sorted(info)}; name another key, or give a "
                    "function of (obs, action, reward, info)"
                )
            true = info[self.source]
        else:
            true = self.source(obs, action, float(reward), info)
        return obs, reward, terminated, truncated, {**info, "true_reward": number(true)}


def number(true: Any) -> float:
    """The true reward of a step, which has to be a finite number."""
    try:
        found = float(true)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        raise DataError(
            f"the true reward of a step must be a finite number, got {true!r}; check its info key or function"
        )
    return found
