"""Stable-Baselines3's PPO and SAC on our environments, scaled fairly to physical time and logged under the same tags.

    rlcore run baseline quick --algorithm SAC --problem pendulum

"Fairly" means: the reward of a step is its rate times dt, and gamma = exp(-beta dt), with beta = 1/s where the problem
is ergodic. Sizes of networks, rollouts and batches, and SAC's learning rate and update schedule, are set in
`make_model`; everything else is SB3's default. `rival` scales in other ways too, for `time_step_sweep`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from rlcore.envs.control.lqr import ERGODIC, ScalarLqr
from rlcore.envs.control.pendulum import Pendulum, PendulumConfig
from rlcore.experiments import ergodic_lqr, pendulum
from rlcore.timegrid import discount
from rlcore.training.recorder import SILENT, Recorder


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    algorithm: Literal["PPO", "SAC"] = "PPO"
    """The algorithm of Stable-Baselines3."""
    problem: Literal["ergodic_lqr", "pendulum"] = "ergodic_lqr"
    """The problem, as in the experiment of that name."""
    simulated: float = 9600.0
    """Physical time, summed over paths [s]."""
    updates: int = 2000
    """SAC: gradient steps over the whole run."""
    evaluations: int = 10
    """How often the policy is evaluated on the way."""


PRESETS = {
    "quick": Config(simulated=1600.0, problem="pendulum"),
    "paper": Config(),
}

ERGODIC_DISCOUNT = 1.0  # beta [1/s] for the rivals, which have no average-reward form


def make_problem(name: str) -> tuple[Any, Callable[[Any, Any], Callable[[], Mapping[str, float]]], int]:
    """Environment, evaluator of a policy, number of parallel copies."""
    if name == "pendulum":
        return Pendulum(PendulumConfig()), pendulum.evaluator, 32
    return ScalarLqr(ERGODIC), ergodic_lqr.evaluator, 256


def make_model(config: Config, env: Any, copies: int, seed: int) -> Any:
    """PPO or SAC on parallel copies; 64 x 64 networks as ours."""
    from stable_baselines3 import PPO, SAC

    from rlcore.interop.sb3 import Sb3VecEnv

    gamma = discount(env.spec.discount_rate or ERGODIC_DISCOUNT, env.spec.dt)
    vector = Sb3VecEnv(env, copies, seed=seed)
    common: dict[str, Any] = {"gamma": gamma, "seed": seed, "device": "cpu", "policy_kwargs": {"net_arch": [64, 64]}}
    total = round(config.simulated / env.spec.dt)
    if config.algorithm == "PPO":
        rollout = min(64, max(16, total // copies // 20))
        return PPO("MlpPolicy", vector, n_steps=rollout, batch_size=rollout * copies // 4, n_epochs=8, **common)
    calls = total // copies
    return SAC(
        "MlpPolicy",
        vector,
        train_freq=max(1, calls // 250),
        gradient_steps=max(1, round(config.updates * max(1, calls // 250) / calls)),
        learning_starts=total // 20,
        learning_rate=1e-3,
        **common,
    )


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Train the rival for the given physical time; returns its last evaluation."""
    from rlcore.interop.sb3 import Sb3Policy

    torch.manual_seed(seed)
    env, evaluator, copies = make_problem(config.problem)
    model = make_model(config, env, copies, seed)
    recorder.hparams({"agent": config.algorithm, "dt": env.spec.dt})
    measure = evaluator(env, Sb3Policy(model))
    return learn(model, env.spec.dt, config.simulated, config.evaluations, measure, recorder)


def learn(
    model: Any,
    dt: float,
    simulated: float,
    evaluations: int,
    measure: Callable[[], Mapping[str, float]],
    recorder: Recorder,
) -> dict[str, float]:
    """Train a model for so many seconds, summed over paths; returns its last evaluation."""
    from stable_baselines3.common.callbacks import BaseCallback

    total = round(simulated / dt)

    class Watch(BaseCallback):
        """Evaluates at equal distances of physical time, under the tags of our agents."""

        def __init__(self) -> None:
            super().__init__()
            self.due = 0

        def _on_step(self) -> bool:
            if self.num_timesteps >= self.due:
                self.due += math.ceil(total / evaluations)
                recorder.log(self.num_timesteps, measure(), simulated=self.num_timesteps * dt)
            return bool(self.num_timesteps < total)

    began = time.perf_counter()
    model.learn(total, callback=Watch())
    speed = model.num_timesteps / (time.perf_counter() - began)
    result = dict(measure())
    recorder.log(model.num_timesteps, result | {"time/fps": speed}, simulated=model.num_timesteps * dt)
    return result
