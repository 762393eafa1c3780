"""A run of soft actor-critic on a MuJoCo runner that remembers its policies: what the data sets are made from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import gymnasium

from rlcore.agents.actor_critic import DataSpaces, SacConfig, SacRedq
from rlcore.agents.actor_critic.wsrl import FineTuning, fine_tuning
from rlcore.data import ReplayBuffer, Transitions
from rlcore.envs.robotics.locomotion import TASKS, load_robot
from rlcore.errors import unknown_name
from rlcore.interop.recording import copies_of, mean_return, record
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


def play(policy: Policy, robot: str, copies: int, steps: int, seed: int) -> Transitions:
    """What a policy does in `steps` steps of each copy: rows in order."""
    dt, rate = time_of(robot)
    return record(policy, lambda: make_robot(robot), copies=copies, steps=steps, dt=dt, discount_rate=rate, seed=seed)


def earned(policy: Policy, robot: str, seed: int) -> float:
    """Mean return of a policy over `EPISODES` episodes."""
    return mean_return(policy, lambda: make_robot(robot), episodes=EPISODES, seed=seed)


class History:
    """The policies on the way, each with its steps and its return, and all that the run did."""

    def __init__(self, agent: SacRedq, source: ReplaySource, robot: str, seed: int) -> None:
        self.agent, self.source, self.robot, self.seed = agent, source, robot, seed
        self.kept: list[dict[str, Any]] = []

    def __call__(self) -> Mapping[str, float]:
        found = earned(self.agent, self.robot, self.seed + len(self.kept))
        weights = {name: value.clone() for name, value in self.agent.networks.policy.state_dict().items()}
        self.kept.append({"steps": self.source.steps, "return": found, "policy": weights})
        return {"eval/return": found}

    def at(self, number: int) -> SacRedq:
        """The agent, with the policy of then."""
        self.agent.networks.policy.load_state_dict(self.kept[number]["policy"])
        return self.agent

    def rows_until(self, number: int) -> Transitions:
        """Every step of the run until then, in order."""
        buffer = self.source.buffer
        assert isinstance(buffer, ReplayBuffer)
        rows = buffer.rows
        assert rows is not None
        rows = rows[: self.kept[number]["steps"]]
        last = rows.extras["last"].clone()
        last[-1] = True  # the record stops here
        return rows.replace(extras={"last": last})

    def state_dict(self) -> dict[str, Any]:
        return {"kept": list(self.kept)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.kept = list(state["kept"])


def train(
    robot: str, learner: SacConfig, lengths: FineTuning, evaluate_every: int, seed: int, recorder: Recorder
) -> History:
    """One run of SAC, beginning with what its untrained policy does."""
    spaces = spaces_of(robot)
    agent = SacRedq(spaces, learner, seed=derive_seed(seed, f"{robot}/agent"))
    dt, rate = time_of(robot)
    own = derive_seed(seed, f"{robot}/train")
    feed = copies_of(lambda: make_robot(robot), 1, dt=dt, discount_rate=rate, seed=own)
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
