"""CLSTD on 10^5 paths of 100 steps with 10 features, beside the same normal equations in NumPy.

Both sides take the paths as they lie in memory, float32, work in float64, and may use all cores. NumPy comes twice:
over all rows at once, as one writes it, and, harder to beat, in blocks that stay in the cache.

A row costs 330 floating-point operations, 8 bytes read, and, in NumPy's first form, about 700 bytes of features written
and read again. Its rate is thus set by memory, that of the compiled pass by arithmetic.
"""

from __future__ import annotations

import os
import time
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlcore.agents.martingale import Clstd, ClstdConfig
from rlcore.envs.control.ornstein_uhlenbeck import OrnsteinUhlenbeck, OrnsteinUhlenbeckConfig
from rlcore.errors import DataWarning
from rlcore.experiments.benchmark.timing import interleave, table
from rlcore.simulation import Feedback, begin, rollout

FEATURES = 10
BETA = 0.5
BLOCK = 32  # paths of a NumPy block: the quickest of 8, 16, ..., 512


def powers(x: Tensor) -> Tensor:  # [..., 1] -> [..., 10]
    """1, x, ..., x^9, each contiguous in memory: every operation on them runs along it."""
    x = x.squeeze(-1).double()
    columns = [torch.ones_like(x), x]
    while len(columns) < FEATURES:
        columns.append(columns[-1] * x)
    return torch.stack(columns).movedim(0, -1)


Equations = tuple[NDArray[Any], NDArray[Any]]  # [p, p], [p]


def numpy_equations(x: NDArray[Any], reward: NDArray[Any], dt: float) -> Equations:
    """-sum phi change' and sum phi r, from states [K+1, B] and rewards [K, B], over all rows at once."""
    phi = np.vander(x.astype(np.float64).ravel(), FEATURES, increasing=True).reshape(*x.shape, FEATURES)
    before, after = phi[:-1].reshape(-1, FEATURES), phi[1:].reshape(-1, FEATURES)
    change = after - (1.0 + BETA * dt) * before
    return -(before.T @ change), before.T @ reward.astype(np.float64).ravel()


def numpy_clstd(x: NDArray[Any], reward: NDArray[Any], dt: float) -> NDArray[Any]:
    """theta, vectorised over paths and time."""
    return np.asarray(np.linalg.solve(*numpy_equations(x, reward, dt)))


def numpy_blocks(x: NDArray[Any], reward: NDArray[Any], dt: float) -> NDArray[Any]:
    """theta, from blocks of whole paths."""
    gram, target = np.zeros((FEATURES, FEATURES)), np.zeros(FEATURES)
    for start in range(0, x.shape[1], BLOCK):
        part = slice(start, start + BLOCK)
        more, earned = numpy_equations(x[:, part], reward[:, part], dt)
        gram += more
        target += earned
    return np.asarray(np.linalg.solve(gram, target))


def measure(paths: int = 100_000, steps: int = 100) -> list[dict[str, Any]]:
    """Transitions per second; all cores for both, and the same answer."""
    threads = os.cpu_count() or 1
    torch.set_num_threads(threads)
    env = OrnsteinUhlenbeck(OrnsteinUhlenbeckConfig(dt=0.01))
    batch = rollout(env, Feedback(torch.zeros_like), begin(env, paths, seed=0), steps)[0]
    x, reward = batch.obs[..., 0].numpy(), batch.reward.numpy()

    found: dict[str, NDArray[Any]] = {}

    def ours(compiled: bool) -> int:
        agent = Clstd(torch.zeros_like, powers, FEATURES, ClstdConfig(BETA, compiled=compiled))
        agent.update(batch)
        found["compiled" if compiled else "plain"] = agent.theta.numpy()
        return paths * steps

    def whole() -> int:
        found["NumPy"] = numpy_clstd(x, reward, env.spec.dt)
        return paths * steps

    def in_blocks() -> int:
        found["blocks"] = numpy_blocks(x, reward, env.spec.dt)
        return paths * steps

    began = time.perf_counter()
    ours(compiled=True)
    workloads = {
        "rlcore Clstd, compiled": lambda: ours(compiled=True),
        "rlcore Clstd": lambda: ours(compiled=False),
        "NumPy": whole,
        "NumPy in blocks": in_blocks,
    }
    first = time.perf_counter() - began
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # x^9 has heavy tails indeed
        rates = interleave(workloads, rounds=5, clock="wall")
    difference = max(float(np.abs(theta[:3] / found["NumPy"][:3] - 1.0).max()) for theta in found.values())
    about = {"batch": paths, "versions": f"numpy {np.__version__}", "first call s": f"{first:.1f}"}
    return table(rates, "rlcore Clstd, compiled", clock="wall", **about, difference=f"{difference:.1e}")
