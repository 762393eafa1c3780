"""Stable-Baselines3's PPO on 64 copies: through our batched adapter beside its DummyVecEnv of single environments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from rlcore.envs.control.lqr import ScalarLqr
from rlcore.experiments.benchmark.plain_lqr import NumpyScalarLqr
from rlcore.experiments.benchmark.timing import interleave, table


def measure(copies: int = 64, steps: int = 64) -> list[dict[str, Any]]:
    """Environment steps per second of PPO's rollouts, the policy included, and of its whole training; one thread.

    Rollouts of 64 steps, 4 epochs of minibatches of 1024. Most of the training is SB3's own and the same for all.
    """
    import stable_baselines3
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import DummyVecEnv

    from rlcore.interop.gymnasium import GymEnv
    from rlcore.interop.sb3 import Sb3VecEnv

    class Collecting(PPO):
        """PPO that gathers and does not learn."""

        def train(self) -> None:
            pass

    def work_of(algorithm: type[PPO], vector: Any) -> Callable[[], int]:
        model = algorithm("MlpPolicy", vector, n_steps=steps, batch_size=1024, n_epochs=4, device="cpu", seed=0)

        def work() -> int:
            model.learn(copies * steps, reset_num_timesteps=False)
            return copies * steps

        return work

    torch.set_num_threads(1)
    vectors: dict[str, Callable[[], Any]] = {
        "rlcore Sb3VecEnv": lambda: Sb3VecEnv(ScalarLqr(), copies),
        "DummyVecEnv of our GymEnv": lambda: DummyVecEnv([lambda: GymEnv(ScalarLqr())] * copies),
        "DummyVecEnv of plain floats": lambda: DummyVecEnv([NumpyScalarLqr] * copies),
    }
    rows: list[dict[str, Any]] = []
    for what, algorithm in {"rollouts": Collecting, "training": PPO}.items():
        rates = interleave({f"{what}, {name}": work_of(algorithm, make()) for name, make in vectors.items()}, rounds=5)
        rows += table(rates, f"{what}, rlcore Sb3VecEnv", batch=copies, versions=f"sb3 {stable_baselines3.__version__}")
    return rows
