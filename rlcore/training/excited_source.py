"""Windows of a system that an exploring input excites: the data of off-policy integral reinforcement learning.

    u(t) = policy(x) + a sum_k e_k sin(omega_k t),   sinusoid k on input k mod m

Policy and excitation act at every instant. The sinusoids come from oscillators beside the state, so a path is exact to
rounding whatever its nodes, and the input is known wherever it is sampled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rlcore.checks import check_not_negative, check_tensors
from rlcore.data import Windows
from rlcore.errors import ConfigError, ShapeError
from rlcore.simulation.closed_loop import SmoothPaths
from rlcore.simulation.policy import Feedback, Policy
from rlcore.training.closed_loop_source import ClosedLoopSource
from rlcore.training.sources import Source


class ExcitedSource(Source[Windows]):
    """`count` windows of `window` seconds one after the other, from each starting state [S, n]: W = S * count.

    `velocity` takes states [..., n] and actions [..., m], each row by itself; `frequencies` are in radians per second,
    at least one for each of the m actions. Every call begins at the same states and at time 0.
    """

    def __init__(
        self,
        velocity: Callable[[Tensor, Tensor], Tensor],
        action_dim: int,
        starts: Tensor,
        frequencies: Sequence[float],
        *,
        window: float,
        count: int,
        nodes: int | Tensor,
        amplitude: float = 1.0,
    ) -> None:
        check_not_negative("amplitude", amplitude)
        check_tensors(starts=starts)
        if starts.ndim != 2 or not starts.is_floating_point():
            raise ShapeError(f"starts must be [S, n], got {starts.dtype} {list(starts.shape)}")
        positive = all(0.0 < frequency < math.inf for frequency in frequencies)
        if len(frequencies) < max(action_dim, 1) or len(set(frequencies)) < len(frequencies) or not positive:
            raise ConfigError(
                f"need a positive frequency for each of {action_dim} actions, none twice, got {frequencies}"
            )
        self.state_dim, k = starts.shape[-1], len(frequencies)
        omega = torch.as_tensor(frequencies, dtype=starts.dtype, device=starts.device)
        routes = (
            torch.arange(k, device=starts.device) % action_dim == torch.arange(action_dim).to(starts.device)[:, None]
        )
        self.routes = amplitude * routes.to(starts.dtype)  # [m, k]

        def move(s: Tensor, u: Tensor) -> Tensor:  # [..., n + 2 k], [..., m]
            x, sine, cosine = torch.split(s, [self.state_dim, k, k], dim=-1)
            return torch.cat([velocity(x, u), omega * cosine, -omega * sine], dim=-1)

        oscillators = torch.cat([starts.new_zeros(k), starts.new_ones(k)]).expand(len(starts), 2 * k)
        whole = torch.cat([starts, oscillators], dim=-1)
        self.inner = ClosedLoopSource(SmoothPaths(move), whole, window=window, count=count, nodes=nodes)

    @torch.no_grad()
    def next(self, policy: Policy) -> Windows:
        n, k = self.state_dim, self.routes.shape[-1]
        law = Feedback(lambda s: policy.act(s[..., :n]) + s[..., n : n + k] @ self.routes.T)
        found = self.inner.next(law)
        rows = found.states[..., 0].numel()
        self.count(rows, rows // found.states.shape[-2] * float(found.length))
        return Windows(found.times, found.states[..., :n], found.actions)
