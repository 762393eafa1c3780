"""Stable-Baselines3 views: our environments as its `VecEnv`, its models as our `Policy`.

Importing this module imports Stable-Baselines3; nothing else in the library does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Discrete
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from rlcore.errors import ConfigError
from rlcore.interop.batch import BatchStepper, Bools, Floats, chosen, metadata, spaces
from rlcore.simulation.environment import Environment


class Sb3VecEnv(VecEnv):
    """Many copies of one environment, stepped as one batch; a row that ends starts anew in the same step.

    An ended row's info has `terminal_observation`, the true last observation, and `TimeLimit.truncated`.
    """

    def __init__(self, env: Environment, num_envs: int, seed: int = 0, render_mode: str | None = None) -> None:
        metadata(env, render_mode)
        self.env, self.render_mode = env, render_mode
        self.stepper = BatchStepper(env, num_envs)
        self.actions: Any = None
        super().__init__(num_envs, *spaces(env))
        self.seed(seed)

    def reset(self) -> Floats:
        seed = self._seeds[0]
        if seed is not None or not self.stepper.started:
            obs = self.stepper.begin(seed or 0)
        else:
            obs = self.stepper.restart(np.ones(self.num_envs, dtype=bool))
        self.reset_infos = self.infos()
        self._reset_seeds()
        self._reset_options()
        return obs

    def step_async(self, actions: NDArray[Any]) -> None:
        self.actions = actions

    def step_wait(self) -> tuple[Floats, Floats, Bools, list[dict[str, Any]]]:
        after = self.stepper.step(self.actions)
        obs, ended = after.obs, self.stepper.over.copy()
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if ended.any():
            obs = self.stepper.restart(ended)
            begun = self.infos()
            for i in np.flatnonzero(ended).tolist():
                infos[i]["terminal_observation"] = after.obs[i].copy()
                infos[i]["TimeLimit.truncated"] = bool(after.truncated[i])
                self.reset_infos[i] = begun[i]
        if self.stepper.true_reward is not None:
            for info, true in zip(infos, self.stepper.true_reward.tolist(), strict=True):
                info["true_reward"] = true
        return obs, after.reward, ended, infos

    def infos(self) -> list[dict[str, Any]]:
        return [{"t": t, "dt": self.env.spec.dt} for t in self.stepper.seconds().tolist()]

    def close(self) -> None:
        pass

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        return [self.stepper.frame(i) for i in range(self.num_envs)]

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        value = self.render_mode if attr_name == "render_mode" else getattr(self.env, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise ConfigError(f"the copies share one unchanging environment: cannot set {attr_name!r}; make a new one")

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """Call a method of the one batched environment, and give its answer for every index."""
        answer = getattr(self.env, method_name)(*method_args, **method_kwargs)
        return [answer for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False for _ in self._get_indices(indices)]


@dataclass(frozen=True)
class Sb3Policy:
    """A trained model as a policy. One that is not deterministic draws from torch's global generator.

    The statistics of a `VecNormalize` around the model's environments are applied to the observations.
    """

    model: BaseAlgorithm
    deterministic: bool = True
    noise_dim: int = 0

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:  # [B, d] -> [B, m]
        values: NDArray[Any] = obs.detach().cpu().numpy().astype(np.float32)
        normaliser = self.model.get_vec_normalize_env()
        if normaliser is not None:
            values = np.asarray(normaliser.normalize_obs(values))
        action, _ = self.model.predict(values, deterministic=self.deterministic)
        if isinstance(self.model.action_space, Discrete):
            action = chosen(action, int(self.model.action_space.n))
        return torch.as_tensor(action, dtype=obs.dtype, device=obs.device)
