"""Training by SBX, Stable-Baselines3's algorithms in JAX: PPO on the pendulum, and SAC's updates on rows of noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box


def ppo(copies: int, steps: int, minibatch: int) -> Callable[[], int]:
    """Rollout and update, two hidden layers of 64 and tanh, 4 epochs, on Gymnasium's pendulum."""
    from sbx import PPO
    from stable_baselines3.common.vec_env import DummyVecEnv

    vector = DummyVecEnv([lambda: gymnasium.make("Pendulum-v1")] * copies)
    model = PPO(
        "MlpPolicy", vector, n_steps=steps, batch_size=minibatch, n_epochs=4, seed=0,
        policy_kwargs={"net_arch": [64, 64]},
    )  # fmt: skip

    def work() -> int:
        model.learn(copies * steps, reset_num_timesteps=False)
        return copies * steps

    return work


class Still(gymnasium.Env[Any, Any]):
    """Spaces without a world: nothing is gathered here."""

    def __init__(self, observations: int, actions: int) -> None:
        self.observation_space = Box(-np.inf, np.inf, (observations,), np.float32)
        self.action_space = Box(-1.0, 1.0, (actions,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        return np.zeros(self.observation_space.shape or (), np.float32), {}


def sac(observations: int, actions: int, width: int, updates: int, rows: int) -> Callable[[], int]:
    """Updates of 256 rows, drawing them included."""
    from sbx import SAC

    model = SAC(
        "MlpPolicy", Still(observations, actions), policy_kwargs={"net_arch": [width, width]}, batch_size=256,
        buffer_size=rows, gradient_steps=updates, seed=0,
    )  # fmt: skip
    model._setup_learn(1)
    generator = np.random.default_rng(0)
    for _ in range(rows):
        obs, after = generator.standard_normal((2, 1, observations), np.float32)
        action = generator.uniform(-1.0, 1.0, (1, actions)).astype(np.float32)
        model.replay_buffer.add(obs, after, action, obs[:, 0], np.zeros(1), [{}])

    def work() -> int:
        model.train(batch_size=256, gradient_steps=updates)
        return updates

    return work


WORKLOADS = {"ppo": ppo, "sac": sac}
LIBRARIES = {"ppo": ("sbx-rl", "jax"), "sac": ("sbx-rl", "jax")}
