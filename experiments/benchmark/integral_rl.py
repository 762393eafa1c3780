"""Integral RL on 4096 random 4-state regulators side by side, beside loops that take one problem at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from scipy.linalg import expm
from torch import Tensor

from rlcore.agents.integral_rl.linear_batch import starts
from rlcore.envs.affine.random_linear import LinearProblems, random_stable
from rlcore.experiments.benchmark.timing import interleave, table
from rlcore.experiments.integral_rl_scale import Config, blocks, errors, rule, solve

Array = NDArray[np.float64]
LOOP = 32  # problems that a loop takes in each round


class NumpyLoop:
    """The same windows, rule and least squares for one problem, as one writes them in NumPy; stops when converged."""

    def __init__(self, config: Config) -> None:
        self.weights: Array = rule(config).weights.numpy()
        self.starts: Array = starts(config.states).numpy()
        self.upper, self.config = np.triu_indices(config.states), config
        self.spacing = config.window / (config.nodes - 1)

    def features(self, x: Array) -> Array:
        i, j = self.upper
        return np.asarray(x[:, i] * x[:, j])

    def solve(self, A: Array, B: Array, Q: Array, R: Array) -> Array:
        gain, pull = np.zeros((B.shape[1], len(A))), np.linalg.solve(R, B.T)
        states = np.empty((self.config.nodes, *self.starts.shape))
        states[0] = self.starts
        for _ in range(self.config.steps):
            flow = expm((A - B @ gain) * self.spacing).T
            for k in range(1, self.config.nodes):
                states[k] = states[k - 1] @ flow
            spent = self.weights @ ((states @ (Q + gain.T @ R @ gain)) * states).sum(-1)
            weights = np.linalg.lstsq(self.features(states[0]) - self.features(states[-1]), spent, rcond=None)[0]
            value = np.zeros_like(A)
            value[self.upper] = 0.5 * weights
            value += value.T
            before, gain = gain, pull @ value
            if np.abs(gain - before).max() < 1e-9:
                break
        return value


def measure(problems: int = 4096) -> list[dict[str, Any]]:
    """Problems per second of policy iteration alone, one thread each; the largest error over its own bound beside."""
    torch.set_num_threads(1)
    config = Config(problems=problems)
    batch = random_stable(problems, config.states, config.inputs, seed=0)
    error, bound = errors(batch, config)
    rows = [LinearProblems(*(part[k : k + 1] for part in batch)) for k in range(min(LOOP, problems))]
    arrays = [[part[0].numpy() for part in row] for row in rows]
    loop, quadrature = NumpyLoop(config), rule(config)

    def together() -> int:
        values.clear()
        values.extend(solve(block, config, quadrature)[1].value for block in blocks(batch, config))
        return problems

    def numpy() -> int:
        found.append(np.stack([loop.solve(*row) for row in arrays]))
        return len(rows)

    def one_by_one() -> int:
        for row in rows:
            solve(row, config, quadrature)
        return len(rows)

    found: list[Array] = []
    values: list[Tensor] = []
    workloads = {"rlcore, side by side": together, "NumPy, one by one": numpy, "rlcore, one by one": one_by_one}
    rates = interleave(workloads, rounds=5)
    difference = float(np.abs(found[-1] - values[0][: len(rows)].numpy()).max())
    about: dict[str, Any] = {"error/bound": f"{float((error / bound).max()):.2f}", "difference": f"{difference:.1e}"}
    versions = f"numpy {np.__version__}, scipy {scipy.__version__}"
    return table(rates, "rlcore, side by side", problems=problems, versions=versions, **about)
