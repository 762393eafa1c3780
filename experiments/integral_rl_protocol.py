"""The published experiment of integral RL, as its authors ran it, and the curves that they stored.

Windows of 0.1 s, one path that goes on through all windows and iterations, N even nodes with both ends, stop at a
change of the weights below 1e-3. Their paths come from SciPy's RK45 at a tolerance of 1e-8, with the accumulated cost
as a further state that takes part in the choice of the steps; on the first task, whose ten windows have a condition of
1e7, that shows in the fifth digit. Bayesian quadrature was Matern-7/2 with l = 0.3 s and a nugget of 1e-8.

Source: Cao and Pan, ICLR 2024, and the results stored beside their code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from torch import Tensor

from rlcore.envs.affine import ControlAffine, LinearRegulator, SineSystem, ThirdOrderLinear
from rlcore.experiments.integral_rl_tasks import Learned, Task, iterate, task
from rlcore.functional.quadrature import Matern, Rule, Trapezoid
from rlcore.simulation.policy import Policy

Array = NDArray[np.float64]

WINDOW, STOP, TOLERANCE = 0.1, 1e-3, 1e-8
NODES = tuple(range(5, 16))
TASKS: Mapping[str, tuple[Callable[..., ControlAffine], tuple[float, ...]]] = {
    "third order": (ThirdOrderLinear, (2.0, -2.0, 3.0)),
    "sine": (SineSystem, (1.0, 1.0)),
}
NUGGET = Matern(3, 0.3, noise=1e-8)
"""Bayesian quadrature as published."""

STORED: Mapping[tuple[str, str], tuple[float, ...]] = {
    ("third order", "trapezoid"): (
        1.17763e-3, 7.53423e-4, 5.23108e-4, 3.84290e-4, 2.94202e-4, 2.32456e-4, 1.88288e-4, 1.55573e-4, 1.30750e-4,
        1.11406e-4, 9.60564e-5,
    ),
    ("third order", "BQ"): (
        5.70637e-5, 2.82760e-5, 1.53834e-5, 1.02092e-5, 7.67887e-6, 6.15493e-6, 5.16427e-6, 4.47585e-6, 3.94446e-6,
        3.53375e-6, 3.31476e-6,
    ),
    ("sine", "trapezoid"): (
        1.28760e-4, 8.24086e-5, 5.72293e-5, 4.20467e-5, 3.21926e-5, 2.54366e-5, 2.06040e-5, 1.70285e-5, 1.43090e-5,
        1.21925e-5, 1.05132e-5,
    ),
    ("sine", "BQ"): (
        8.53221e-6, 4.23742e-6, 2.31561e-6, 1.54927e-6, 1.16523e-6, 9.39914e-7, 7.92335e-7, 6.87790e-7, 6.09355e-7,
        5.47944e-7, 4.98272e-7,
    ),
}  # fmt: skip
"""|w - w*| for N = 5, ..., 15, as stored by the authors."""


def paper_task(name: str) -> Task:
    """One of the two tasks, from its single initial state, with paths to rounding."""
    env, start = TASKS[name]
    return task(env(dtype=torch.float64), (start,))


def windows_per_iteration(name: str, rule: Rule) -> int:
    """10 for the trapezoid on the linear task, otherwise 20."""
    return 10 if name == "third order" and isinstance(rule, Trapezoid) else 20


@dataclass(eq=False)
class AccumulatedPaths:
    """RK45 at the published tolerance, window by window, with the cost so far as a state that is never reset."""

    env: ControlAffine
    nodes: int
    cost: float = 0.0

    def at(self, policy: Policy, start: Tensor, times: Tensor) -> Tensor:  # [1, 1, n], [W N] s -> [1, 1, W N, n]
        """States of the one path; its windows follow those of the last call."""
        rates, found = self.rates(policy, start), []
        y = np.append(start.numpy().ravel(), self.cost)
        nodes = times.numpy()[: self.nodes]  # of the first window: its clock serves every window, free of rounding
        for _ in range(len(times) // self.nodes):
            path = solve_ivp(rates, (0.0, nodes[-1]), y, t_eval=nodes, rtol=TOLERANCE, atol=TOLERANCE).y
            found.append(path[:-1].T)
            y = path[:, -1]
        self.cost = float(y[-1])
        return torch.from_numpy(np.concatenate(found)).reshape(*start.shape[:-1], -1, start.shape[-1])

    def rates(self, policy: Policy, start: Tensor) -> Callable[[float, Array], Array]:
        """(x, cost so far) -> their derivatives; where the loop is linear, matrices take a tenth of the time."""
        if isinstance(self.env, LinearRegulator):
            unit = torch.eye(start.shape[-1], dtype=start.dtype).unsqueeze(0)
            K = -policy.act(unit)[0].T
            closed = (self.env.A - self.env.B @ K).numpy()
            rate = (self.env.Q + K.T @ self.env.R @ K).numpy()
            return lambda _, y: np.append(closed @ y[:-1], y[:-1] @ rate @ y[:-1])

        def general(_: float, y: Array) -> Array:
            x = torch.from_numpy(y[:-1]).reshape(start.shape)
            u = policy.act(x)
            return np.append(self.env.problem.velocity(x, u).numpy().ravel(), self.env.cost_rate(x, u).numpy().ravel())

        return general


def reproduce(name: str, rule: Rule, nodes: int, draw: int = 0) -> float:
    """|w - w*| of the published protocol; draws beyond 0 move the initial state in its last bits, as rounding would."""
    found, generator = paper_task(name), torch.Generator().manual_seed(draw)
    last_bits = (2.0 * torch.rand(found.starts.shape, generator=generator, dtype=torch.float64) - 1.0) * 2e-15
    starts = found.starts * (1.0 + last_bits * (draw > 0))
    found = replace(found, paths=AccumulatedPaths(found.env, nodes), starts=starts)
    weights, _ = run_protocol(found, name, rule, nodes).stopped(found.metric, STOP)
    return float(found.error(weights))


def run_protocol(found: Task, name: str, rule: Rule, nodes: int, iterations: int = 9) -> Learned:
    """Windows and iterations of the paper."""
    count = windows_per_iteration(name, rule)
    return iterate(found, [rule], window=WINDOW, count=count, nodes=nodes, iterations=iterations, continuing=True)
