"""How far off the result may be: from the standard deviation of a window's integral to weights, actions and cost.

    weights   |w - w*| <= |Theta^+| sd                    component by component, linear
    actions   |u - u*| <= 1/2 |R^-1 g' (d phi / dx)'| |dw|    also where the input saturates, since tanh is 1-Lipschitz
    cost      J(u) - J* = int (u - u*)'R (u - u*) dt <= share * J(u),   share = max of du'|R| du / l over the samples

The cost is of second order, because u* is where its slope vanishes. The first line bounds the last evaluation; once
policy iteration stands still it bounds the distance to the optimum as well, because Newton's map has no slope at its
fixed point: errors of earlier evaluations are forgotten, w - w* = Theta^+ dXi + O(dXi^2) on the optimal loop.
Source: the integral for the cost follows from the HJB equation by completing the square; with saturation it is <=.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlcore.agents.integral_rl.improvement import KnownParts
from rlcore.agents.integral_rl.policy_evaluation import Evaluation
from rlcore.data import Windows
from rlcore.errors import ConfigError
from rlcore.functional.bases import Basis, beside


@dataclass(frozen=True, eq=False)
class ErrorBudget:
    """Bounds that hold when no window is off by more than one standard deviation; batched over problems."""

    weights: Tensor
    """|dw| [..., p]."""
    actions: Tensor
    """|du| at the samples [..., W, N, m]."""
    cost_share: Tensor
    """(J(u) - J*) / J(u) [...], for paths like those sampled."""


def error_budget(
    basis: Basis, known: KnownParts, windows: Windows, evaluation: Evaluation, deviations: float = 1.0
) -> ErrorBudget:
    """The bounds for an evaluation on its windows, with `deviations` standard deviations for each integral."""
    bound = evaluation.weight_bound
    if bound is None:
        raise ConfigError("the rule has no prior, so there is no error bar; use IntegratedWiener(0) for the trapezoid")
    weights = deviations * bound
    actions = action_bound(basis, known, windows.states, weights)
    R = beside(known.control_weight.to(actions).abs(), actions, own=2)
    excess = ((actions.unsqueeze(-2) @ R).squeeze(-2) * actions).sum(-1)  # [..., W, N]
    utility = known.utility(windows.states, windows.actions)
    share = torch.where(utility > 0.0, excess / utility, 0.0).amax((-2, -1))
    return ErrorBudget(weights, actions, share)


def action_bound(basis: Basis, known: KnownParts, x: Tensor, weights: Tensor) -> Tensor:  # -> [..., m]
    """|du| at states [L..., *, n] if the weights are off by at most [L..., p]; at unit vectors, that of the gain."""
    inverse = beside(known.inverse.to(x), x, own=2)
    slopes = 0.5 * inverse @ known.input_gain(x).mT @ basis.jacobian(x).mT  # du / dw [..., m, p]
    return (slopes.abs() @ beside(weights, x).unsqueeze(-1)).squeeze(-1)


def newton_limit(kappa: float, epsilon: float) -> tuple[float, float]:
    """Where errors with e_{i+1} <= kappa e_i^2 + epsilon end up, and from which e_0 they do; the limit is <= 2 epsilon.

    Raises `ConfigError` unless 4 kappa epsilon < 1: the errors may then grow without end.
    """
    if not (kappa > 0.0 and epsilon >= 0.0 and 4.0 * kappa * epsilon < 1.0):
        raise ConfigError(f"need kappa > 0 and 0 <= 4 kappa epsilon < 1, got kappa = {kappa} and epsilon = {epsilon}")
    root = (1.0 - 4.0 * kappa * epsilon) ** 0.5
    return 2.0 * epsilon / (1.0 + root), (1.0 + root) / (2.0 * kappa)
