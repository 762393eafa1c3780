"""Windows of fixed physical length, as rows for a replay buffer: their number and cost do not depend on dt.

A row stands for the increment of the martingale over a window that begins at x_0 and ends at x_L,

    int_0^L e^{-beta s} (r - q(X_s, u_s)) ds + e^{-beta L} J(X_L) - J(x_0),

whose variance stays bounded as dt -> 0, while that of a single step grows like 1 / dt. The integral of q is a sum over
a few nodes, one drawn at random in each stratum of the window, so that its mean is exact.
Source: the increments are those of Jia and Zhou, JMLR 24 (2023) 161; several-step windows with a fixed number of steps
are used by Cheng, Guo and Zhang, arXiv 2509.23711.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rlcore.data import Transitions
from rlcore.errors import ConfigError
from rlcore.simulation.policy import Policy
from rlcore.training.sources import Source


class WindowSource(Source[Transitions]):
    """What `feed` gathers, cut into windows of at most `steps` control steps, one beginning every `stride` steps."""

    def __init__(
        self, feed: Source[Transitions], steps: int, *, stride: int, nodes: int, generator: torch.Generator
    ) -> None:
        if min(steps, stride, nodes) < 1:
            raise ConfigError(f"need steps, stride and nodes >= 1, got {steps}, {stride} and {nodes}")
        self.feed, self.length, self.stride, self.nodes = feed, steps, stride, nodes
        self.generator = generator

    def next(self, policy: Policy) -> Transitions:
        batch = self.feed.next(policy)
        self.steps, self.simulated = self.feed.steps, self.feed.simulated
        return windows(batch, self.length, stride=self.stride, nodes=self.nodes, generator=self.generator)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"generator": self.generator.get_state(), "feed": self.feed.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.generator.set_state(state["generator"].cpu())
        self.feed.load_state_dict(state["feed"])


def windows(batch: Transitions, steps: int, *, stride: int, nodes: int, generator: torch.Generator) -> Transitions:
    """Transitions [K, B], consecutive in time -> rows [N]; a window is cut where an episode or the batch ends.

    reward is the discounted sum over the window, discount its product, `next_obs` the observation at its end and dt its
    length. Extras, with S = min(nodes, steps): `node_obs` [N, S, d], `node_action` [N, S, m] and `node_weight` [N, S],
    the discounted seconds that each node stands for.
    """
    length = len(batch.reward)  # K
    every = [window(batch[s : min(s + steps, length)], min(nodes, steps), generator) for s in range(0, length, stride)]
    columns = {
        name: torch.cat([getattr(rows, name) for rows in every])
        for name in ("obs", "action", "reward", "discount", "next_obs", "dt")
    }
    extras = {name: torch.cat([rows.extras[name] for rows in every]) for name in every[0].extras}
    return Transitions(**columns, extras=extras)


def window(piece: Transitions, nodes: int, generator: torch.Generator) -> Transitions:  # [W, B] -> [B]
    """One window that begins with the first step of the piece."""
    length, paths = piece.reward.shape
    device = piece.reward.device
    last = piece.extras["last"] if "last" in piece.extras else torch.zeros_like(piece.reward, dtype=torch.bool)
    over = torch.cat([torch.zeros_like(last[:1]), last[:-1].cumsum(0) > 0])  # [W, B] the episode ended before this step
    discount = torch.where(over, 1.0, piece.discount).cumprod(0)
    before = torch.cat([torch.ones_like(discount[:1]), discount[:-1]]) * ~over  # up to the beginning of each step
    end = (~over).sum(0) - 1  # [B]
    index = torch.arange(paths, device=device)

    strata = min(nodes, length)
    bounds = [length * k // strata for k in range(strata + 1)]
    low = torch.tensor([bounds[min(k, strata - 1)] for k in range(nodes)], device=device).unsqueeze(1)
    width = torch.tensor([bounds[k + 1] - bounds[k] if k < strata else 0 for k in range(nodes)], device=device)
    uniform = torch.rand(nodes, paths, generator=generator, device=generator.device).to(device)
    picked = low + (uniform * width.unsqueeze(1)).long()  # [S, B]; nodes beyond the strata weigh nothing
    weight = (before * piece.dt).gather(0, picked) * width.unsqueeze(1)
    return Transitions(
        piece.obs[0],
        piece.action[0],
        (before * piece.reward).sum(0),
        discount[-1],
        piece.next_obs[end, index],
        (piece.dt * ~over).sum(0),
        {
            "node_obs": piece.obs[picked, index].transpose(0, 1).contiguous(),
            "node_action": piece.action[picked, index].transpose(0, 1).contiguous(),
            "node_weight": weight.T.contiguous().to(piece.reward.dtype),
        },
    )


def node_integral(batch: Transitions, values: Tensor) -> Tensor:  # rows of `windows`, [N, S] -> [N]
    """int_0^L e^{-beta s} f(X_s, u_s) ds from f at the nodes."""
    return (batch.extras["node_weight"] * values).sum(-1)
