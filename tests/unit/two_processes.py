"""What `test_parallel` computes, in one process or in each of several that RANK and WORLD_SIZE tell apart.

python two_processes.py MEETING.file RESULT.pt [compiled]
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor, nn

from rlcore.agents.actor_critic import NetworkConfig, SacConfig, SacRedq
from rlcore.agents.martingale import QLearning, QLearningConfig
from rlcore.agents.orpo import PpoConfig, RatioConfig, RegularizerConfig, gather_base, orpo, ppo
from rlcore.data import ReplayBuffer, Transitions
from rlcore.data.chained import ChainedReplay
from rlcore.envs.control.lqr import ERGODIC, ScalarLqr
from rlcore.envs.control.pendulum import Pendulum, PendulumConfig
from rlcore.nn.ensemble import Layers
from rlcore.nn.mlp import LinearInFeatures
from rlcore.nn.quadratic_q import QuadraticQ
from rlcore.parallel import joined, world
from rlcore.seeding import Streams
from rlcore.simulation import Feedback
from rlcore.simulation.rollout import Mode
from rlcore.training import PathSource, ReplaySource, RolloutSource
from rlcore.training.offline import DatasetSource

SMALL = Layers((16,))


def weights(module: nn.Module) -> list[Tensor]:
    return [x.detach().clone() for x in module.parameters()]


def updates(agent: Any, source: Any, count: int = 3) -> dict[str, Any]:
    """What an agent is after a few updates, with the last metrics."""
    metrics = agent.learn(source, count)
    return {"weights": weights(agent), "metrics": metrics, "steps": source.steps}


def ppo_run(target_kl: float = float("inf")) -> dict[str, Any]:
    env = Pendulum(PendulumConfig())
    settings = PpoConfig(epochs=2, minibatch=32, target_kl=target_kl, rate=3e-3)
    return updates(ppo(env.spec, settings, layers=SMALL, seed=1), RolloutSource(env, 8, 10, seed=3))


def orpo_run() -> dict[str, Any]:
    env = Pendulum(PendulumConfig(horizon=0.5))
    base = gather_base(env, Feedback(lambda obs: -obs[:, 2:]), paths=8, seed=9)
    agent = orpo(
        env.spec,
        base,
        RegularizerConfig(r=0.6, ratio=RatioConfig(layers=SMALL, rows=32, steps=2, rounds=1)),
        PpoConfig(epochs=1, minibatch=40),
        layers=SMALL,
        seed=1,
    )
    return updates(agent, RolloutSource(env, 8, 10, seed=3), 1)


def sac_run() -> dict[str, Any]:
    """From a data set, of which all processes draw alike: then equal to one process."""
    env = Pendulum(PendulumConfig())
    data = RolloutSource.next(Alone(env), Feedback(lambda obs: obs[:, :1]))
    settings = SacConfig(NetworkConfig(critics=2, critic=SMALL, actor=SMALL), critic_rate=1e-3, actor_rate=1e-3)
    agent = SacRedq(env.spec, settings, seed=5)
    return updates(agent, DatasetSource(data, 16, generator=Streams(2)["rows"]))


class Alone(RolloutSource):
    """A source with the same rows in every process."""

    def __init__(self, env: Pendulum) -> None:
        from rlcore.simulation import begin

        self.env, self.paths, self.steps_per_call, self.mode = env, 4, 8, "eager"
        self.stand = begin(env, 4, seed=7)


def replay_run() -> dict[str, Any]:
    """SAC from a replay of which each process has its own part."""
    env = Pendulum(PendulumConfig())
    agent = SacRedq(env.spec, SacConfig(NetworkConfig(2, SMALL, SMALL)), seed=5)
    feed = RolloutSource(env, 8, 4, seed=3)
    source = ReplaySource(ReplayBuffer(64), 16, generator=Streams(2)["replay"], feed=feed)
    found = updates(agent, source)
    return found | {"capacity": source.buffer.capacity, "drawn": source.next(agent).obs}


def q_run() -> dict[str, Any]:
    env = ScalarLqr(ERGODIC)
    value = LinearInFeatures(lambda x: torch.cat([x**2, x], -1), 2)
    mean = LinearInFeatures(lambda x: torch.cat([x, torch.ones_like(x)], -1), 2, 1)
    rates = QLearningConfig(0.0, 0.5, 0.5, 0.5, 0.1, gradient_clip=1.0)
    agent = QLearning(value, QuadraticQ(mean, 1, 0.1), rates)
    found = updates(agent, RolloutSource(env, 8, 10, seed=3))
    return found | {"average": agent.average_reward.clone()}


def rows_of(batch: Transitions) -> dict[str, Tensor]:
    return {"obs": batch.obs, "reward": batch.reward, "next_obs": batch.next_obs}


def rollout_rows() -> dict[str, Any]:
    env, policy = Pendulum(PendulumConfig(horizon=0.3)), Feedback(lambda obs: -obs[:, 2:])
    source, paths = RolloutSource(env, 8, 12, seed=3), PathSource(env, 8, 5, seed=3)
    found = {"first": rows_of(source.next(policy)), "second": rows_of(source.next(policy))}
    return found | {"paths": paths.next(policy).obs, "fresh": paths.next(policy).obs, "steps": source.steps}


def large_rows(mode: Mode) -> dict[str, Tensor]:
    """4096 paths of a noisy system in all, two calls of eight steps."""
    source = RolloutSource(ScalarLqr(ERGODIC), 4096, 8, seed=3, mode=mode)
    batches = [source.next(Feedback(lambda x: -0.5 * x)) for _ in range(2)]
    return {name: torch.cat([rows_of(batch)[name] for batch in batches]) for name in ("obs", "reward", "next_obs")}


def shares() -> dict[str, Any]:
    """What the saved shares of other numbers of processes become here."""
    env = Pendulum(PendulumConfig())
    found: dict[str, Any] = {}
    rows = RolloutSource(env, 4, 6, seed=3)
    rows.load_shares([{"t": torch.zeros(1), "x": torch.full((1, 2), float(k))} | PLACE for k in range(4)])
    found["stand"] = rows.stand.env.x
    states = []
    for part in range(2):
        ring = ReplayBuffer(6)
        ring.capacity = 3
        for k in range(4):
            ring.add(numbered(torch.tensor([10.0 * k + part])))
        states.append(ring.state_dict())
    whole = ReplayBuffer(6)
    whole.load_shares(states)
    found["ring"] = whole.rows.reward[: len(whole)]
    chained = []
    for part in range(4):
        ring = ChainedReplay(4 * world().size, paths=world().size)
        for k in range(3):
            ring.add(numbered(torch.tensor([10.0 * k + part])))
        chained.append(ring.state_dict())
    chain = ChainedReplay(16, paths=4)
    chain.load_shares(chained)
    found["chain"] = rows_of(chain.rows(torch.arange(len(chain))))
    return found


PLACE = {"step": 0, "seed": 3, "steps": 0, "simulated": 0.0}


def numbered(number: Tensor) -> Transitions:
    column = number.unsqueeze(1)
    return Transitions(column, column, number, torch.ones_like(number), column + 10.0, torch.ones_like(number))


def everything() -> dict[str, Any]:
    here = world()
    runs = {
        "ppo": ppo_run,
        "ppo that rests": lambda: ppo_run(1e-4),
        "orpo": orpo_run,
        "sac": sac_run,
        "replay": replay_run,
        "q": q_run,
        "rows": rollout_rows,
        "large rows": lambda: large_rows("eager"),
        "shares": shares,
    }
    found: dict[str, Any] = {name: run() for name, run in runs.items()}
    found["whole"] = here.whole(torch.tensor([[here.rank, 1]]).bool(), 0)
    found["leader"] = here.from_leader(f"rank {here.rank}")
    found["gathered"] = here.gather(here.rank)
    try:
        here.check_same({"batch": 128, "rank": here.rank})
    except RuntimeError as error:
        found["unequal"] = str(error)
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    with joined("gloo", init_method=f"file://{sys.argv[1]}"):
        found = {"large rows": large_rows("compiled")} if "compiled" in sys.argv else everything()
        torch.save(found, f"{sys.argv[2]}-{world().rank}")
