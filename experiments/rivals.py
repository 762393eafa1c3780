"""Stable-Baselines3's SAC and PPO for the sweep over dt: as a newcomer would run them, and scaled to physical time.

All of them get the same physical time, gradient steps and rows per gradient step at every dt, and rewards divided by
`REFERENCE_DT`, so that a step of .05 s earns its rate. What "naive" keeps per step, "scaled" keeps per second:

| | naive | scaled |
|---|---|---|
| discount of a step | that of dt = .05 s | exp(-beta dt) |
| temperature of SAC at the start, later tuned by SAC itself | .1 | .1 dt / .05 |
| exploration of SAC | drawn anew at every step | gSDE, drawn anew every `hold` seconds |
| GAE's lambda of PPO | .95 | .95^(dt / .05) |

The time constant of SAC's target is a number of updates, and so the same in physical time for both.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Literal

from rlcore.experiments.tasks import steps_of
from rlcore.simulation.environment import ControlSpec
from rlcore.timegrid import discount

RivalName = Literal["sac-naive", "sac-fair", "ppo-naive", "ppo-fair"]
REFERENCE_DT = 0.05  # s, where naive and scaled agree
PPO_ROLLOUTS, PPO_EPOCHS, PPO_MINIBATCHES = 40, 16, 4
SAC_ROUNDS = 320  # groups of gradient steps


def make_rival(
    name: RivalName,
    vector: Any,
    spec: ControlSpec,
    *,
    seconds: float,
    updates: int,
    hold: float,
    seed: int,
    hidden: Sequence[int] = (64, 64),
) -> Any:
    """An untrained model that learns for `seconds` on each copy of a `VecEnv`; SAC takes `updates` gradient steps."""
    from stable_baselines3 import PPO, SAC

    naive, paths = name.endswith("naive"), vector.num_envs
    gamma = discount(spec.discount_rate, REFERENCE_DT if naive else spec.dt)
    nets = {"net_arch": list(hidden)}
    common: dict[str, Any] = {"gamma": gamma, "seed": seed, "device": "cpu", "policy_kwargs": nets}
    calls, reference_calls = steps_of(seconds, spec.dt), steps_of(seconds, REFERENCE_DT)
    if name.startswith("ppo"):
        steps = max(1, calls // PPO_ROLLOUTS)
        rows = max(2, max(1, reference_calls // PPO_ROLLOUTS) * paths // PPO_MINIBATCHES)
        trace = 0.95 if naive else 0.95 ** (spec.dt / REFERENCE_DT)
        common |= {"n_steps": steps, "batch_size": min(rows, steps * paths), "n_epochs": PPO_EPOCHS}
        common |= {"learning_rate": 1e-3, "rollout_buffer_class": thinned_buffer()}
        return PPO("MlpPolicy", scaled_rewards(vector), gae_lambda=trace, **common)
    every = max(1, calls // SAC_ROUNDS)  # calls of the environments between two groups of gradient steps
    explore: dict[str, Any] = {} if naive else {"use_sde": True, "sde_sample_freq": steps_of(hold, spec.dt)}
    return SAC(
        "MlpPolicy",
        scaled_rewards(vector),
        train_freq=every,
        gradient_steps=max(1, round(updates * every / calls)),
        learning_starts=calls * paths // 20,
        buffer_size=calls * paths,
        learning_rate=1e-3,
        ent_coef=f"auto_{0.1 if naive else 0.1 * spec.dt / REFERENCE_DT}",
        **explore,
        **common,
    )


def scaled_rewards(vector: Any) -> Any:
    """A `VecEnv` whose rewards are divided by `REFERENCE_DT`."""
    from stable_baselines3.common.vec_env import VecEnvWrapper

    class ScaledRewards(VecEnvWrapper):
        def reset(self) -> Any:
            return self.venv.reset()

        def step_wait(self) -> Any:
            obs, reward, done, info = self.venv.step_wait()
            return obs, reward / REFERENCE_DT, done, info

    return ScaledRewards(vector)


def thinned_buffer() -> Any:
    """PPO's buffer, from which an epoch takes the same number of rows at every dt, drawn at random."""
    from stable_baselines3.common.buffers import RolloutBuffer

    class ThinnedBuffer(RolloutBuffer):
        def get(self, batch_size: int | None = None) -> Generator[Any, None, None]:
            for part, rows in enumerate(super().get(batch_size)):
                if part == PPO_MINIBATCHES:
                    return
                yield rows

    return ThinnedBuffer
