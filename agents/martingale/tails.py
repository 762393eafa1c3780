"""Whether test functions are square-integrable under the data: how much of sum xi^2 a single row holds.

    share_n = max_k xi_k^2 / sum_{k <= n} xi_k^2  ->  0   exactly when   E xi^2 is finite

For light tails it falls like 1 / n. With tails P(xi^2 > s) ~ s^-p and p < 1 the moment grows with n for ever, the share
stays near 1 - p, and neither a linear solve nor stochastic approximation converges.
Source: O'Brien, "A limit theorem for sample maxima and heavy branches", J. Appl. Prob. 17 (1980), for the limit.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from rlcore.errors import DataWarning

FEW_ROWS = 1000
"""Up to here a large share means little."""
LARGE = 0.1
"""A share beyond this, and beyond n^(-1/3), is heavy: the tails look like p < .9, or n is far too small."""


def largest_and_sum(xi: Tensor) -> tuple[Tensor, Tensor]:  # [N, p] -> [p], [p]
    """max_k xi_k^2 and sum_k xi_k^2."""
    squares = (xi * xi).double().T.contiguous()  # [p, N]: along memory a maximum is 20 times faster
    return squares.amax(1), squares.sum(1)


class TestFunctionShare(nn.Module):
    """The largest share that one row has in the running sum of xi^2, over the p components."""

    __test__ = False  # pytest takes names that begin with Test for test cases

    largest: Tensor  # [p]
    total: Tensor  # [p]
    rows: Tensor  # []

    def __init__(self, size: int) -> None:
        super().__init__()
        for name, shape in (("largest", (size,)), ("total", (size,)), ("rows", ())):
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))
        self.warned = False

    @torch.no_grad()
    def see(self, xi: Tensor) -> None:  # [*, p]
        """Count the rows of a batch."""
        self.add(xi[..., 0].numel(), *largest_and_sum(xi.flatten(0, -2)))

    def add(self, rows: int, largest: Tensor, total: Tensor) -> None:  # [p], [p]
        """Count rows whose largest square and sum of squares are known."""
        self.largest.copy_(torch.maximum(self.largest, largest))
        self.total += total
        self.rows += rows

    @property
    def share(self) -> Tensor:  # []
        return (self.largest / self.total.clamp(min=torch.finfo(torch.float64).tiny)).max()

    @property
    def heavy(self) -> bool:
        """Whether one row weighs so much that the moment cannot be told from an infinite one."""
        rows = float(self.rows)
        return rows > FEW_ROWS and float(self.share) > max(LARGE, rows ** (-1.0 / 3.0))

    def describe(self) -> str:
        """What was found, in words."""
        return (
            f"one row of {float(self.rows):.3g} holds {float(self.share):.1%} of the sum of the squared test functions"
        )

    def warn(self, name: str, remedy: str) -> None:
        """Say so, once, if the tails are heavy."""
        if self.heavy and not self.warned:
            self.warned = True
            warnings.warn(
                f"{name}: {self.describe()}; they must be square-integrable under the data, and look as if they were "
                f"not: {remedy}",
                DataWarning,
                stacklevel=3,
            )
