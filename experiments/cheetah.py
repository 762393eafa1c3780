"""MuJoCo's HalfCheetah learns to run at any control interval, by CT-SAC, CT-DDPG or CPPO; needs the extra `robotics`.

rlcore run cheetah quick
rlcore run cheetah quick --dt 0.01 --agent ct-ddpg

The score is the mean reward per second over whole episodes: forward speed [m/s] minus a tenth of |a|^2. A cheetah that
lies still earns 0; there is no known optimum. A Gymnasium return is 200 times that (10 s at 50 ms a step). Whatever the
control interval of the training, a policy is judged at one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, get_args

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rlcore.agents.martingale import CppoConfig, DeepConfig, cppo, ct_ddpg, ct_sac
from rlcore.data import ReplayBuffer
from rlcore.envs.robotics.locomotion import LocomotionEnv
from rlcore.experiments.deep_control import OurAgent, Replay, check_agent
from rlcore.experiments.tasks import steps_of
from rlcore.interop.gym_source import GymPathSource, GymSource
from rlcore.seeding import Streams
from rlcore.simulation.environment import ControlSpec
from rlcore.simulation.policy import Policy
from rlcore.training import Agent, Phase, ReplaySource, Source, WindowSource
from rlcore.training.recorder import SILENT, Recorder

REPLAY = Replay(gather=1.0, updates=64, rows=256, window=0.2, stride=0.05, nodes=2, hold=0.2)
LEARNER = DeepConfig(temperature=0.05, critic_rate=0.064, actor_rate=0.032, target_time=0.75)
ON_POLICY = CppoConfig(temperature=0.0, policy_trace=0.5, value_trace=1.0)
SCALE = (1.0,) * 8 + (0.2,) * 9  # postures, velocities


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    agent: OurAgent = "ct-sac"
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
    """ct-sac and ct-ddpg; the latter has no temperature. The update interval follows from `replay`."""
    cppo: CppoConfig = ON_POLICY
    """cppo."""
    cppo_gather: float = 4.0
    """cppo: physical time per cheetah and update [s]."""
    cppo_hold: float = 0.05
    """cppo: time for which the noise is held, and length of a row [s]."""
    hidden: tuple[int, ...] = (128, 128)
    """Widths of the hidden layers of every network."""
    physics_timestep: float = 0.005
    """Longest step of the simulator [s]; Gymnasium takes .01."""
    judged_dt: float = 0.01
    """Control interval of the evaluation [s]."""
    evaluations: int = 6
    """How often the policy is evaluated on the way."""


PRESETS = {"quick": Config(), "paper": Config(seconds=1200.0, evaluations=24)}
JUDGED = 4  # episodes


def make_env(dt: float, physics_timestep: float) -> LocomotionEnv:
    """One cheetah, in episodes of 10 s."""
    return LocomotionEnv("rlcore/HalfCheetah-v0", dt=dt, physics_timestep=physics_timestep)


def make_envs(dt: float, physics_timestep: float, copies: int) -> SyncVectorEnv:
    """Parallel cheetahs that restart in the step in which their 10 s are over."""
    one = partial(make_env, dt, physics_timestep)
    return SyncVectorEnv([one] * copies, autoreset_mode=AutoresetMode.SAME_STEP)


def make_spec(config: Config) -> ControlSpec:
    """17 observations and 6 torques in [-1, 1]."""
    return ControlSpec(
        "rlcore/HalfCheetah-v0", 17, 6, 0, config.dt, 10.0, config.discount_rate, action_low=-1.0, action_high=1.0
    )


def feed_of(config: Config, seconds: float, hold: int, seed: int) -> GymPathSource:
    """Consecutive steps of all cheetahs, `seconds` at a time."""
    envs = make_envs(config.dt, config.physics_timestep, config.copies)
    steps = hold * steps_of(seconds, hold * config.dt) if config.agent == "cppo" else steps_of(seconds, config.dt)
    common: dict[str, Any] = {"dt": config.dt, "discount_rate": config.discount_rate, "seed": seed}
    return GymPathSource(GymSource(envs, steps_per_call=steps, hold=hold, **common))


def replayed(config: Config, seed: int) -> tuple[Agent[Any], Source[Any], int]:
    """CT-SAC or CT-DDPG, its rows, and the number of updates."""
    replay, streams, dt = config.replay, Streams(seed), config.dt
    learner = replace(config.learner, update_interval=replay.gather / replay.updates)
    common: dict[str, Any] = {"generator": streams["networks"], "hidden": config.hidden, "input_scale": SCALE}
    if config.agent == "ct-sac":
        agent = ct_sac(make_spec(config), learner, **common)
    else:
        agent = ct_ddpg(make_spec(config), replace(learner, temperature=0.0), exploration=0.5, **common)
    cut = WindowSource(
        feed_of(config, replay.gather, steps_of(replay.hold, dt), seed),
        steps_of(replay.window, dt),
        stride=steps_of(replay.stride, dt),
        nodes=replay.nodes,
        discount_rate=config.discount_rate,
        generator=streams["nodes"],
    )
    gathers = math.ceil(config.seconds / replay.gather)
    capacity = config.copies * gathers * math.ceil(steps_of(replay.gather, dt) / cut.stride)
    buffer = ReplayBuffer(capacity)
    rows = ReplaySource(buffer, replay.rows, generator=streams["replay"], feed=cut, draws_per_feed=replay.updates)
    return agent, rows, gathers * replay.updates


def on_policy(config: Config, seed: int) -> tuple[Agent[Any], Source[Any], int]:
    """CPPO, its rollouts, and the number of updates."""
    streams, hold = Streams(seed), steps_of(config.cppo_hold, config.dt)
    common: dict[str, Any] = {"generator": streams["networks"], "hidden": config.hidden, "input_scale": SCALE}
    agent = cppo(make_spec(config), config.cppo, **common)
    feed = feed_of(config, config.cppo_gather, hold, seed)
    rate = config.discount_rate
    rows = WindowSource(feed, hold, stride=hold, nodes=1, discount_rate=rate, generator=streams["nodes"])
    return agent, rows, math.ceil(config.seconds / config.cppo_gather)


def evaluator(config: Config, policy: Policy) -> Callable[[], Mapping[str, float]]:
    """Mean reward per second of the deterministic policy over whole episodes."""
    dt = config.judged_dt
    envs, steps = make_envs(dt, config.physics_timestep, JUDGED), round(10.0 / dt)

    def measure() -> Mapping[str, float]:
        obs, total = envs.reset(seed=12345)[0], 0.0
        for _ in range(steps):
            with torch.no_grad():
                action = policy.act(torch.as_tensor(obs, dtype=torch.float32)).numpy()
            obs, reward, *_ = envs.step(action)
            total += float(np.mean(reward))
        return {"eval/average_reward": total / (steps * dt)}

    return measure


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Train; returns the last reward per second, and the first, before learning."""
    check_agent(config.agent, get_args(OurAgent))
    agent, source, iterations = (on_policy if config.agent == "cppo" else replayed)(config, seed)
    recorder.hparams({"agent": config.agent, "task": "cheetah", "dt": config.dt})
    measure = evaluator(config, agent)
    before = measure()["eval/average_reward"]
    found = recorder.train(
        agent,
        [Phase("learn", source, iterations, agent.update)],
        evaluate=measure,
        evaluate_every=max(1, iterations // config.evaluations),
        log_every=max(1, iterations // 100),
        main_metric="eval/average_reward",
    )
    return recorder.finish({**found, "eval/average_reward_before": before})
