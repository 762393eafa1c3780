"""What the studies of integral reinforcement learning share: tasks with known optimum, rules, policy iteration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rlcore.agents.integral_rl import IntegralRl, IntegralRlConfig, KnownParts, RefusalError, SideBySide
from rlcore.envs.affine import ControlAffine, LinearRegulator
from rlcore.functional.bases import Basis
from rlcore.functional.quadrature import IntegratedWiener, Matern, Rule, Simpson, Trapezoid
from rlcore.simulation.closed_loop import LinearPaths, Paths, SmoothPaths
from rlcore.training.closed_loop_source import ClosedLoopSource

RULES: Mapping[str, Callable[[float], Rule]] = {
    "trapezoid": lambda window: Trapezoid(),
    "Simpson": lambda window: Simpson(),
    "Matern-1/2, l = T": lambda window: Matern(0, window),
    "Matern-3/2, l = T": lambda window: Matern(1, window),
    "Matern-5/2, l = T": lambda window: Matern(2, window),
    "Matern-7/2, l = T": lambda window: Matern(3, window),
    "Matern-7/2, l = 0.3": lambda window: Matern(3, 0.3),
    "Matern-7/2, l = 10 T": lambda window: Matern(3, 10.0 * window),
    "IWP1": lambda window: IntegratedWiener(1),
    "IWP2": lambda window: IntegratedWiener(2),
    "IWP3": lambda window: IntegratedWiener(3),
}
"""Rules by name, for a window of so many seconds."""

STARTS = {
    2: ((1, 1), (-1, 1), (2, 0), (0, 2), (1.5, -1)),
    3: ((2, -2, 3), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1), (1, 0, 1)),
}
"""Initial states that tell all quadratic features apart, by dimension."""


@dataclass(frozen=True, eq=False)
class Task:
    """A problem with a known optimum, as integral reinforcement learning sees it, and the truth beside it."""

    env: ControlAffine
    paths: Paths
    starts: Tensor  # [S, n]

    @property
    def known(self) -> KnownParts:
        """Cost and input gain; the drift stays in `paths`."""
        return KnownParts(self.env.state_cost, self.env.input_gain, self.env.control_weight, self.env.saturation)

    @property
    def basis(self) -> Basis:
        return self.env.basis.features

    @property
    def metric(self) -> Tensor:
        """Weights of the squares [p] in the error of w: Frobenius' norm of P for linear tasks, that of w for others."""
        if not isinstance(self.env, LinearRegulator):
            return torch.ones_like(self.env.optimal_weights)
        n = self.env.spec.state_dim
        i, j = torch.triu_indices(n, n)
        return torch.where(i == j, 1.0, 0.5).to(self.env.optimal_weights)

    def error(self, weights: Tensor) -> Tensor:  # [..., p] -> [...]
        """|w - w*|."""
        return ((weights - self.env.optimal_weights).square() * self.metric).sum(-1).sqrt()


def task(env: ControlAffine, starts: Sequence[Sequence[float]] | None = None) -> Task:
    """An environment in float64 with paths to rounding: matrix exponentials where it is linear."""
    linear = isinstance(env, LinearRegulator)
    paths: Paths = LinearPaths(env.A, env.B) if linear else SmoothPaths(env.problem.velocity)  # type: ignore[attr-defined]
    return Task(env, paths, torch.tensor(starts or STARTS[env.spec.state_dim], dtype=torch.float64))


@dataclass(frozen=True, eq=False)
class Learned:
    """Policy iteration with R rules side by side, on the same nodes."""

    history: Tensor  # [I, R, p] weights after each iteration; nan from where a rule was refused
    agent: IntegralRl

    @property
    def weights(self) -> Tensor:  # [R, p]
        """The last ones."""
        return self.history[-1]

    def stopped(self, metric: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
        """Weights [R, p] at the first change below `tolerance`, and the iterations [R] that took."""
        change = (self.history.diff(dim=0).square() * metric).sum(-1).sqrt()  # [I - 1, R]
        reached = (change < tolerance).cummax(0).values
        at = (~reached).sum(0).clamp(max=len(change) - 1) + 1  # index of the iterate
        return self.history[at, torch.arange(self.history.shape[1])], at + 1


def iterate(
    task: Task,
    rules: Sequence[Rule],
    *,
    window: float,
    count: int,
    nodes: int | Tensor,
    iterations: int,
    continuing: bool = False,
    config: IntegralRlConfig = IntegralRlConfig(),  # noqa: B008, frozen
) -> Learned:
    """On-policy integral RL from the task's admissible policy, every rule with paths of its own."""
    first, R = task.env.admissible_weights, len(rules)
    agent = IntegralRl(task.basis, task.known, SideBySide(rules), first.expand(R, -1), config)
    starts = task.starts.expand(R, *task.starts.shape)
    source = ClosedLoopSource(task.paths, starts, window=window, count=count, nodes=nodes, continuing=continuing)
    history, alive = [], torch.ones(R, dtype=torch.bool)
    for _ in range(iterations):
        try:
            agent.update(source.next(agent))
        except RefusalError:
            alive = torch.zeros_like(alive)
        if agent.verdict is not None:
            alive = alive & agent.verdict.fine
        history.append(torch.where(alive.unsqueeze(-1), agent.weights, torch.nan))
        if not bool(alive.any()):
            break
    return Learned(torch.stack(history), agent)
