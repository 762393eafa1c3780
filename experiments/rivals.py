"""Stable-Baselines3's SAC and PPO for the sweep over dt: as a newcomer would run them, and scaled to physical time.

All of them get the same physical time and the same number of gradient steps at every dt. What "naive" keeps per step,
"fair" scales:

| | naive | fair |
|---|---|---|
| discount of a step | that of dt = .05 s | exp(-beta dt) |
| exploration of SAC | drawn anew at every step | gSDE, drawn anew every `correlation_time` |
| GAE's lambda of PPO | .95 | .95^(dt / .05) |
"""

from __future__ import annotations

from typing import Any, Literal

from rlcore.experiments.tasks import Task, steps_of
from rlcore.timegrid import discount

RivalName = Literal["sac-naive", "sac-fair", "ppo-naive", "ppo-fair"]
REFERENCE_DT = 0.05  # s, where naive and fair agree
PPO_ROLLOUTS, PPO_EPOCHS, PPO_MINIBATCHES = 40, 8, 4


def make_rival(
    name: RivalName, task: Task, paths: int, seconds: float, updates: int, correlation_time: float, seed: int
) -> Any:
    """An untrained model on `paths` copies, which learns for `seconds` per copy; SAC takes `updates` gradient steps."""
    from stable_baselines3 import PPO, SAC

    from rlcore.interop.sb3 import Sb3VecEnv

    spec, naive = task.env.spec, name.endswith("naive")
    gamma = discount(spec.discount_rate, REFERENCE_DT if naive else spec.dt)
    common: dict[str, Any] = {"gamma": gamma, "seed": seed, "device": "cpu", "policy_kwargs": {"net_arch": [64, 64]}}
    calls = steps_of(seconds, spec.dt)
    vector = Sb3VecEnv(task.env, paths, seed=seed)
    if name.startswith("ppo"):
        steps = max(8, calls // PPO_ROLLOUTS)
        trace = 0.95 if naive else 0.95 ** (spec.dt / REFERENCE_DT)
        common |= {"n_steps": steps, "batch_size": steps * paths // PPO_MINIBATCHES, "n_epochs": PPO_EPOCHS}
        return PPO("MlpPolicy", vector, gae_lambda=trace, learning_rate=1e-3, **common)
    every = max(1, calls // 320)  # calls of the environments between two groups of gradient steps
    explore: dict[str, Any] = {} if naive else {"use_sde": True, "sde_sample_freq": steps_of(correlation_time, spec.dt)}
    return SAC(
        "MlpPolicy",
        vector,
        train_freq=every,
        gradient_steps=max(1, round(updates * every / calls)),
        learning_starts=calls * paths // 20,
        buffer_size=min(1_000_000, calls * paths),
        learning_rate=1e-3,
        **explore,
        **common,
    )
