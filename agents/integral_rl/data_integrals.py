"""Off-policy policy iteration from data integrals: drift and input gain unknown, the windows read once.

u is what acted, whatever chose it; u_i = F_i psi(x) is the policy under judgement, F_{i+1} the next one. Along x

    d/ds e^{-beta s} V_i = -e^{-beta s} (q + u_i'R u_i + 2 u_{i+1}'R (u - u_i)),   V_i = phi'w_i

    e^{-beta T} phi(x(t + T))'w - phi(x(t))'w + 2 <F_{i+1}, R (C' - F_i S)> = -c - <F_i'R F_i, S>
    c = int q,   S = int psi psi',   C = int psi u',   each with e^{-beta s} under the integral

Value and next policy are the unknowns of one linear system, whose entries are polynomials in F_i: c, S and C are
computed once and serve every iteration. The integrals stand in the matrix too, and still the error law is that on
policy: with the true unknowns the equation of a window misses by the quadrature error of the one scalar above, so (dw,
dF) = -Theta^+ delta exactly, with Theta as computed.
Source: Jiang and Jiang, Automatica 48, 2012, equations 9 to 13, for linear systems; IEEE Transactions on Neural
Networks and Learning Systems 25, 2014, for nonlinear ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from rlcore.checks import check_finite
from rlcore.data import Windows
from rlcore.errors import ConfigError, NumericsError
from rlcore.functional.bases import StateMap
from rlcore.functional.least_squares import LeastSquares, least_squares
from rlcore.functional.quadrature import Quadrature, Rule


@dataclass(frozen=True, eq=False)
class DataIntegrals:
    """All that off-policy iteration needs of the windows."""

    change: Tensor
    """e^{-beta T} phi(x(t + T)) - phi(x(t)) [..., W, p]."""
    cost: Tensor
    """c [..., W]."""
    features: Tensor
    """S [..., W, r, r]."""
    actions: Tensor
    """C [..., W, r, m]."""

    @property
    def unknowns(self) -> int:
        """p + m r: weights of the value and of the next policy."""
        r, m = self.actions.shape[-2:]
        return self.change.shape[-1] + m * r


@dataclass(frozen=True, eq=False)
class NodeValues:
    """The samples under the integrals, kept for the error bar, with the rule that integrated them."""

    quadrature: Quadrature
    decay: Tensor  # e^{-beta s} at the nodes, shaped as the times
    cost: Tensor  # q [..., W, N]
    features: Tensor  # psi [..., W, N, r]
    actions: Tensor  # u [..., W, N, m]

    def integrals(self, change: Tensor) -> DataIntegrals:
        """c, S and C."""
        weights = self.quadrature.weights * self.decay
        weighted = weights.unsqueeze(-1) * self.features  # [..., W, N, r]
        return DataIntegrals(
            change, (weights * self.cost).sum(-1), weighted.mT @ self.features, weighted.mT @ self.actions
        )

    def deviation(self, policy: Tensor, improved: Tensor, control_weight: Tensor) -> Tensor | None:  # -> [..., W]
        """Standard deviation of a window's equation, whose integrand is -d/ds e^{-beta s} V."""
        if self.quadrature.variance is None:
            return None
        own = self.features @ policy.mT.unsqueeze(-3)  # u_i [..., W, N, m]
        price = own @ control_weight
        push = (self.features @ improved.mT.unsqueeze(-3)) @ control_weight  # R u_{i+1}
        integrand = self.cost + (price * own).sum(-1) + 2.0 * (push * (self.actions - own)).sum(-1)
        return self.quadrature.deviation(self.decay * integrand)


@dataclass(frozen=True, eq=False)
class OffPolicyStep:
    """One policy evaluated and improved."""

    fit: LeastSquares
    weights: Tensor
    """w of the policy judged [..., p]."""
    policy: Tensor
    """F of the next one [..., m, r]."""

    @cached_property
    def sensitivity(self) -> Tensor:
        """|Theta^+| [..., p + m r, W]."""
        return self.fit.pseudo_inverse.abs()

    def bound(self, deviation: Tensor) -> tuple[Tensor, Tensor]:  # [..., W] -> [..., p], [..., m, r]
        """How far w and F may be off, component by component, if no window is off by more than its deviation."""
        whole = (self.sensitivity @ deviation.unsqueeze(-1)).squeeze(-1)
        p = self.weights.shape[-1]
        return whole[..., :p], whole[..., p:].reshape(self.policy.shape)


def sample_nodes(
    windows: Windows, state_cost: StateMap, actor: StateMap, rule: Rule, discount_rate: float = 0.0
) -> NodeValues:
    """The integrands at the nodes of every window."""
    for name, part in (("times", windows.times), ("states", windows.states), ("actions", windows.actions)):
        check_finite(f"the sampled {name}", part)
    decay = torch.exp(-discount_rate * windows.elapsed)
    x = windows.states
    return NodeValues(rule.at(windows.times), decay, state_cost(x), actor(x), windows.actions)


def value_change(basis: StateMap, windows: Windows, discount_rate: float = 0.0) -> Tensor:  # -> [..., W, p]
    """e^{-beta T} phi(x(t + T)) - phi(x(t))."""
    decay = torch.exp(-discount_rate * windows.length).unsqueeze(-1)
    return decay * basis(windows.states[..., -1, :]) - basis(windows.states[..., 0, :])


def iterate(data: DataIntegrals, policy: Tensor, control_weight: Tensor) -> OffPolicyStep:
    """Judge F_i = `policy` [..., m, r] and improve it."""
    mismatch = data.actions.mT - policy.unsqueeze(-3) @ data.features  # C' - F S [..., W, m, r]
    columns = 2.0 * (control_weight.unsqueeze(-3) @ mismatch).flatten(-2)
    spent = data.cost + torch.einsum("...ab,...wab->...w", policy.mT @ control_weight @ policy, data.features)
    fit = least_squares(torch.cat([data.change, columns], -1), -spent)
    p = data.change.shape[-1]
    return OffPolicyStep(fit, fit.solution[..., :p], fit.solution[..., p:].reshape(policy.shape))


def check_windows(data: DataIntegrals) -> None:
    """Raise unless there are as many windows as unknowns."""
    rows = data.cost.shape[-1]
    if rows < data.unknowns:
        raise ConfigError(
            f"need at least as many windows as unknowns, {data.change.shape[-1]} of the value and "
            f"{data.unknowns - data.change.shape[-1]} of the policy, got {rows}; gather more windows"
        )


def check_excited(fit: LeastSquares) -> None:
    """Raise where the data do not tell the unknowns apart."""
    lost = ~fit.full_rank
    if bool(lost.any()):
        rank, unknowns = int(fit.rank[lost].min()), fit.solution.shape[-1]
        raise NumericsError(
            f"the data must tell all {unknowns} unknowns of value and policy apart, but their integrals have rank "
            f"{rank}; excite the input with at least as many sinusoids as unknowns, or start from more states"
        )
