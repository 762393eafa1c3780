"""One process of a crew: torchrun -m rlcore.experiments.benchmark.crew_member PORT, told by a store at that port.

{"do": "rollouts", "times": 3, "settings": {...}}  ->  {"steps": 393216, "wall": 0.21, "cpu": 0.20}, until {"do": "end"}
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from rlcore.agents.orpo import Ppo, PpoConfig, ppo
from rlcore.envs.control.pendulum import Pendulum
from rlcore.experiments.benchmark.timing import Work
from rlcore.parallel import joined, world
from rlcore.simulation.rollout import Mode
from rlcore.training import RolloutSource

EPOCHS, MINIBATCHES = 4, 4
REDUCTIONS = EPOCHS * MINIBATCHES
"""Of the gradient, in one call of `training`."""


def learner(paths: int, steps: int, mode: Mode, *, compiled: bool = False) -> tuple[Ppo, RolloutSource]:
    """PPO with two networks of 2 x 64 and its pendulums, of all processes together."""
    env = Pendulum()
    settings = PpoConfig(epochs=EPOCHS, minibatch=paths * steps // MINIBATCHES, compiled=compiled)
    return ppo(env.spec, settings, seed=0), RolloutSource(env, paths, steps, seed=0, mode=mode)


def rollouts(paths: int, steps: int, mode: Mode) -> Work:
    """Steps with the policy in the loop, every row kept; nothing is exchanged."""
    agent, source = learner(paths, steps, mode)

    def work() -> int:
        source.next(agent)
        return paths * steps

    return work


def training(paths: int, steps: int, mode: Mode, *, compiled: bool) -> Work:
    """Rollouts and updates: 16 gradients per call, each reduced once."""
    agent, source = learner(paths, steps, mode, compiled=compiled)

    def work() -> int:
        agent.update(source.next(agent))
        return paths * steps

    return work


def exchange(floats: int) -> Work:
    """Reductions of so many numbers."""
    content = [torch.zeros(floats)]

    def work() -> int:
        for _ in range(REDUCTIONS):
            world().average_(content)
        return REDUCTIONS

    return work


def gradient_size() -> int:
    """Floats of one reduction of `training`."""
    return sum(x.numel() for x in ppo(Pendulum().spec, PpoConfig(), seed=0).parameters() if x.requires_grad)


WORKLOADS: dict[str, Callable[..., Work]] = {"rollouts": rollouts, "training": training, "exchange": exchange}


def main() -> None:
    """Answer until told to end."""
    torch.set_num_threads(1)
    store = TCPStore("127.0.0.1", int(sys.argv[1]), is_master=False, timeout=timedelta(hours=2))
    made: dict[str, Work] = {}
    with joined("gloo") as here:
        number = 0
        while (asked := json.loads(store.get(f"ask/{number}")))["do"] != "end":
            store.set(f"told/{number}/{here.rank}", json.dumps(one_round(asked, made)))
            number += 1


def one_round(asked: dict[str, Any], made: dict[str, Work]) -> dict[str, Any]:
    """Do what was asked, from the moment that all are ready; what is new is made and warmed up before."""
    key = json.dumps([asked["do"], asked["settings"]])
    if key not in made:
        made[key] = WORKLOADS[asked["do"]](**asked["settings"])
        made[key]()
    world().gather(0)
    wall, cpu = time.perf_counter(), time.process_time()
    steps = sum(made[key]() for _ in range(asked["times"]))
    return {"steps": steps, "wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


if __name__ == "__main__":
    main()
