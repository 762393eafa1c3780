"""The arms of the offline-to-online studies as data: what is handed over, who learns, and what is kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from rlcore.agents.actor_critic import Cql, CqlConfig, HandOver, SacConfig, SacRedq, receive
from rlcore.agents.actor_critic.hand_over import EVERYTHING
from rlcore.agents.actor_critic.wsrl import FineTuning, fine_tuning
from rlcore.data import Transitions
from rlcore.envs.maze import PointMaze
from rlcore.errors import ConfigError
from rlcore.seeding import Streams
from rlcore.simulation.policy import UniformPolicy
from rlcore.training import Phase, RolloutSource, Source
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
    "JSRL",
]


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
    random: bool = False
    """Whether the warm-up is of random actions."""
    guided: bool = False
    """Whether the offline policy starts the episodes of a new one."""

    @property
    def keeps_data(self) -> bool:
        return self.offline_share > 0.0


@dataclass(frozen=True)
class Lengths:
    """How long an arm runs and how much it draws; a step is one control interval of one path."""

    steps: int
    """Online steps per seed."""
    minibatch: int
    """Rows of a critic update."""
    scale: float
    """What the reward is multiplied with."""
    bias: float
    """What is then added to it."""


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
        "JSRL": Arm(warm_up, what=None, guided=True),
    }
    if name not in arms:
        raise ConfigError(f"no arm is called {name!r}; known: {', '.join(get_args(Beside))}")
    return arms[name]


def learner(arm: Arm, giver: Cql, env: PointMaze, offline: CqlConfig, online: SacConfig, *, seed: int) -> SacRedq | Cql:
    """The agent of an arm at the moment of the hand-over; critic updates per step are the same in all."""
    seeds = giver.networks.seeds
    if arm.conservative:
        sac = replace(offline.sac, critic_steps=online.critic_steps)
        going_on = Cql(env.spec, replace(offline, sac=sac, calibrate=arm.calibrate), seed=seed, seeds=seeds)
        going_on.load_training_state(giver.training_state())
        return going_on
    agent = SacRedq(env.spec, online, seed=seed, seeds=seeds)
    if arm.what is not None:
        receive(agent, giver, arm.what)
    return agent


def phases_of(
    arm: Arm,
    agent: SacRedq | Cql,
    giver: Cql,
    env: PointMaze,
    lengths: Lengths,
    *,
    streams: Streams,
    offline: Transitions | None,
) -> list[Phase]:
    """Warm-up and online phase of an arm; one path for each seed."""
    seeds, spec = agent.networks.seeds, env.spec
    rollouts = RolloutSource(env, seeds, 1, seed=streams.seed)
    feed: Source[Transitions] = rollouts
    if arm.guided:
        feed = RollInSource(rollouts, giver, RollInConfig(spec.horizon), seeds=seeds)
    feed = RescaledSource(feed, scale=lengths.scale, bias=lengths.bias)
    if arm.conservative:
        feed = UnknownReturns(feed)
    if arm.random:
        feed = OpeningSource(feed, UniformPolicy(spec.action_low, spec.action_high, spec.action_dim), arm.warm_up)
    critic_steps = agent.core.config.critic_steps
    plan = FineTuning(
        arm.warm_up, lengths.steps, rows=lengths.minibatch * critic_steps, offline_share=arm.offline_share
    )
    return fine_tuning(agent.update, feed, plan, streams=streams, seeds=seeds, offline=offline)
