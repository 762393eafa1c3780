"""When an evaluation or an improvement must not be believed, and what to say then.

Without quadrature error policy iteration is safe: V_i > 0, and under the improved policy

    V_i(x(t)) - e^{-beta T} V_i(x(t + T)) >= int_t^{t+T} e^{-beta (s - t)} l(x, u_{i+1}) ds

because dV_i/dt + l - beta V_i = -(u_{i+1} - u_i)'R (u_{i+1} - u_i) there. Each of these is measured: the windows of a
new policy were no part of the fit of V_i, so they test it. What fails is refused before its policy acts again.
Source: the inequality is that of policy improvement, Saridis and Lee, IEEE Transactions SMC 9, 1979.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from rlcore.agents.integral_rl.policy_evaluation import Evaluation
from rlcore.errors import NumericsError
from rlcore.functional.least_squares import rank_loss

SLACK = 1e-3
"""How far V may fall below 0, beside its largest, by errors of quadrature and basis where it is flat."""


class Reason(IntEnum):
    """Why an update was refused; the gravest wins."""

    FINE = 0
    COARSE = 1
    NEGATIVE = 2
    RISING = 3
    RANK = 4
    NOT_FINITE = 5


@dataclass(frozen=True, eq=False)
class Verdict:
    """One judgement per problem of the batch."""

    reason: Tensor
    """A `Reason` as int64 [...]."""
    decrease: Tensor
    """1 less the largest shortfall of the former V's decrease over a window, beside the cost of that or of the mean
    window, whichever is larger [...]; exact: 1 or more; nan at first."""
    lowest: Tensor
    """Least of V at the nodes, and of its expansion at 0, beside the largest of V [...]."""
    spread: Tensor
    """Largest s.d. of a window's integral beside that integral [...]; nan for a rule without a prior."""

    @property
    def fine(self) -> Tensor:
        """Whether the update may be believed, bool [...]."""
        return self.reason == Reason.FINE

    @property
    def unsafe(self) -> Tensor:
        """Whether the policy that made the windows must not act again, bool [...]."""
        return (self.reason == Reason.NEGATIVE) | (self.reason == Reason.RISING) | (self.reason == Reason.NOT_FINITE)

    def refusal(self, iteration: int, rank: int, features: int, row: int = 0) -> RefusalError:
        """The error for one problem of the batch: what must hold, what was found, what to do."""
        reason = Reason(int(self.reason.flatten()[row]))
        decrease, lowest, spread = (float(part.flatten()[row]) for part in (self.decrease, self.lowest, self.spread))
        policy = "the first policy" if iteration == 1 else "the improved policy, which is taken back,"
        remedy = (
            "start from a stabilising policy"
            if iteration == 1
            else "use more nodes or shorter windows, so that (node spacing) x (fastest rate of the loop) stays below 1"
        )
        quantity, text = {
            Reason.NOT_FINITE: (float("nan"), f"{policy} must keep the state finite, but a path left for infinity"),
            Reason.RANK: (float(rank), rank_loss(rank, features)),
            Reason.RISING: (
                decrease,
                f"under {policy} V must fall over every window by what the window costs, but it fell by {decrease:.3g} "
                "times that",
            ),
            Reason.NEGATIVE: (
                lowest,
                f"{policy} must have a finite and positive V, but that evaluated falls to {lowest:.3g} of its largest: "
                "the loop is unstable, or the windows do not resolve it",
            ),
            Reason.COARSE: (
                spread,
                f"the rule must resolve the windows, but the standard deviation of an integral is {spread:.3g} times "
                "that integral",
            ),
        }[reason]
        if reason is Reason.COARSE:
            remedy = "use more nodes or shorter windows"
        ending = "" if reason is Reason.RANK else f"; {remedy}"
        return RefusalError(iteration, reason, quantity, f"iteration {iteration}: {text}{ending}")


class RefusalError(NumericsError):
    """Policy iteration stopped before a policy that must not act; the agent holds the last one that may."""

    def __init__(self, iteration: int, reason: Reason, quantity: float, message: str) -> None:
        super().__init__(message)
        self.iteration, self.reason, self.quantity = iteration, reason, quantity


def judge(
    evaluation: Evaluation,
    values: Tensor,  # [..., W, N] of the new V at the nodes
    bend: Tensor,  # [...] least of x'H x / 2 at the distance of the farthest sample, with H the curvature of V at 0
    drop: Tensor,  # [..., W] what the former V loses over each window, discounted; nan where there is none
    finite: Tensor,  # bool [...]
    least_decrease: float,
    largest_spread: float,
) -> Verdict:
    """Compare every quantity with its limit."""
    cost = evaluation.integral.abs()
    decrease = 1.0 + ((drop - cost) / torch.maximum(cost, cost.mean(-1, keepdim=True))).amin(-1)
    lowest = torch.minimum(values.amin((-2, -1)), bend) / values.abs().amax((-2, -1))
    if evaluation.deviation is None:
        spread = torch.full_like(decrease, torch.nan)
    else:
        spread = (evaluation.deviation / evaluation.integral.abs()).amax(-1)
    reason = torch.zeros_like(decrease, dtype=torch.int64)
    for code, wrong in (
        (Reason.COARSE, spread > largest_spread),
        (Reason.NEGATIVE, ~(lowest >= -SLACK)),
        (Reason.RISING, decrease < least_decrease),
        (Reason.RANK, ~evaluation.fit.full_rank),
        (Reason.NOT_FINITE, ~finite),
    ):
        reason = torch.where(wrong, int(code), reason)
    return Verdict(reason, decrease, lowest, spread)
