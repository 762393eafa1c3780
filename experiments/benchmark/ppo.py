"""Stable-Baselines3's PPO on 64 copies: through our batched adapter beside its DummyVecEnv of single environments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from rlcore.envs.control.lqr import ScalarLqr
from rlcore.experiments.benchmark.peers import NumpyScalarLqr
from rlcore.experiments.benchmark.timing import interleave, table


def measure(copies: int = 64, steps: int = 64) -> list[dict[str, Any]]:
    """Trained environment steps per second: rollouts of 64 steps, 4 epochs of minibatches of 1024; one thread."""
    import stable_baselines3
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import DummyVecEnv

    from rlcore.interop.gymnasium import GymEnv
    from rlcore.interop.sb3 import Sb3VecEnv

    torch.set_num_threads(1)

    def training(vector: Any) -> Callable[[], int]:
        model = PPO("MlpPolicy", vector, n_steps=steps, batch_size=1024, n_epochs=4, device="cpu", seed=0)

        def work() -> int:
            model.learn(copies * steps, reset_num_timesteps=False)
            return copies * steps

        return work

    rates = interleave(
        {
            "PPO, rlcore Sb3VecEnv": training(Sb3VecEnv(ScalarLqr(), copies)),
            "PPO, DummyVecEnv of our GymEnv": training(DummyVecEnv([lambda: GymEnv(ScalarLqr())] * copies)),
            "PPO, DummyVecEnv of plain floats": training(DummyVecEnv([NumpyScalarLqr] * copies)),
        },
        rounds=5,
    )
    return table(rates, "PPO, rlcore Sb3VecEnv", batch=copies, versions=f"sb3 {stable_baselines3.__version__}")
