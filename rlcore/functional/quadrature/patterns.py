"""A rule worked out once for every pattern of nodes, however many windows show it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from rlcore.checks import check_not_negative
from rlcore.functional.quadrature.nodes import End, Quadrature, Rule, check_nodes

REMEMBERED = 256
"""Patterns kept; the oldest goes first."""


@dataclass(frozen=True, eq=False)
class ByPattern:
    """A rule that remembers: windows that differ by their origin alone share weights, in one call and between calls.

    It pays where there are many windows, as when a long trajectory is cut up: 10^5 of them then cost as much as one.
    """

    rule: Rule
    tolerance: float = 1e-12
    """Part of the longest window by which nodes may differ and still count as equal, at least some roundings of the
    times themselves. The weights are those of the first window that shows the pattern."""
    known: dict[bytes, Quadrature] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        check_not_negative("tolerance", self.tolerance)

    def at(self, times: Tensor, start: End = None, end: End = None, observed: Tensor | None = None) -> Quadrature:
        """As the rule's own."""
        ends, count = check_nodes(times, start, end, observed), times.shape[-1]
        seen = torch.ones_like(times, dtype=torch.bool) if observed is None else observed
        shape = np.broadcast_shapes(times.shape[:-1], *(part.shape[:-1] for part in (*ends, seen)))
        parts = [part - times[..., :1] for part in (ends[0], times, ends[1])]
        rows = torch.cat([part.expand(*shape, part.shape[-1]) for part in parts], -1).reshape(-1, count + 2)
        masks = seen.expand(*shape, count).reshape(-1, count)
        rounding = 64.0 * torch.finfo(times.dtype).eps * float(times.abs().max())
        quantum = max(rounding, self.tolerance * float((rows[:, -1] - rows[:, 0]).max()))
        keys = torch.cat([torch.round(rows.double() / quantum), masks.double()], -1)
        patterns, which = torch.unique(keys, dim=0, return_inverse=True)
        found = []
        for i, pattern in enumerate(patterns):
            name = pattern.cpu().numpy().tobytes() + repr((quantum, rows.dtype, rows.device)).encode()
            quadrature = self.known.get(name)
            if quadrature is None:
                index = int((which == i).nonzero()[0])
                mask = None if observed is None else masks[index]
                quadrature = self.rule.at(rows[index, 1:-1], rows[index, 0], rows[index, -1], mask)
                if not quadrature.weights.requires_grad:  # a graph serves one backward pass only
                    self.remember(name, quadrature)
            found.append(quadrature)
        return gather(found, which.reshape(shape), times, observed)

    def remember(self, name: bytes, quadrature: Quadrature) -> None:
        """Keep what one pattern gave, in place of the oldest where there are too many."""
        if len(self.known) >= REMEMBERED:
            del self.known[next(iter(self.known))]
        self.known[name] = quadrature


def gather(found: list[Quadrature], which: Tensor, times: Tensor, observed: Tensor | None) -> Quadrature:
    """One quadrature for windows [...] of which each shows the pattern `which` [...]."""
    weights = torch.stack([one.weights for one in found])[which]
    if any(one.variance is None or one.log_determinant is None or one.squares is None for one in found):
        return Quadrature(times, weights, observed=observed)

    def squares(values: Tensor) -> Tensor:  # [..., N] -> [...]
        shape = np.broadcast_shapes(values.shape[:-1], which.shape)
        rows, patterns = values.expand(*shape, -1).reshape(-1, values.shape[-1]), which.expand(shape).reshape(-1)
        total = rows.new_zeros(len(rows))
        for i, one in enumerate(found):
            assert one.squares is not None
            total = total.index_put((patterns == i,), one.squares(rows[patterns == i]))
        return total.reshape(shape)

    variances = [one.variance for one in found if one.variance is not None]
    determinants = [one.log_determinant for one in found if one.log_determinant is not None]
    degrees = torch.stack([torch.as_tensor(one.degrees, device=which.device) for one in found])[which]
    return Quadrature(
        times, weights, torch.stack(variances)[which], squares, degrees, torch.stack(determinants)[which], observed
    )
