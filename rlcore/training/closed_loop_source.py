"""Windows of a closed loop under the policy of the moment: the data of on-policy integral reinforcement learning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rlcore.checks import check_finite, check_integer, check_positive, check_tensors
from rlcore.data import Windows
from rlcore.errors import ConfigError, ShapeError
from rlcore.simulation.closed_loop import Paths
from rlcore.simulation.policy import Policy
from rlcore.training.sources import Source


class ClosedLoopSource(Source[Windows]):
    """`count` windows of `window` seconds one after the other, from each of the S starting states [..., S, n].

    `nodes` is a number of even ones, ends included, or their places in [0, 1]. Every call begins at the same states,
    which keeps the windows exciting as the state decays; `continuing` goes on from where the last call ended.
    Yields W = S * count windows, with the actions that the policy takes at the nodes.
    """

    def __init__(
        self,
        paths: Paths,
        starts: Tensor,
        *,
        window: float,
        count: int,
        nodes: int | Tensor,
        continuing: bool = False,
    ) -> None:
        check_positive("window", window, "s")
        check_integer("count", count)
        check_tensors(starts=starts)
        if starts.ndim < 2 or not starts.is_floating_point() or count < 1:
            raise ShapeError(f"need starts [..., S, n] and count >= 1, got {list(starts.shape)} and {count}")
        check_finite("starts", starts)
        if isinstance(nodes, int):
            places = torch.linspace(0.0, 1.0, max(nodes, 0), dtype=torch.float64)
        else:
            check_tensors(nodes=nodes)
            places = nodes.double()
        whole = places.ndim == 1 and len(places) > 1 and places[[0, -1]].tolist() == [0.0, 1.0]
        if not whole or bool((places.diff() <= 0).any()):
            raise ConfigError(f"nodes must be a number >= 2, or rise from 0 to 1, got {nodes}")
        self.paths, self.starts, self.stand, self.count_of_windows = paths, starts, starts, count
        self.window, self.continuing, self.places = window, continuing, places.to(starts.device)
        self.times = (window * self.places).to(starts.dtype)  # one tensor for all calls, so that weights can be kept

    @torch.no_grad()
    def next(self, policy: Policy) -> Windows:
        count, nodes = self.count_of_windows, len(self.places)
        ends = torch.arange(count, dtype=torch.float64, device=self.places.device)
        times = self.window * (ends.unsqueeze(-1) + self.places)  # [count, N]
        states = self.paths.at(policy, self.stand, times.flatten())  # [..., S, count N, n]
        if self.continuing:
            self.stand = states[..., -1, :]
        states = states.reshape(*states.shape[:-3], -1, nodes, states.shape[-1])  # [..., S count, N, n]
        rows = states[..., 0].numel()
        self.count(rows, rows // nodes * self.window)
        return Windows(self.times, states, policy.act(states))

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"stand": self.stand}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.stand = state["stand"].to(self.starts.device)
