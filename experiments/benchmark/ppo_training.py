"""Whole PPO training on the pendulum beside Stable-Baselines3's: the same networks, rows, epochs and minibatches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from rlcore.agents.orpo import PpoConfig, ppo
from rlcore.envs.control.pendulum import Pendulum
from rlcore.experiments.benchmark.timing import interleave, table
from rlcore.training import RolloutSource

BEST = "rlcore Ppo, compiled"


def ours(
    copies: int, steps: int, minibatch: int, *, compiled: bool, seeds: int = 1, device: str = "cpu"
) -> Callable[[], int]:
    """Rollout and update of `Ppo`; with several seeds each has `copies` paths of its own."""
    env = Pendulum(device=device)
    config = PpoConfig(trace_time=1.0, epochs=4, minibatch=minibatch, compiled=compiled)
    agent = ppo(env.spec, config, seeds=seeds).to(device)
    source = RolloutSource(env, copies * seeds, steps, seed=0)

    def work() -> int:
        agent.update(source.next(agent))
        if device != "cpu":
            torch.cuda.synchronize()
        return copies * seeds * steps

    return work


def peer(vector: Any, steps: int, minibatch: int) -> Callable[[], int]:
    """Rollout and update of Stable-Baselines3's PPO, two hidden layers of 64 and tanh as ours."""
    from stable_baselines3 import PPO

    kinds = {"net_arch": [64, 64], "activation_fn": nn.Tanh}
    model = PPO(
        "MlpPolicy", vector, n_steps=steps, batch_size=minibatch, n_epochs=4, device="cpu", seed=0, policy_kwargs=kinds
    )

    def work() -> int:
        model.learn(vector.num_envs * steps, reset_num_timesteps=False)
        return int(vector.num_envs) * steps

    return work


def rates(
    copies: int = 64, steps: int = 64, minibatch: int = 512, rounds: int = 7, *, compiled: bool = True
) -> dict[str, list[float]]:
    """Environment steps per second of rollouts and updates together; one thread."""
    from stable_baselines3.common.vec_env import DummyVecEnv

    from rlcore.interop.gymnasium import GymEnv
    from rlcore.interop.sb3 import Sb3VecEnv

    torch.set_num_threads(1)
    workloads = {"rlcore Ppo": ours(copies, steps, minibatch, compiled=False)}
    if compiled:
        workloads[BEST] = ours(copies, steps, minibatch, compiled=True)
    workloads["rlcore Ppo, five seeds at once"] = ours(copies, steps, minibatch, compiled=compiled, seeds=5)
    workloads["sb3 PPO, our vector"] = peer(Sb3VecEnv(Pendulum(), copies), steps, minibatch)
    workloads["sb3 PPO, DummyVecEnv"] = peer(DummyVecEnv([lambda: GymEnv(Pendulum())] * copies), steps, minibatch)
    return interleave(workloads, rounds=rounds)


def measure() -> list[dict[str, Any]]:
    """Steps per second of training with 64 environments, and with 16 of them and small minibatches."""
    import stable_baselines3

    rows: list[dict[str, Any]] = []
    for copies, steps, minibatch in ((64, 64, 512), (16, 128, 64)):
        named = {f"{name}, minibatch {minibatch}": r for name, r in rates(copies, steps, minibatch).items()}
        about = {"batch": copies, "versions": f"sb3 {stable_baselines3.__version__}"}
        rows += table(named, f"{BEST}, minibatch {minibatch}", **about)
    if torch.cuda.is_available():
        for copies, minibatch in ((4096, 65536),):
            gpu = {
                f"{'compiled' if compiled else 'eager'}, GPU": ours(
                    copies, 64, minibatch, compiled=compiled, device="cuda"
                )
                for compiled in (True, False)
            }
            rows += table(interleave(gpu, rounds=5), "compiled, GPU", batch=copies)
    return rows
