"""What the studies in Gymnasium's environments have in common: episodes that succeed, and a data set made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from rlcore.data import Transitions
from rlcore.interop.recording import MakeEnv
from rlcore.simulation.policy import Policy

FIELDS = ("obs", "action", "reward", "discount", "next_obs", "dt")


class Trials:
    """Share of episodes that a deterministic policy ends by success, of each of S learners; the same starts every time.

    An episode is a success where it terminates: the environments that this is for terminate for nothing else.
    """

    def __init__(self, make_env: MakeEnv, *, episodes: int, learners: int, seed: int) -> None:
        self.make_env, self.episodes, self.learners, self.seed = make_env, episodes, learners, seed % 2**31
        self.envs: list[gymnasium.Env[Any, Any]] = []  # made at the first call

    @torch.no_grad()
    def __call__(self, policy: Policy) -> Tensor:  # -> [S]
        """Row b of the episodes is of learner b mod S."""
        self.envs = self.envs or [self.make_env() for _ in range(self.episodes * self.learners)]
        obs = np.stack([env.reset(seed=self.seed + i)[0] for i, env in enumerate(self.envs)])  # [B, d]
        running, success = np.ones(len(obs), bool), torch.zeros(len(obs))
        while running.any():
            action = policy.act(torch.from_numpy(obs).float()).numpy()
            for i in np.flatnonzero(running):
                obs[i], _, terminated, truncated, _ = self.envs[i].step(action[i])
                success[i], running[i] = float(terminated), not (terminated or truncated)
        return success.view(self.episodes, self.learners).mean(0)


class OnDisk:
    """A data set that is made at the first call and read again from a file after that, so that nobody keeps it."""

    def __init__(self, make: Callable[[], Transitions], path: Path) -> None:
        self.make, self.path = make, path

    def __call__(self) -> Transitions:
        if not self.path.exists():
            rows = self.make()
            torch.save({name: getattr(rows, name) for name in FIELDS} | {"last": rows.extras["last"]}, self.path)
        stored = torch.load(self.path, weights_only=True)
        return Transitions(**{name: stored[name] for name in FIELDS}, extras={"last": stored["last"]})
