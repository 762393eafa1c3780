"""Whole PPO training on the pendulum beside Stable-Baselines3's and SBX's: the same networks, rows and epochs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from rlcore.agents.orpo import Ppo, PpoConfig, ppo
from rlcore.envs.control.pendulum import Pendulum
from rlcore.experiments.benchmark.machine import machine
from rlcore.experiments.benchmark.peer_process import Peer, PeerProcess, compare
from rlcore.experiments.benchmark.timing import Work, interleave, table
from rlcore.simulation.rollout import Mode
from rlcore.training import RolloutSource

BEST, BEST_UPDATE = "rlcore Ppo, compiled", "rlcore Ppo, update, compiled"


def agent_of(env: Pendulum, minibatch: int, *, compiled: bool, seeds: int = 1, device: str = "cpu") -> Ppo:
    """Our PPO; GAE's lambda is 0.95 for a control interval of 0.05 s."""
    config = PpoConfig(trace_time=1.0, epochs=4, minibatch=minibatch, compiled=compiled)
    return ppo(env.spec, config, seeds=seeds).to(device)


def ours(
    copies: int, steps: int, minibatch: int, *, compiled: bool, seeds: int = 1, device: str = "cpu"
) -> Callable[[], int]:
    """Rollout and update of `Ppo`, both compiled or both eager; with several seeds each has `copies` paths."""
    env = Pendulum(device=device)
    agent = agent_of(env, minibatch, compiled=compiled, seeds=seeds, device=device)
    mode: Mode = ("graph" if device == "cuda" else "compiled") if compiled else "eager"
    source = RolloutSource(env, copies * seeds, steps, seed=0, mode=mode)

    def work() -> int:
        agent.update(source.next(agent))
        if device != "cpu":
            torch.cuda.synchronize()
        return copies * seeds * steps

    return work


def our_update(copies: int, steps: int, minibatch: int, *, compiled: bool) -> Callable[[], int]:
    """Advantages and gradient steps of `Ppo` on one batch, again and again -> how many gradient steps."""
    env = Pendulum()
    agent = agent_of(env, minibatch, compiled=compiled)
    batch = RolloutSource(env, copies, steps, seed=0).next(agent)

    def work() -> int:
        agent.update(batch)
        return 4 * (copies * steps // minibatch)

    return work


def model_of(vector: Any, steps: int, minibatch: int) -> Any:
    """Stable-Baselines3's PPO, two hidden layers of 64 and tanh as ours."""
    from stable_baselines3 import PPO

    kinds = {"net_arch": [64, 64], "activation_fn": nn.Tanh}
    return PPO(
        "MlpPolicy", vector, n_steps=steps, batch_size=minibatch, n_epochs=4, device="cpu", seed=0, policy_kwargs=kinds
    )


def peer(vector: Any, steps: int, minibatch: int) -> Callable[[], int]:
    """Rollout and update of Stable-Baselines3's PPO."""
    model = model_of(vector, steps, minibatch)

    def work() -> int:
        model.learn(vector.num_envs * steps, reset_num_timesteps=False)
        return int(vector.num_envs) * steps

    return work


def peer_update(vector: Any, steps: int, minibatch: int) -> Callable[[], int]:
    """Gradient steps of Stable-Baselines3's PPO on the rows of one rollout; it has its advantages from before."""
    model = model_of(vector, steps, minibatch)
    model.learn(vector.num_envs * steps)

    def work() -> int:
        model.train()
        return 4 * (int(vector.num_envs) * steps // minibatch)

    return work


def workloads(copies: int, steps: int, minibatch: int, *, compiled: bool = True) -> dict[str, Work]:
    """Ours, and Stable-Baselines3's on our vector and on single environments."""
    from stable_baselines3.common.vec_env import DummyVecEnv

    from rlcore.interop.gymnasium import GymEnv
    from rlcore.interop.sb3 import Sb3VecEnv

    torch.set_num_threads(1)
    found = {"rlcore Ppo": ours(copies, steps, minibatch, compiled=False)}
    if compiled:
        found[BEST] = ours(copies, steps, minibatch, compiled=True)
    found["rlcore Ppo, five seeds at once"] = ours(copies, steps, minibatch, compiled=compiled, seeds=5)
    found["sb3 PPO, our vector"] = peer(Sb3VecEnv(Pendulum(), copies), steps, minibatch)
    found["sb3 PPO, DummyVecEnv"] = peer(DummyVecEnv([lambda: GymEnv(Pendulum())] * copies), steps, minibatch)
    return found


def updates(copies: int, steps: int, minibatch: int, *, compiled: bool = True) -> dict[str, Work]:
    """The updates alone, ours with the advantages and Stable-Baselines3's without."""
    from rlcore.interop.sb3 import Sb3VecEnv

    torch.set_num_threads(1)
    found = {"rlcore Ppo, update": our_update(copies, steps, minibatch, compiled=False)}
    if compiled:
        found[BEST_UPDATE] = our_update(copies, steps, minibatch, compiled=True)
    found["sb3 PPO, update"] = peer_update(Sb3VecEnv(Pendulum(), copies), steps, minibatch)
    return found


def rates(
    copies: int = 64, steps: int = 64, minibatch: int = 512, rounds: int = 7, *, compiled: bool = True
) -> dict[str, list[float]]:
    """Environment steps per second of rollouts and updates together; one thread."""
    return interleave(workloads(copies, steps, minibatch, compiled=compiled), rounds=rounds)


def operations() -> float:
    """Of one environment step: four epochs of forward and backward passes of two networks 3-64-64-1."""
    return 4.0 * 2.0 * 6.0 * (3 * 64 + 64 * 64 + 64)


SIZES = ((64, 64, 512), (16, 128, 64))
"""Environments, steps of a rollout, minibatch."""


def measure(rounds: int = 5) -> list[dict[str, Any]]:
    """Steps per second of training. SBX trains on Gymnasium's pendulum: another environment, a like update."""
    import stable_baselines3

    version, rows = f"sb3 {stable_baselines3.__version__}", []
    limit = machine().limit(operations=operations())
    with PeerProcess() as process:
        for copies, steps, minibatch in SIZES:
            settings = {"copies": copies, "steps": steps, "minibatch": minibatch}
            about: dict[str, Any] = {
                "what": f"PPO, {copies} x {steps}, minibatch {minibatch}",
                "batch": copies,
                "limit": limit,
            }
            there = [Peer("SBX PPO", "sbx_agents", "ppo", settings)]
            rows += compare(process, workloads(copies, steps, minibatch), there, BEST, rounds=rounds, **about)
            alone = interleave(updates(copies, steps, minibatch), rounds=rounds, least=0.1)
            rows += table(alone, BEST_UPDATE, what=f"{about['what']}, gradient steps", batch=copies, versions=version)
    for row in rows:
        if row["workload"].startswith("sb3"):
            row["versions"] = version
    if torch.cuda.is_available():
        gpu = {"compiled": ours(4096, 64, 65536, compiled=True, device="cuda")}
        gpu["eager"] = ours(4096, 64, 65536, compiled=False, device="cuda")
        found = interleave(gpu, rounds=5, clock="wall")
        rows += table(found, "compiled", clock="wall", what="PPO, GPU", batch=4096, device="cuda")
    return rows
