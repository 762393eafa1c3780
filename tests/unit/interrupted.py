"""A run that ends early by an error, in one process or several: python interrupted.py FOLDER FILE STOP."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

from rlcore.agents.orpo import PpoConfig, ppo
from rlcore.data import ReplayBuffer
from rlcore.envs.control.pendulum import Pendulum, PendulumConfig
from rlcore.nn.ensemble import Layers
from rlcore.parallel import joined
from rlcore.seeding import Streams
from rlcore.training import Phase, ReplaySource, RolloutSource
from rlcore.training.recorder import SILENT, Recorder
from rlcore.training.replica import run_folder
from rlcore.training.trainer import Tick

ITERATIONS = 6


def train(recorder: Recorder, stop: int = 0) -> list[Tensor]:
    """PPO beside a replay that fills up; ends with a KeyError after `stop` iterations."""
    env = Pendulum(PendulumConfig())
    agent = ppo(env.spec, PpoConfig(epochs=2, minibatch=32), layers=Layers((16,)), seed=1)
    replay = ReplaySource(ReplayBuffer(256), 4, generator=Streams(2)["replay"], feed=RolloutSource(env, 8, 2, seed=4))
    phases = [
        Phase("gather", replay, 1, None),
        Phase("learn", RolloutSource(env, 8, 10, seed=3), ITERATIONS, agent.update),
    ]

    def end(tick: Tick) -> None:
        if tick.position.iteration == stop and tick.phase.name == "learn":
            raise KeyError(stop)

    recorder.train(agent, phases, callbacks=[end])
    return [x.detach().clone() for x in agent.parameters()]


def part(folder: Path, stop: int, *, resume: bool) -> list[Tensor] | None:
    """One life of the run; None if it was ended."""
    recorder = run_folder(folder, {"run": "interrupted"}, resume=resume, checkpoint_every=1)
    recorder.silent = True
    try:
        with recorder:
            return train(recorder, stop)
    except KeyError:
        return None


def alone(stop: int = 0) -> list[Tensor]:
    """The whole run in one process, not recorded."""
    return train(SILENT, stop)


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, stop = Path(sys.argv[1]), int(sys.argv[3])
    with joined("gloo", init_method=f"file://{sys.argv[2]}") as here:
        found = part(folder, stop, resume=here.from_leader(folder.exists()))
        if found is not None:
            torch.save(found, f"{sys.argv[2]}-{here.rank}.pt")
