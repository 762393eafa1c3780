"""A run of soft actor-critic on a MuJoCo runner that remembers its policies: what the data sets are made from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import gymnasium
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rlcore.agents.actor_critic import SAC, DataSpaces, SacRedq
from rlcore.agents.actor_critic.wsrl import FineTuning, fine_tuning
from rlcore.data import Transitions, in_order
from rlcore.envs.robotics.locomotion import TASKS, load_robot
from rlcore.errors import unknown_name
from rlcore.interop.gym_source import GymSource
from rlcore.seeding import Streams, derive_seed
from rlcore.simulation.policy import Policy
from rlcore.training import ReplaySource
from rlcore.training.recorder import Recorder

ROBOTS = tuple(name.removeprefix("rlcore/").removesuffix("-v0") for name in TASKS)
EPISODES = 10  # of an evaluation
GAMMA = 0.99  # per step


def make_robot(robot: str) -> gymnasium.Env[Any, Any]:
    """Gymnasium's v5 robot of this name, in its own time."""
    if robot not in ROBOTS:
        raise unknown_name("robot", robot, ROBOTS)
    load_robot(robot, TASKS[f"rlcore/{robot}-v0"])
    return gymnasium.make(f"{robot}-v5")


def time_of(robot: str) -> tuple[float, float]:
    """Control interval [s], and the discount rate [1/s] of a factor of GAMMA per step."""
    dt = TASKS[f"rlcore/{robot}-v0"].dt
    return dt, -math.log(GAMMA) / dt


def spaces_of(robot: str) -> DataSpaces:
    """Sizes of its observation and of its action, which lies in [-1, 1]."""
    env = make_robot(robot)
    (observation,), (action,) = env.observation_space.shape or (0,), env.action_space.shape or (0,)
    return DataSpaces(observation, action)


def source_of(robot: str, copies: int, steps_per_call: int, seed: int) -> GymSource:
    """Copies of a robot, `steps_per_call` steps of each per call."""
    envs = SyncVectorEnv([lambda: make_robot(robot)] * copies, autoreset_mode=AutoresetMode.SAME_STEP)
    dt, rate = time_of(robot)
    return GymSource(envs, dt=dt, discount_rate=rate, seed=seed % 2**31, steps_per_call=steps_per_call)


def play(policy: Policy, robot: str, copies: int, steps: int, seed: int) -> Transitions:  # -> rows in order
    """What a policy does, with its noise, in `steps` steps of each copy."""
    rows = source_of(robot, copies, steps, seed).next(policy)
    return in_order(rows.map(lambda x: x.view(steps, copies, *x.shape[1:])))


def mean_return(policy: Policy, robot: str, seed: int) -> float:
    """Undiscounted, of a policy with its noise, over the first episode of each of `EPISODES` copies."""
    source = source_of(robot, EPISODES, 1, seed)
    earned, running = torch.zeros(EPISODES, dtype=torch.float64), torch.ones(EPISODES, dtype=torch.bool)
    while bool(running.any()):
        step = source.next(policy)
        earned += step.reward * running
        running &= ~step.extras["last"]
    return float(earned.mean())


class History:
    """The policies on the way, each with its steps and its return, and all that the run did."""

    def __init__(self, agent: SacRedq, source: ReplaySource, robot: str, seed: int) -> None:
        self.agent, self.source, self.robot, self.seed = agent, source, robot, seed
        self.kept: list[dict[str, Any]] = []

    def __call__(self) -> Mapping[str, float]:
        found = mean_return(self.agent, self.robot, self.seed + len(self.kept))
        weights = {name: value.clone() for name, value in self.agent.networks.policy.state_dict().items()}
        self.kept.append({"steps": self.source.steps, "return": found, "policy": weights})
        return {"eval/return": found}

    def at(self, number: int) -> SacRedq:
        """The agent, with the policy of then."""
        self.agent.networks.policy.load_state_dict(self.kept[number]["policy"])
        return self.agent

    def rows_until(self, number: int) -> Transitions:
        """Every step of the run until then, in order."""
        rows = self.source.buffer.rows
        assert rows is not None
        rows = rows[: self.kept[number]["steps"]]
        last = rows.extras["last"].clone()
        last[-1] = True  # the record stops here
        return rows.replace(extras={"last": last})

    def state_dict(self) -> dict[str, Any]:
        return {"kept": list(self.kept)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.kept = list(state["kept"])


def train(robot: str, lengths: FineTuning, evaluate_every: int, seed: int, recorder: Recorder) -> History:
    """One run of SAC with default settings, beginning with what its untrained policy does."""
    spaces = spaces_of(robot)
    agent = SacRedq(spaces, SAC, seed=derive_seed(seed, f"{robot}/agent"))
    feed = source_of(robot, 1, 1, derive_seed(seed, f"{robot}/train"))
    streams = Streams(derive_seed(seed, f"{robot}/streams"))
    phases = fine_tuning(agent.update, feed, lengths, streams=streams)
    source = phases[0].source
    assert isinstance(source, ReplaySource)
    history = History(agent, source, robot, derive_seed(seed, f"{robot}/evaluate"))
    recorder.train(
        agent,
        phases,
        evaluate=history,
        evaluate_every=evaluate_every,
        main_metric="eval/return",
        keep={"history": history, "streams": streams},
    )
    return history
