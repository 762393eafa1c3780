"""Windows sampled as densely as their integrals need, by the standard deviation of Bayesian quadrature.

    N, 2 N - 1, 4 N - 3, ... nodes per window, until   sd(I) <= rtol |I|

Nodes are nested, so a window that takes N of them costs N samples. Which windows need many is found out, not assumed:
in policy iteration it is those of the policy with the largest gain. It presumes that a window can be sampled again from
its first state, as a simulator can, or that the samples were stored and are read sparsely.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rlcore.checks import check_integer, check_not_negative, check_positive
from rlcore.data import ResolvedWindows
from rlcore.errors import ConfigError
from rlcore.functional.quadrature import Quadrature, Rule
from rlcore.simulation.closed_loop import Paths
from rlcore.simulation.policy import Policy
from rlcore.training.closed_loop_source import ClosedLoopSource
from rlcore.training.sources import Source


@dataclass(frozen=True)
class Resolution:
    """How densely windows are sampled."""

    rtol: float = 1e-6
    """Largest standard deviation of a window's integral, as a share of the integral."""
    first: int = 5
    """Nodes that every window begins with."""
    most: int = 1025
    """Nodes that no window exceeds."""
    discount_rate: float = 0.0
    """beta [1/s]."""

    def __post_init__(self) -> None:
        check_positive("rtol", self.rtol)
        check_integer("first and most", self.first, self.most)
        check_not_negative("discount_rate", self.discount_rate, "1/s")
        if not 2 <= self.first <= self.most:
            raise ConfigError(f"need 2 <= first <= most nodes, got {self.first} and {self.most}")


@dataclass(eq=False)
class AdaptiveSource(Source[ResolvedWindows]):
    """`count` windows of `window` seconds from each starting state [S, n], each resolved to `resolution`.

    `utility` maps states and actions to the cost rate; the rule must have a prior. Every call begins at the same
    states.
    """

    paths: Paths
    starts: Tensor
    window: float
    count_of_windows: int
    utility: Callable[[Tensor, Tensor], Tensor]
    rule: Rule
    resolution: Resolution = Resolution()
    known: dict[int, Quadrature] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        super().__init__()
        self.coarse = ClosedLoopSource(
            self.paths, self.starts, window=self.window, count=self.count_of_windows, nodes=self.resolution.first
        )
        if self.quadrature(self.resolution.first).variance is None:
            raise ConfigError("the rule has no prior, so no error bar to steer by; use IntegratedWiener or Matern")

    def quadrature(self, nodes: int) -> Quadrature:
        """The rule on so many nodes."""
        if nodes not in self.known:
            times = torch.linspace(0.0, self.window, nodes, dtype=self.starts.dtype, device=self.starts.device)
            self.known[nodes] = self.rule.at(times)
        return self.known[nodes]

    @torch.no_grad()
    def next(self, policy: Policy) -> ResolvedWindows:
        settings, found = self.resolution, self.coarse.next(policy)
        states, begin = found.states, found.states[..., 0, :]
        integral, deviation = torch.ones_like(begin[..., 0]), torch.zeros_like(begin[..., 0])
        taken = torch.full_like(integral, settings.first, dtype=torch.int64)
        resolved = torch.zeros_like(integral, dtype=torch.bool)
        rows, nodes = torch.arange(len(begin), device=begin.device), settings.first
        while True:
            quadrature = self.quadrature(nodes)
            decay = torch.exp(-settings.discount_rate * quadrature.times)
            values = decay * self.utility(states, policy.act(states))
            fine = torch.isfinite(values).all(-1)
            values = torch.where(fine.unsqueeze(-1), values, 1.0)  # a path that left for infinity is left as it is
            integral[rows], deviation[rows] = quadrature.integral(values), quadrature.deviation(values)
            taken[rows] = nodes
            good = deviation[rows] <= settings.rtol * integral[rows].abs()
            resolved[rows] = good & fine
            rows, nodes = rows[fine & ~good], 2 * nodes - 1
            if len(rows) == 0 or nodes > settings.most:
                break
            states = self.paths.at(policy, begin[rows], self.quadrature(nodes).times)
        self.count(int(taken.sum()), len(begin) * self.window)
        return ResolvedWindows(found.times, found.states, found.actions, integral, deviation, taken, resolved)
