"""Paths cut into windows, each sampled at nodes: what integral reinforcement learning reads."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rlcore.checks import check_tensors
from rlcore.data.batches import TensorBatch
from rlcore.errors import ShapeError


@dataclass(frozen=True)
class Windows(TensorBatch):
    """W windows with N nodes each; the first and the last node are the ends of the window.

    Leading dimensions are problems, rules, trials. Windows with one pattern of nodes share `times` [N], and then the
    weights of a quadrature rule too.
    """

    times: Tensor  # [N] or [..., N] s, rising, from any origin: only differences within a window count
    states: Tensor  # [..., W, N, n]
    actions: Tensor  # [..., W, N, m]

    def __post_init__(self) -> None:
        check_tensors(times=self.times, states=self.states, actions=self.actions)
        if self.states.ndim < 3 or self.actions.ndim < 3 or self.actions.shape[:-1] != self.states.shape[:-1]:
            raise ShapeError(
                f"states must be [..., W, N, n] and actions [..., W, N, m] with the same leading dimensions, got "
                f"{list(self.states.shape)} and {list(self.actions.shape)}"
            )
        if self.states.shape[-3] < 1:
            raise ShapeError(f"need at least one window, got states {list(self.states.shape)}; gather some first")
        nodes, lead = self.states.shape[-2], self.states.shape[:-1]
        given = self.times.shape
        fits = 0 < len(given) <= len(lead) and all(a in (1, b) for a, b in zip(given[::-1], lead[::-1], strict=False))
        if nodes < 2 or not fits or given[-1] != nodes:
            raise ShapeError(f"times must be [N] or [..., N] beside states {list(lead)} with N >= 2, got {list(given)}")

    @property
    def elapsed(self) -> Tensor:
        """Time since the start of the window, shaped as `times` [s]."""
        return self.times - self.times[..., :1]

    @property
    def length(self) -> Tensor:
        """Of the window, [] or [...] [s]."""
        return self.times[..., -1] - self.times[..., 0]


@dataclass(frozen=True)
class ResolvedWindows(TensorBatch):
    """W windows whose integrals were found to a tolerance, each with as many nodes as that took."""

    times: Tensor  # [N] s, the coarsest nodes, which all windows have
    states: Tensor  # [W, N, n]
    actions: Tensor  # [W, N, m]
    integral: Tensor  # [W] of the utility, discounted from the start of each window
    deviation: Tensor  # [W] its standard deviation
    nodes: Tensor  # int64 [W] sampled
    resolved: Tensor  # bool [W], whether the tolerance was met

    @property
    def windows(self) -> Windows:
        """What was sampled at the coarsest nodes."""
        return Windows(self.times, self.states, self.actions)
