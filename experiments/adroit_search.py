"""Movements of the Adroit hand that do its tasks sometimes: one found by search for the door, a library for the pen."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from rlcore.envs.robotics.adroit import DIRECTION, DT, OFF, TASKS, Clocked, make_adroit
from rlcore.envs.robotics.adroit_control import TURN_TIMES, DoorPull, PenTurn, along
from rlcore.envs.robotics.adroit_numbers import DOOR
from rlcore.errors import ConfigError
from rlcore.functional.cross_entropy import SearchConfig, cross_entropy
from rlcore.seeding import derive_seed
from rlcore.simulation.policy import Policy
from rlcore.training.recorder import SILENT, Recorder

LATCH, HINGE, REACH = 27, 28, slice(35, 38)  # columns of the door's observation [rad], [rad], [m]
IN_PLACE = 0.07  # m, within which a direction of the pen counts; the task asks for 0.075 m


@dataclass(frozen=True)
class HandSearch:
    """How the movements are found."""

    search: SearchConfig = field(default_factory=lambda: SearchConfig(generations=0, population=40, elite=7))
    """For the door; no generation at all takes the movement that comes with the package."""
    trials: int = 2
    """Episodes by which a candidate is judged."""
    from_scratch: bool = False
    """Whether the search begins from nothing rather than from that movement."""
    movements: int = 120
    """Movements in the library for the pen."""


@cache
def hand(task: str) -> gymnasium.Env[Any, Any]:
    """The environment in which movements are tried."""
    return Clocked(make_adroit(task))


def attempt(policy: Policy, seed: int) -> float:
    """The score of one episode at the door, without noise.

    20 + 5 (share of the time that is left) for a success; else how far latch and door were turned [rad], and how near
    the palm came to the handle [m]: 1.5 latch + 8 door - 4 nearest - mean distance.
    """
    env, limit, seen = hand("door"), TASKS["door"][1], []
    obs, _ = env.reset(seed=seed % 2**31)
    for step in range(limit):
        action = policy.act(torch.from_numpy(obs).unsqueeze(0))[0].numpy()
        obs, _, done, _, _ = env.step(action)
        if done:
            return 25.0 - 5.0 * step / limit
        seen.append(obs)
    table = np.stack(seen)
    apart = np.linalg.norm(table[:, REACH], axis=1)
    return float(1.5 * table[:, LATCH].max() + 8.0 * table[:, HINGE].max() - 4.0 * apart.min() - apart.mean())


def find_pull(config: HandSearch, seed: int, recorder: Recorder = SILENT) -> Tensor:
    """The numbers of `DoorPull` at the mean of the last generation."""
    spread = torch.full((DoorPull.numbers,), 0.6, dtype=torch.float64)
    spread[DoorPull.moves_from :] = 0.1
    found = torch.zeros_like(spread)
    if not config.from_scratch:
        found, spread = DOOR, 0.2 * spread

    def score(generation: int, candidate: Tensor) -> float:
        seeds = (derive_seed(seed, f"door/{generation}/{trial}") for trial in range(config.trials))
        return sum(attempt(DoorPull(candidate), one) for one in seeds) / config.trials

    generator = torch.Generator().manual_seed(derive_seed(seed, "door"))
    steps = cross_entropy(score, found, spread, config.search, generator=generator)
    for generation, (mean, elite) in enumerate(steps, 1):
        found = mean
        recorder.log(generation, {"search/elite_score": elite})
    return found


def turn_library(config: HandSearch, seed: int, noise: float) -> PenTurn:
    """Random movements of the hand and how the pen turned under each; the aim changes nothing of that."""
    if config.movements < 1:
        raise ConfigError(f"the library needs at least 1 movement, got {config.movements}")
    env, generator = hand("pen").unwrapped, torch.Generator().manual_seed(derive_seed(seed, "pen"))
    drawn = torch.rand(config.movements, len(TURN_TIMES), PenTurn.noise_dim, generator=generator, dtype=torch.float64)
    movements = (2.6 * drawn - 1.3).clamp(-1.0, 1.0)  # often at the ends of the joints
    time = DT * torch.arange(TASKS["pen"][1], dtype=torch.float64)
    turned = torch.zeros(config.movements, len(time), 3, dtype=torch.float64)
    for movement, path in zip(movements, turned, strict=True):
        env.reset(seed=0)
        for step, action in enumerate(along(movement.unsqueeze(0), time, TURN_TIMES).numpy()):
            obs = env.step(action)[0]
            if np.linalg.norm(obs[OFF]) < IN_PLACE:
                path[step] = torch.from_numpy(obs[DIRECTION])
    return PenTurn(movements, turned, noise)


def behaviour(task: str, config: HandSearch, noise: float, seed: int, recorder: Recorder = SILENT) -> Policy:
    """Who acts in the data of a task."""
    if task == "pen":
        return turn_library(config, seed, noise)
    return DoorPull(find_pull(config, seed, recorder), noise)
