"""When to stop learning: rows that a network has not seen, and whether it still gains on them.

A round gains if the loss on such rows is below the lowest before by more than the standard error of that fall. Both
losses are of the same rows, so the error is that of their differences, far below that of either.
Source: early stopping by patience, as in Prechelt, "Early stopping - but when?", 1998.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Rows(NamedTuple):
    """What rows of two kinds add to the losses of G networks."""

    here: Tensor  # [G, C]
    there: Tensor  # [G, D]

    def mean(self) -> Tensor:  # [G]
        """The losses: the sum of both means."""
        return self.here.mean(1) + self.there.mean(1)

    def fall_to(self, other: Rows) -> tuple[Tensor, Tensor]:  # [G], [G]
        """By how much the losses of the same rows are lower there, and the standard error of that."""
        here, there = self.here - other.here, self.there - other.there
        variance = here.var(1) / here.shape[1] + there.var(1) / there.shape[1]
        return here.mean(1) + there.mean(1), variance.sqrt()


class Flatness:
    """The weights with which each of G networks was best, and which of them have been flat for `patience` rounds."""

    def __init__(self, flat: Tensor, rows: Rows, patience: int) -> None:  # [G, P]
        self.flat, self.rows, self.patience = flat.clone(), rows, patience
        self.waited = torch.zeros(len(flat), device=flat.device)  # [G] rounds without a gain
        self.rounds = torch.zeros_like(self.waited)  # [G] rounds in all

    @property
    def rests(self) -> Tensor:  # [G]
        """Where nothing is gained any more."""
        return self.waited >= self.patience

    def look(self, live: Tensor, flat: Tensor, rows: Rows, last: bool) -> None:  # [g] of the G, [g, P]
        """Take the weights of these networks after a round, if they are better; the lower ones at the end."""
        gain, error = Rows(*(x[live] for x in self.rows)).fall_to(rows)
        better = gain > error
        self.waited[live] = torch.where(better, 0.0, self.waited[live] + 1.0)
        self.rounds[live] += 1.0
        taken = better | ((gain > 0.0) & (self.rests[live] | last))
        kept = live[taken]
        for mine, new in ((self.flat, flat), (self.rows.here, rows.here), (self.rows.there, rows.there)):
            mine[kept] = new[taken]


def systematic(cumulative: Tensor, count: int, generator: torch.Generator) -> Tensor:  # [..., N] -> int64 [..., count]
    """Rows in proportion to their weights, given the sums of these: each as often as it should be, to less than one.

    Points at equal distances after a random first one, in a random order: any part of them is a random sample too.
    Source: systematic resampling, as in Kitagawa, J. Comput. Graph. Stat. 5 (1996).
    """
    device = cumulative.device
    first = torch.rand(*cumulative.shape[:-1], 1, generator=generator, device=device, dtype=cumulative.dtype)
    order = torch.randperm(count, generator=generator, device=device)
    points = (torch.arange(count, device=device) + first) * (cumulative[..., -1:] / count)
    found = torch.searchsorted(cumulative, points, right=True).clamp(max=cumulative.shape[-1] - 1)
    return found[..., order]
