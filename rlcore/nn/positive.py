"""Functions of the state that are positive except at the origin, as a value of undiscounted regulation must be."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlcore.checks import check_positive


class PositiveDefinite(nn.Module):
    """V(x) = |psi(x) - psi(0)|^2 + epsilon |x|^2, [..., n] -> [...]: zero with zero slope at 0, positive elsewhere.

    Near the origin V is quadratic whatever psi is, which is what the value of a smooth regulator is.
    """

    def __init__(self, psi: nn.Module, epsilon: float = 1e-3) -> None:
        super().__init__()
        check_positive("epsilon", epsilon)
        self.psi, self.epsilon = psi, epsilon

    def forward(self, x: Tensor) -> Tensor:
        lifted = self.psi(x) - self.psi(torch.zeros_like(x[..., :1, :]))
        found: Tensor = lifted.square().sum(-1) + self.epsilon * x.square().sum(-1)
        return found
