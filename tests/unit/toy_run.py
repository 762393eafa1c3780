"""A tiny real experiment for the tests: replay, Adam, dropout (torch's global generator), two phases and an evaluation.

As a script it runs in a forked process, kills it with SIGKILL at random moments, and resumes until it is finished.
Every second kill waits for a new checkpoint, so that a run is met in its middle however fast the machine is.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from rlcore.data import ReplayBuffer, Transitions
from rlcore.seeding import Streams
from rlcore.training import Agent, Phase, ReplaySource, Source
from rlcore.training.recorder import SILENT, Recorder, RunFolder


@dataclass(frozen=True)
class Nested:
    lr: float = 1e-2
    """Learning rate."""


@dataclass(frozen=True)
class Config:
    agent: Nested = Nested()
    iterations: int = 300
    """Iterations of the second phase."""
    pause: float = 0.0
    """Sleep per iteration [s]."""
    bad: bool = False
    """Whether the loss becomes NaN."""
    device: str = "cpu"
    """Where it runs."""


PRESETS = {"quick": Config(), "paper": Config(iterations=600)}


class Rows(Source[Transitions]):
    """Random transitions that depend on how many came before."""

    def next(self, policy: object) -> Transitions:
        generator = torch.Generator().manual_seed(self.steps)
        obs = torch.randn(4, 2, generator=generator)
        self.count(4, 0.4)
        ones = torch.ones(4)
        return Transitions(obs, obs[:, :1], obs.sum(-1), ones, obs + 1.0, 0.1 * ones)


class Toy(Agent[Transitions]):
    """Fits the reward."""

    def __init__(self, config: Config, streams: Streams) -> None:
        super().__init__()
        self.config = config
        self.net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 1))
        for parameter in self.net.parameters():
            nn.init.normal_(parameter, std=0.3, generator=streams["weights"])
        self.optimizers["net"] = torch.optim.Adam(self.net.parameters(), lr=config.agent.lr)

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        return self.net(obs)

    def update(self, batch: Transitions) -> Mapping[str, Tensor | float]:
        time.sleep(self.config.pause)
        loss = (self.net(batch.obs).squeeze(-1) - batch.reward).square().mean()
        self.optimizers["net"].zero_grad()
        loss.backward()
        self.optimizers["net"].step()
        return {"train/loss": loss.detach() * (torch.nan if self.config.bad else 1.0)}


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    streams = Streams(seed)
    agent = Toy(config, streams)
    online = Rows()
    replay = ReplaySource(ReplayBuffer(100), 8, generator=streams["replay"], feed=online, draws_per_feed=3)

    def evaluate() -> dict[str, float]:
        obs = torch.randn(64, 2)  # from the global generator, on purpose
        with torch.no_grad():
            return {"eval/return": -float((agent.act(obs).squeeze(-1) - obs.sum(-1)).square().mean())}

    recorder.log(0, {"eval/reference": 0.0})
    phases = [Phase("online", online, 20, agent.update), Phase("replay", replay, config.iterations, agent.update)]
    result = recorder.train(
        agent, phases, evaluate=evaluate, evaluate_every=20, log_every=7, main_metric="eval/return", keep={"s": streams}
    )
    recorder.log(online.steps, {"eval/after": sum(float(p.detach().sum()) for p in agent.parameters())})
    return result | {"weights": sum(float(p.detach().double().sum()) for p in agent.parameters())}


def go(folder: Path, config: Config, seed: int, *, resume: bool, checkpoint_every: int = 11) -> dict[str, float]:
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    with RunFolder(folder, config, resume=resume, silent=True, checkpoint_every=checkpoint_every) as recorder:
        return recorder.finish(run(config, seed, recorder))


def written_at(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def wait_for_checkpoint(path: Path, before: int) -> None:
    """Return at the first checkpoint after `before`, or after 20 s."""
    deadline = time.monotonic() + 20.0
    while written_at(path) == before and time.monotonic() < deadline:
        time.sleep(1e-3)


def main(folder: Path, kills: int, seed: int) -> None:
    go(
        folder.with_name("warm-up"), Config(iterations=1), 3, resume=False
    )  # imports everything, so that kills meet training
    moments, latest = random.Random(seed), folder / "checkpoints" / "latest.pt"
    for attempt in range(kills + 1):
        before = written_at(latest)
        child = os.fork()
        if child == 0:
            resume = (folder / "config.json").exists()
            go(folder, Config(pause=1e-3), 3, resume=resume)
            os._exit(0)
        if attempt < kills:
            if attempt % 2:
                wait_for_checkpoint(latest, before)
            time.sleep(moments.uniform(0.0, 0.05))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        reached = latest.exists()
        print(
            "killed after a checkpoint"
            if os.WIFSIGNALED(status) and reached
            else "killed"
            if os.WIFSIGNALED(status)
            else f"exit {os.WEXITSTATUS(status)}",
            flush=True,
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
