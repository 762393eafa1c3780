"""A whole run in miniature, from data to online learning on a regulator, for the rows about what a run keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from rlcore.agents.actor_critic import Cql, CqlConfig, NetworkConfig, SacConfig, SacRedq, cal_ql
from rlcore.agents.actor_critic.diagnostics import diagnose
from rlcore.agents.actor_critic.hand_over import weights_of
from rlcore.agents.actor_critic.wsrl import FineTuning, fine_tuning
from rlcore.data import Transitions
from rlcore.envs.control.lqr import ScalarLqr, ScalarLqrConfig
from rlcore.functional.returns import returns_to_go
from rlcore.nn.ensemble import Layers
from rlcore.seeding import Streams
from rlcore.simulation.policy import UniformPolicy
from rlcore.training import Phase, RolloutSource, run
from rlcore.training.curve import Curve
from rlcore.training.offline import DatasetSource
from rlcore.training.recorder import RunFolder

SEEDS = 2
LAYERS = Layers((16,), layer_norm=True)
ONLINE = SacConfig(NetworkConfig(critics=4, critic=LAYERS, actor=LAYERS), critic_steps=4)
OFFLINE = CqlConfig(replace(ONLINE, critic_steps=1))


def env() -> ScalarLqr:
    """A discounted regulator whose episodes are cut after 2 s."""
    return ScalarLqr(ScalarLqrConfig(dt=0.1, horizon=2.0))


def data_set() -> Transitions:
    """Rows [N] of random actions, with the returns that followed."""
    rows = RolloutSource(env(), 16, 40, seed=3).next(UniformPolicy(-1.0, 1.0, 1))
    returns = returns_to_go(rows.reward, rows.discount, rows.extras["last"])
    return rows.replace(extras={"mc_return": returns}).flatten()


def pretrained(data: Transitions, updates: int = 20) -> Cql:
    """Cal-QL after some updates."""
    agent = cal_ql(env().spec, OFFLINE, seed=1, seeds=SEEDS)
    agent.learn(DatasetSource(data, 32, generator=Streams(1)["offline"], seeds=SEEDS), updates)
    return agent


def online_phases(agent: SacRedq, warm_up: int, steps: int, *, offline: Transitions | None = None) -> list[Phase]:
    """The phases after the hand-over."""
    feed = RolloutSource(env(), SEEDS, 1, seed=2)
    config = FineTuning(warm_up, steps, rows=64, offline_share=0.0 if offline is None else 0.5)
    return fine_tuning(agent.update, feed, config, streams=Streams(2), seeds=SEEDS, offline=offline)


def online(giver: Cql, warm_up: int, steps: int, *, watched: Transitions | None = None) -> dict[str, Tensor]:
    """The weights at the end of a fine-tuning that nobody records; `watched` rows are diagnosed after every step."""
    agent = SacRedq.warm_start(giver, env().spec, ONLINE, seeds=SEEDS)
    callbacks = []
    if watched is not None:
        callbacks.append(Curve(lambda _: diagnose(agent, watched), lambda k: True, phase="online"))
    run(agent, online_phases(agent, warm_up, steps), callbacks)
    return weights_of(agent)


class StoppedError(Exception):
    """Stands for a kill."""


def recorded(
    folder: Path, giver: Cql, *, stop_at: int | None, resume: bool, steps: int = 30, checkpoint_every: int = 1
) -> dict[str, Tensor]:
    """The same in a run folder with checkpoints, stopped at an iteration or resumed from the last of them."""
    agent = SacRedq.warm_start(giver, env().spec, ONLINE, seeds=SEEDS)

    def stop(tick: object) -> None:
        if getattr(tick, "iteration", None) == stop_at:
            raise StoppedError

    with RunFolder(folder, resume=resume, silent=True, checkpoint_every=checkpoint_every) as recorder:
        recorder.train(agent, online_phases(agent, 20, steps), callbacks=[stop])
    return weights_of(agent)


def differing(a: dict[str, Tensor], b: dict[str, Tensor]) -> int:
    """How many tensors are not the same bit for bit."""
    return sum(not torch.equal(value, b[name]) for name, value in a.items()) + len(a.keys() ^ b.keys())
