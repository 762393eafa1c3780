"""Windows of fixed physical length, as rows for a replay buffer: their number and cost do not depend on dt.

A row stands for the increment of the martingale over a window that begins at x_0 and ends at x_L,

    int_0^L e^{-beta s} (r - q(X_s, u_s)) ds + e^{-beta L} J(X_L) - J(x_0),

whose variance stays bounded as dt -> 0, while that of a single step grows like 1 / dt. The integral of q is a sum over
a few nodes, one drawn at random in each stratum of the window, so that its mean is exact. Rewards and q count as
spread evenly over their step, by the factor (1 - e^{-beta dt}) / (beta dt): counted at its left end, they would make J
err by beta dt / 2.
Source: the increments are those of Jia and Zhou, JMLR 24 (2023) 161; several-step windows with a fixed number of steps
are used by Cheng, Guo and Zhang, arXiv 2509.23711.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from rlcore.checks import check_not_negative
from rlcore.data import Transitions
from rlcore.data.batches import side_by_side
from rlcore.errors import ConfigError
from rlcore.parallel import world
from rlcore.simulation.policy import Policy
from rlcore.training.sources import Source, consecutive


class WindowSource(Source[Transitions]):
    """What `feed` gathers, cut into windows of `steps` control steps, one beginning every `stride` steps.

    A window may span two batches of the feed, so that gathering little at a time does not shorten any.
    """

    def __init__(
        self,
        feed: Source[Transitions],  # consecutive transitions [K, B]
        steps: int,
        *,
        stride: int,
        nodes: int,
        discount_rate: float,
        generator: torch.Generator,
    ) -> None:
        check_not_negative("discount_rate", discount_rate, "1/s")
        if min(steps, stride, nodes) < 1 or stride > steps:
            raise ConfigError(f"need nodes >= 1 and 1 <= stride <= steps, got {nodes}, {stride} and {steps}")
        self.feed, self.length, self.stride, self.nodes = feed, steps, stride, nodes
        self.discount_rate, self.generator = discount_rate, generator
        self.pending: Transitions | None = None  # [K, B] from the next window's first step on

    def next(self, policy: Policy) -> Transitions:
        pending = self.pending
        while pending is None or len(pending.reward) < self.length:
            batch = self.feed.next(policy)
            pending = batch if pending is None else consecutive([pending, batch])
        self.steps, self.simulated = self.feed.steps, self.feed.simulated
        rows = windows(
            pending,
            self.length,
            stride=self.stride,
            nodes=self.nodes,
            discount_rate=self.discount_rate,
            generator=self.generator,
        )
        self.pending = pending[len(rows.reward) * self.stride :]
        return rows

    def state_dict(self) -> dict[str, Any]:
        pending = {} if self.pending is None else {f.name: getattr(self.pending, f.name) for f in fields(self.pending)}
        parts = {"generator": self.generator.get_state(), "feed": self.feed.state_dict(), "pending": pending}
        return super().state_dict() | parts

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.generator.set_state(state["generator"].cpu())
        self.feed.load_state_dict(state["feed"])
        self.pending = Transitions(**state["pending"]) if state["pending"] else None

    def load_shares(self, states: Sequence[Mapping[str, Any]]) -> None:
        super().load_state_dict(states[0])
        self.generator.set_state(states[0]["generator"].cpu())
        self.feed.load_shares([state["feed"] for state in states])
        pending = [Transitions(**state["pending"]) for state in states if state["pending"]]
        self.pending = side_by_side(pending, 1).map(lambda x: world().own(x, 1)) if pending else None


def windows(
    batch: Transitions, steps: int, *, stride: int, nodes: int, discount_rate: float, generator: torch.Generator
) -> Transitions:
    """Transitions [K, B], consecutive in time -> rows [S, B], all whole windows; one is cut where an episode ends.

    reward is the discounted sum over the window, discount its product, `next_obs` the observation at its end and dt its
    length. Extras, with S = min(nodes, steps): `node_obs` [N, S, d], `node_action` [N, S, m] and `node_weight` [N, S],
    the discounted seconds that each node stands for.
    """
    starts = range(0, len(batch.reward) - steps + 1, stride)
    if not starts:
        raise ConfigError(f"a window of {steps} steps needs as many transitions in a row, got {len(batch.reward)}")
    every = [window(batch[s : s + steps], min(nodes, steps), discount_rate, generator) for s in starts]
    return consecutive([rows.map(lambda x: x.unsqueeze(0)) for rows in every])


def window(piece: Transitions, nodes: int, discount_rate: float, generator: torch.Generator) -> Transitions:
    """The window [W, B] -> [B] that begins with the first step of the piece."""
    length, paths = piece.reward.shape
    device = piece.reward.device
    last = piece.extras["last"] if "last" in piece.extras else torch.zeros_like(piece.reward, dtype=torch.bool)
    over = torch.cat([torch.zeros_like(last[:1]), last[:-1].cumsum(0) > 0])  # [W, B] the episode ended before this step
    discount = torch.where(over, 1.0, piece.discount).cumprod(0)
    before = torch.cat([torch.ones_like(discount[:1]), discount[:-1]]) * ~over  # up to the beginning of each step
    end = (~over).sum(0) - 1  # [B]
    index = torch.arange(paths, device=device)
    exponent = discount_rate * piece.dt
    earned = before * torch.where(exponent > 0, -torch.expm1(-exponent) / exponent.clamp(min=1e-30), 1.0)

    bounds = torch.tensor([length * k // nodes for k in range(nodes + 1)], device=device).unsqueeze(1)
    width = bounds.diff(dim=0)  # [S, 1] steps of each stratum
    uniform = torch.rand(nodes, paths, generator=generator, device=generator.device).to(device)
    picked = bounds[:-1] + (uniform * width).long()  # [S, B]
    weight = (earned * piece.dt).gather(0, picked) * width
    return Transitions(
        piece.obs[0],
        piece.action[0],
        (earned * piece.reward).sum(0),
        discount[-1],
        piece.next_obs[end, index],
        (piece.dt * ~over).sum(0),
        {
            "node_obs": piece.obs[picked, index].transpose(0, 1).contiguous(),
            "node_action": piece.action[picked, index].transpose(0, 1).contiguous(),
            "last": (last & ~over).any(0),
            "node_weight": weight.T.contiguous().to(piece.reward.dtype),
        },
    )


def node_integral(batch: Transitions, values: Tensor) -> Tensor:  # rows of `windows`, [N, S] -> [N]
    """int_0^L e^{-beta s} f(X_s, u_s) ds from f at the nodes."""
    return (batch.extras["node_weight"] * values).sum(-1)
