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
from rlcore.experiments.benchmark.timing import interleave, table
from rlcore.nn.ensemble import Layers

OBSERVATIONS, ACTIONS = 27, 8  # those of AntMaze
ROWS = 20_000  # in the replay


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


def rates(
    width: int, updates: int = 10, rounds: int = 31, *, compiled: bool = True, device: str = "cpu"
) -> dict[str, list[float]]:
    """Updates per second of critics, policy and temperature together; one thread, or one GPU.

    Rounds are short and many, since another program's load between two of them is no part of the comparison.
    """
    torch.set_num_threads(1)
    rows = random_rows()
    workloads = {"rlcore SacRedq": ours(rows, width, updates, device=device)}
    if compiled:
        workloads["rlcore SacRedq, compiled"] = ours(rows, width, updates, compiled=True, device=device)
    workloads["Stable-Baselines3 SAC"] = peer(rows, width, updates, device)
    return interleave(workloads, rounds=rounds)


def measure() -> list[dict[str, Any]]:
    """Updates per second by the width of two hidden layers."""
    import stable_baselines3

    found = []
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        for width in (64, 256):
            named = {f"{name}, 2 x {width}": values for name, values in rates(width, device=device).items()}
            best, versions = f"rlcore SacRedq, compiled, 2 x {width}", f"sb3 {stable_baselines3.__version__}"
            found += table(named, best, batch=256, device=device, versions=versions)
    return found
