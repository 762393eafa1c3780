"""Policy evaluation (PEV) from sampled windows: the integral Bellman equation as one linear solve.

    V(x(t)) - e^{-beta T} V(x(t + T)) = int_t^{t+T} e^{-beta (s - t)} l(x, u) ds,   V = phi'w,   l = q(x) + W(u)

    Theta w = Xi,   Theta_j = phi(x(t_j)) - e^{-beta T} phi(x(t_j + T)),   Xi_j = sum_k w_k e^{-beta s_k} l(t_j + s_k)

Only what was sampled appears: the drift does not. The one error is that of the quadrature, and it enters by addition,
dw = Theta^+ dXi; a bound sd on |dXi| gives |dw| <= |Theta^+| sd, component by component. The errors of neighbouring
windows have one sign, so they must not be added as if they were independent.
Source: Cao and Pan, ICLR 2024, equations of policy evaluation; Vrabie and Lewis, Neural Networks 22, 2009.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from rlcore.data import Windows
from rlcore.functional.bases import StateMap
from rlcore.functional.least_squares import LeastSquares, least_squares
from rlcore.functional.quadrature import Quadrature


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What one evaluation found, per window and per problem."""

    fit: LeastSquares
    """Theta w = Xi with its rank, condition and residual."""
    integral: Tensor
    """Xi, what each window cost [..., W]."""
    deviation: Tensor | None
    """Standard deviation of Xi [..., W], by the rule's prior; None for a rule without one."""

    @property
    def weights(self) -> Tensor:
        """w [..., p]."""
        return self.fit.solution

    @cached_property
    def weight_bound(self) -> Tensor | None:
        """|Theta^+| sd [..., p]: how far w may be off if no window is off by more than one standard deviation."""
        if self.deviation is None:
            return None
        return (self.fit.pseudo_inverse.abs() @ self.deviation.unsqueeze(-1)).squeeze(-1)

    @property
    def residual(self) -> Tensor:
        """Root mean square of Theta w - Xi beside that of Xi [...]: what the basis cannot represent."""
        return (self.fit.residual.square().mean(-1) / self.integral.square().mean(-1)).sqrt()


def regressors(basis: StateMap, windows: Windows, discount_rate: float = 0.0) -> Tensor:  # -> [..., W, p]
    """Theta: what each feature loses over a window, discounted."""
    first, last = windows.states[..., 0, :], windows.states[..., -1, :]
    if discount_rate == 0.0:
        return basis(first) - basis(last)
    return basis(first) - torch.exp(-discount_rate * windows.length).unsqueeze(-1) * basis(last)


def evaluate_policy(
    basis: StateMap, windows: Windows, utility: Tensor, quadrature: Quadrature, discount_rate: float = 0.0
) -> Evaluation:
    """The value of the policy that made the windows, from samples of the utility l [..., W, N] at their nodes."""
    if discount_rate != 0.0:
        utility = utility * torch.exp(-discount_rate * windows.elapsed)
    integral = quadrature.integral(utility)
    deviation = None if quadrature.variance is None else quadrature.deviation(utility)
    return Evaluation(least_squares(regressors(basis, windows, discount_rate), integral), integral, deviation)
