"""What a step costs by its size, fitted, and what follows for more processes than were at hand.

    seconds(n) = fixed + each n                                      n paths, steps, states or critics
    seconds(W) = fixed + each n / W + G r(W)                         W processes, G reductions per step
    r(W) = 2 (W - 1) latency + 2 (W - 1) / W bytes / bandwidth       of a ring, one process per core

`fixed` is what a call costs whatever its size; from n = fixed / each on most of the time goes into the pieces.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls


class Cost(NamedTuple):
    """Seconds of one step, linear in its size."""

    fixed: float
    """Of a step of size zero [s]."""
    each: float
    """Of one more of the pieces [s]."""

    def seconds(self, size: float) -> float:
        """Of one step."""
        return self.fixed + self.each * size

    @property
    def pays_from(self) -> float:
        """The size from which a step costs less than twice its pieces."""
        return self.fixed / self.each if self.each else math.inf


class Exchange(NamedTuple):
    """One reduction over all processes."""

    latency: float
    """Of one message [s]."""
    transfer: float
    """Of the whole content once between two processes [s]."""

    @classmethod
    def measured(cls, small: float, whole: float, processes: int = 2) -> Exchange:
        """From what a few processes took for next to nothing and for the content [s]: r(W) solved for its numbers."""
        turns = 2.0 * (processes - 1)
        return cls(small / turns, max(whole - small, 0.0) * processes / turns)

    def seconds(self, processes: int) -> float:
        """Of a ring of so many processes."""
        return 2.0 * (processes - 1) * (self.latency + self.transfer / processes)


FREE = Exchange(0.0, 0.0)


def fitted(sizes: Sequence[float], seconds: Sequence[float]) -> Cost:
    """The least relative errors, neither number negative."""
    n, t = np.asarray(sizes, float), np.asarray(seconds, float)
    (fixed, each), _ = nnls(np.stack([1.0 / t, n / t], 1), np.ones(len(t)))
    return Cost(float(fixed), float(each))


def among(cost: Cost, size: float, processes: int, exchanges: int = 0, exchange: Exchange = FREE) -> float:
    """Seconds of one step of this size in all, shared out."""
    return cost.fixed + cost.each * size / processes + exchanges * exchange.seconds(processes)


def stops_at(cost: Cost, size: float, exchanges: int = 0, exchange: Exchange = FREE) -> int:
    """The most processes that are still used at least half: W T(W) <= 2 T(1)."""
    alone, processes = among(cost, size, 1), 1
    while processes < size and (processes + 1) * among(cost, size, processes + 1, exchanges, exchange) <= 2.0 * alone:
        processes += 1
    return processes
