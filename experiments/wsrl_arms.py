"""The arms of the offline-to-online studies as data: what is handed over, who learns, and what is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeVar, get_args

from rlcore.agents.actor_critic import Cql, CqlConfig, HandOver, Iql, SacConfig, SacRedq, receive
from rlcore.agents.actor_critic.hand_over import EVERYTHING
from rlcore.agents.actor_critic.networks import slices
from rlcore.agents.actor_critic.wsrl import FineTuning, fine_tuning
from rlcore.data import Transitions
from rlcore.errors import ConfigError
from rlcore.experiments.offline_tasks import OfflineTask
from rlcore.seeding import Streams
from rlcore.simulation.policy import UniformPolicy
from rlcore.training import Phase
from rlcore.training.agent import Metrics
from rlcore.training.offline import OpeningSource, RescaledSource, UnknownReturns
from rlcore.training.roll_in import RollInConfig, RollInSource

Beside = Literal[
    "RLPD",
    "random warm-up",
    "policy only",
    "critics only",
    "no hand-over",
    "Cal-QL",
    "Cal-QL with data",
    "CQL",
    "CQL with data",
    "IQL",
    "JSRL",
]
Giver = Cql | Iql
Same = TypeVar("Same", Cql, Iql)


@dataclass(frozen=True)
class Arm:
    """One way to go on from an offline agent."""

    warm_up: int
    """K, steps per seed without an update."""
    what: HandOver | None = EVERYTHING
    """What is taken over; None is nothing at all."""
    offline_share: float = 0.0
    """Share of every batch that comes from the data."""
    conservative: bool = False
    """Whether the offline algorithm goes on learning, rather than soft actor-critic."""
    calibrate: bool = True
    """Whether that is Cal-QL; CQL else."""
    implicit: bool = False
    """Whether it is implicit Q-learning that learned from the data, and goes on."""
    random: bool = False
    """Whether the warm-up is of random actions."""
    guided: bool = False
    """Whether the offline policy starts the episodes of a new one."""

    @property
    def keeps_data(self) -> bool:
        return self.offline_share > 0.0


def arm_called(name: str, warm_up: int) -> Arm:
    """The arm of this name, after a warm-up of K steps."""
    policy, critics = HandOver(critics=False, temperature=False), HandOver(policy=False, temperature=False)
    arms: dict[str, Arm] = {
        "RLPD": Arm(warm_up, what=None, offline_share=0.5),
        "random warm-up": Arm(warm_up, random=True),
        "policy only": Arm(warm_up, what=policy),
        "critics only": Arm(warm_up, what=critics),
        "no hand-over": Arm(warm_up, what=None),
        "Cal-QL": Arm(warm_up, conservative=True),
        "Cal-QL with data": Arm(warm_up, conservative=True, offline_share=0.5),
        "CQL": Arm(warm_up, conservative=True, calibrate=False),
        "CQL with data": Arm(warm_up, conservative=True, calibrate=False, offline_share=0.5),
        "IQL": Arm(warm_up, implicit=True),
        "JSRL": Arm(warm_up, what=None, guided=True),
    }
    if name not in arms:
        raise ConfigError(f"no arm is called {name!r}; known: {', '.join(get_args(Beside))}")
    return arms[name]


def learner(
    arm: Arm, giver: Giver, task: OfflineTask, offline: CqlConfig, online: SacConfig, *, seed: int
) -> SacRedq | Giver:
    """The agent of an arm at the moment of the hand-over; critic updates per step are the same in all."""
    if arm.implicit != isinstance(giver, Iql):
        raise ConfigError(f"this arm goes on from {'IQL' if arm.implicit else 'CQL or Cal-QL'}, got {type(giver)}")
    if isinstance(giver, Iql):
        return going_on(Iql(task.spaces, giver.config, seed=seed, seeds=task.seeds), giver)
    if arm.conservative:
        sac = replace(offline.sac, critic_steps=online.critic_steps)
        config = replace(offline, sac=sac, calibrate=arm.calibrate)
        return going_on(Cql(task.spaces, config, seed=seed, seeds=task.seeds), giver)
    agent = SacRedq(task.spaces, online, seed=seed, seeds=task.seeds)
    if arm.what is not None:
        receive(agent, giver, arm.what)
    return agent


def going_on(agent: Same, giver: Same) -> Same:
    """A copy of the giver in an agent of its kind."""
    agent.load_training_state(giver.training_state())
    return agent


def updating(agent: SacRedq | Giver, updates: int) -> Callable[[Transitions], Metrics]:
    """The agent's update with this many minibatches per call; all but IQL cut their rows themselves."""
    if not isinstance(agent, Iql):
        return agent.update

    def update(batch: Transitions) -> Metrics:
        return [agent.update(part) for part in slices(agent.networks.rows(batch), updates)][-1]

    return update


def phases_of(
    arm: Arm,
    agent: SacRedq | Giver,
    giver: Giver,
    task: OfflineTask,
    *,
    steps: int,
    minibatch: int,
    updates: int,
    streams: Streams,
) -> list[Phase]:
    """Warm-up and online phase of an arm: one path for each seed, `updates` of critics on `minibatch` rows per step."""
    feed = task.source(streams.seed)
    if arm.guided:
        feed = RollInSource(feed, giver, RollInConfig(task.horizon), paths=task.seeds, seeds=task.seeds)
    feed = RescaledSource(feed, scale=task.scale, bias=task.bias)
    if arm.conservative:
        feed = UnknownReturns(feed)
    if arm.random:
        box = task.spaces
        feed = OpeningSource(feed, UniformPolicy(box.action_low, box.action_high, box.action_dim), arm.warm_up)
    plan = FineTuning(arm.warm_up, steps, rows=minibatch * updates, offline_share=arm.offline_share)
    offline = task.data() if arm.keeps_data else None
    return fine_tuning(updating(agent, updates), feed, plan, streams=streams, seeds=task.seeds, offline=offline)
