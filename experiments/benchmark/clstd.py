"""CLSTD on 10^5 paths of 100 steps with 10 features, beside the same normal equations in NumPy."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlcore.agents.martingale import Clstd, ClstdConfig
from rlcore.envs.control.ornstein_uhlenbeck import OrnsteinUhlenbeck, OrnsteinUhlenbeckConfig
from rlcore.experiments.benchmark.timing import interleave, table
from rlcore.simulation import Feedback, begin, rollout

FEATURES = 10
BETA = 0.5


def powers(x: Tensor) -> Tensor:  # [..., 1] -> [..., 10]
    """1, x, ..., x^9."""
    x = x.double()
    columns = [torch.ones_like(x), x]
    while len(columns) < FEATURES:
        columns.append(columns[-1] * x)
    return torch.cat(columns, dim=-1)


def numpy_clstd(x: NDArray[Any], reward: NDArray[Any], dt: float) -> NDArray[Any]:
    """theta from states [K+1, B] and rewards [K, B]: vectorised over all rows, as one would write it."""
    phi = np.vander(x.astype(np.float64).ravel(), FEATURES, increasing=True).reshape(*x.shape, FEATURES)
    before, after = phi[:-1].reshape(-1, FEATURES), phi[1:].reshape(-1, FEATURES)
    change = after - (1.0 + BETA * dt) * before
    return np.asarray(np.linalg.solve(-(before.T @ change), before.T @ reward.astype(np.float64).ravel()))


def measure(paths: int = 100_000, steps: int = 100) -> list[dict[str, Any]]:
    """Transitions per second; all cores for both, and the same answer."""
    threads = os.cpu_count() or 1
    torch.set_num_threads(threads)
    env = OrnsteinUhlenbeck(OrnsteinUhlenbeckConfig(dt=0.01))
    batch = rollout(env, Feedback(torch.zeros_like), begin(env, paths, seed=0), steps)[0]
    x, reward = batch.obs[..., 0].numpy(), batch.reward.numpy()

    def ours() -> int:
        agent = Clstd(torch.zeros_like, powers, FEATURES, ClstdConfig(BETA))
        agent.update(batch)
        found.append(agent.theta.numpy())
        return paths * steps

    def numpy() -> int:
        expected.append(numpy_clstd(x, reward, env.spec.dt))
        return paths * steps

    found: list[NDArray[Any]] = []
    expected: list[NDArray[Any]] = []
    rates = interleave({"rlcore Clstd": ours, "NumPy": numpy}, rounds=3)
    difference = float(np.abs(found[-1][:3] / expected[-1][:3] - 1.0).max())
    return table(rates, "rlcore Clstd", batch=paths, versions=f"numpy {np.__version__}", difference=f"{difference:.1e}")
