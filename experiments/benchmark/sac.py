"""SAC's updates beside Stable-Baselines3's SAC: the same networks, batch and data, drawing from the replay included."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box

from rlcore.agents.actor_critic import SAC, DataSpaces, NetworkConfig, SacRedq
from rlcore.data import ReplayBuffer, Transitions
from rlcore.experiments.benchmark.machine import machine
from rlcore.experiments.benchmark.peer_process import Peer, PeerProcess, compare
from rlcore.experiments.benchmark.timing import Work, clock_of, interleave, table
from rlcore.nn.ensemble import Layers

OBSERVATIONS, ACTIONS = 27, 8  # those of AntMaze
ROWS = 20_000  # in the replay
BEST = "rlcore SacRedq, compiled"


class Still(gymnasium.Env[Any, Any]):
    """Spaces without a world: nothing is gathered here."""

    def __init__(self) -> None:
        self.observation_space = Box(-np.inf, np.inf, (OBSERVATIONS,), np.float32)
        self.action_space = Box(-1.0, 1.0, (ACTIONS,), np.float32)


def random_rows() -> Transitions:
    """Rows of noise."""
    generator = torch.Generator().manual_seed(0)
    obs, after = torch.randn(2, ROWS, OBSERVATIONS, generator=generator)
    action = 2.0 * torch.rand(ROWS, ACTIONS, generator=generator) - 1.0
    return Transitions(obs, action, obs[:, 0].clone(), torch.full((ROWS,), 0.99), after, torch.ones(ROWS))


def ours(
    rows: Transitions, width: int, updates: int, *, compiled: bool = False, device: str = "cpu"
) -> Callable[[], int]:
    """Updates of `SacRedq` with two critics and a policy of two hidden layers."""
    layers = Layers((width, width))
    config = replace(SAC, networks=NetworkConfig(critics=2, critic=layers, actor=layers), compiled=compiled)
    agent = SacRedq(DataSpaces(OBSERVATIONS, ACTIONS), config).to(device)
    buffer, generator = ReplayBuffer(ROWS, device), torch.Generator(device).manual_seed(1)
    buffer.add(rows)

    def work() -> int:
        for _ in range(updates):
            agent.update(buffer.sample(256, generator=generator))
        if device != "cpu":
            torch.cuda.synchronize()
        return updates

    return work


def peer(rows: Transitions, width: int, updates: int, device: str = "cpu") -> Callable[[], int]:
    """Updates of Stable-Baselines3's SAC with the same layers."""
    import stable_baselines3
    from stable_baselines3.common.logger import Logger

    kinds = {"net_arch": [width, width]}
    model = stable_baselines3.SAC(
        "MlpPolicy", Still(), policy_kwargs=kinds, batch_size=256, buffer_size=ROWS, device=device, seed=0
    )
    model.set_logger(Logger(folder=None, output_formats=[]))
    buffer = model.replay_buffer
    assert buffer is not None
    columns = (rows.obs, rows.next_obs, rows.action, rows.reward)
    for obs, after, action, reward in zip(*(x.numpy() for x in columns), strict=True):
        buffer.add(obs[None], after[None], action[None], reward[None], np.zeros(1), [{}])

    def work() -> int:
        model.train(gradient_steps=updates, batch_size=256)  # reads its losses, and so waits for a GPU
        return updates

    return work


def workloads(width: int, updates: int, *, compiled: bool = True, device: str = "cpu") -> dict[str, Work]:
    """Ours and Stable-Baselines3's on the same rows."""
    torch.set_num_threads(1)
    rows = random_rows()
    found = {"rlcore SacRedq": ours(rows, width, updates, device=device)}
    if compiled:
        found[BEST] = ours(rows, width, updates, compiled=True, device=device)
    found["Stable-Baselines3 SAC"] = peer(rows, width, updates, device)
    return found


def rates(
    width: int, updates: int = 10, rounds: int = 31, *, compiled: bool = True, device: str = "cpu"
) -> dict[str, list[float]]:
    """Updates per second of critics, policy and temperature together; one thread, or one GPU.

    Rounds are short and many, since another program's load between two of them is no part of the comparison.
    """
    made = workloads(width, updates, compiled=compiled, device=device)
    return interleave(made, rounds=rounds, clock=clock_of(device))


def operations(width: int) -> float:
    """Of one update: 16 forward passes of a network's matrices on 256 rows, as two critics and a policy need."""
    return 16.0 * 2.0 * 256 * (width * width + width * (OBSERVATIONS + ACTIONS + 1))


def measure(rounds: int = 15) -> list[dict[str, Any]]:
    """Updates per second by the width of two hidden layers; SBX in its own environment."""
    import stable_baselines3

    version, found = f"sb3 {stable_baselines3.__version__}", []
    with PeerProcess() as process:
        for width in (64, 256):
            settings = {"observations": OBSERVATIONS, "actions": ACTIONS, "width": width, "updates": 10, "rows": ROWS}
            there = [Peer("SBX SAC", "sbx_agents", "sac", settings)]
            about: dict[str, Any] = {
                "what": f"SAC, 2 x {width}",
                "batch": 256,
                "limit": machine().limit(operations=operations(width)),
            }
            found += compare(process, workloads(width, 10), there, BEST, rounds=rounds, **about)
    for row in found:
        if row["workload"].startswith("Stable"):
            row["versions"] = version
    for width in (64, 256) if torch.cuda.is_available() else ():
        about = {"what": f"SAC, 2 x {width}, GPU", "batch": 256, "device": "cuda", "versions": version}
        found += table(rates(width, device="cuda"), BEST, clock="wall", **about)
    return found
