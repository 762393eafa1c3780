"""MuJoCo's HalfCheetah learns to run at any control interval, by CT-SAC or CT-DDPG; needs the extra `robotics`.

rlcore run cheetah quick
rlcore run cheetah quick --dt 0.01 --agent ct-ddpg

The score is the mean reward per second over whole episodes: forward speed [m/s] minus a tenth of |a|^2. A cheetah that
lies still earns 0; there is no known optimum. A Gymnasium return is 200 times that (10 s at 50 ms a step).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rlcore.agents.martingale import DeepActorCritic, DeepConfig, ct_ddpg, ct_sac
from rlcore.data import ReplayBuffer
from rlcore.envs.robotics.locomotion import LocomotionEnv
from rlcore.experiments.deep_control import Replay
from rlcore.experiments.tasks import steps_of
from rlcore.interop.gym_source import GymPathSource, GymSource
from rlcore.seeding import Streams
from rlcore.simulation.environment import ControlSpec
from rlcore.simulation.policy import Policy
from rlcore.training import Phase, ReplaySource, WindowSource
from rlcore.training.recorder import SILENT, Recorder

REPLAY = Replay(gather=1.0, updates=64, rows=256, window=0.2, stride=0.05, nodes=2, hold=0.2)
LEARNER = DeepConfig(temperature=0.05, critic_rate=0.064, actor_rate=0.032, target_time=0.75)
SCALE = (1.0,) * 8 + (0.2,) * 9  # postures, velocities


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    agent: Literal["ct-sac", "ct-ddpg"] = "ct-sac"
    """Which agent."""
    dt: float = 0.05
    """Control interval [s]."""
    copies: int = 8
    """Parallel cheetahs."""
    seconds: float = 90.0
    """Physical time per cheetah [s]."""
    discount_rate: float = 0.5
    """beta [1/s]."""
    replay: Replay = REPLAY
    """How experience becomes rows; the shares are not used."""
    learner: DeepConfig = LEARNER
    """The agent; ct-ddpg has no temperature. The update interval follows from `replay`."""
    hidden: tuple[int, ...] = (128, 128)
    """Widths of the hidden layers of every network."""
    physics_timestep: float = 0.005
    """Longest step of the simulator [s]; Gymnasium takes .01."""
    evaluations: int = 6
    """How often the policy is evaluated on the way."""


PRESETS = {"quick": Config(), "paper": Config(seconds=1200.0, evaluations=24)}
JUDGED = 4  # episodes


def make_envs(config: Config, copies: int) -> SyncVectorEnv:
    """Parallel cheetahs that restart in the step in which their 10 s are over."""
    settings: dict[str, Any] = {"dt": config.dt, "physics_timestep": config.physics_timestep}
    make = lambda: LocomotionEnv("rlcore/HalfCheetah-v0", **settings)  # noqa: E731
    return SyncVectorEnv([make] * copies, autoreset_mode=AutoresetMode.SAME_STEP)


def make_agent(config: Config, seed: int) -> DeepActorCritic:
    """CT-SAC or CT-DDPG for 17 observations and 6 torques in [-1, 1]."""
    spec = ControlSpec(
        "rlcore/HalfCheetah-v0", 17, 6, 0, config.dt, 10.0, config.discount_rate, action_low=-1.0, action_high=1.0
    )
    learner = replace(config.learner, update_interval=config.replay.gather / config.replay.updates)
    common: dict[str, Any] = {"generator": Streams(seed)["networks"], "hidden": config.hidden, "input_scale": SCALE}
    if config.agent == "ct-sac":
        return ct_sac(spec, learner, **common)
    return ct_ddpg(spec, replace(learner, temperature=0.0), exploration=0.5, **common)


def evaluator(config: Config, policy: Policy) -> Callable[[], Mapping[str, float]]:
    """Mean reward per second of the deterministic policy over whole episodes."""
    envs, steps = make_envs(config, JUDGED), round(10.0 / config.dt)

    def measure() -> Mapping[str, float]:
        obs, total = envs.reset(seed=12345)[0], 0.0
        for _ in range(steps):
            with torch.no_grad():
                action = policy.act(torch.as_tensor(obs, dtype=torch.float32)).numpy()
            obs, reward, *_ = envs.step(action)
            total += float(np.mean(reward))
        return {"eval/average_reward": total / (steps * config.dt)}

    return measure


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Train; returns the last reward per second, and the first, before learning."""
    replay, streams, dt = config.replay, Streams(seed), config.dt
    agent = make_agent(config, seed)
    feed = GymSource(
        make_envs(config, config.copies),
        dt=dt,
        discount_rate=config.discount_rate,
        seed=seed,
        steps_per_call=steps_of(replay.gather, dt),
        hold=steps_of(replay.hold, dt),
    )
    cut = WindowSource(
        GymPathSource(feed),
        steps_of(replay.window, dt),
        stride=steps_of(replay.stride, dt),
        nodes=replay.nodes,
        discount_rate=config.discount_rate,
        generator=streams["nodes"],
    )
    gathers = math.ceil(config.seconds / replay.gather)
    capacity = config.copies * gathers * math.ceil(steps_of(replay.gather, dt) / cut.stride)
    rows = ReplaySource(
        ReplayBuffer(capacity), replay.rows, generator=streams["replay"], feed=cut, draws_per_feed=replay.updates
    )
    recorder.hparams({"agent": config.agent, "task": "cheetah", "dt": dt})
    measure, iterations = evaluator(config, agent), gathers * replay.updates
    before = measure()["eval/average_reward"]
    found = recorder.train(
        agent,
        [Phase("learn", rows, iterations, agent.update)],
        evaluate=measure,
        evaluate_every=max(1, iterations // config.evaluations),
        log_every=max(1, iterations // 100),
        main_metric="eval/average_reward",
    )
    return recorder.finish({**found, "eval/average_reward_before": before})
