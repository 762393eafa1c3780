"""What is known of the problem, and policy improvement (PIM): the best action against a value.

    l(x, u) = q(x) + u'R u,    u+ = argmin_u grad V'g u + u'R u = -1/2 R^-1 g'grad V
    |u| <= lambda:             u+ = -lambda tanh(R^-1 g'grad V / (2 lambda)),   W as in `rlcore.functional.saturation`

Evaluation after improvement is Newton's method for the HJB equation, V_{i+1} = V_i - G'(V_i)^-1 G(V_i): the input gain
and the cost are needed, the drift is not.
Source: Kleinman, 1968; Abu-Khalaf and Lewis, Automatica 41, 2005; Cao and Pan, ICLR 2024.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rlcore.checks import check_tensors
from rlcore.errors import ConfigError, ShapeError
from rlcore.functional.bases import StateMap, beside
from rlcore.functional.saturation import saturated_action, saturated_cost


@dataclass(frozen=True, eq=False)
class KnownParts:
    """The cost rate and the input gain of a control-affine problem; states [L..., *, n], L the problems of a batch."""

    state_cost: StateMap
    """q [..., n] -> [...], per second."""
    input_gain: StateMap
    """g [..., n] -> [..., n, m]."""
    control_weight: Tensor
    """R [L..., m, m], positive definite; diagonal where the input saturates."""
    saturation: float = math.inf
    """lambda, the largest action of each component; inf for none."""
    inverse: Tensor = field(init=False)
    """R^-1, float64."""

    def __post_init__(self) -> None:
        R = self.control_weight
        check_tensors(control_weight=R)
        if R.ndim < 2 or R.shape[-1] != R.shape[-2] or not R.is_floating_point():
            raise ShapeError(
                f"control_weight must be floating [..., m, m], got {R.dtype} {list(R.shape)}; give a scalar as [[r]]"
            )
        if not bool(torch.isfinite(R).all()) or not torch.allclose(R, R.mT):
            raise ConfigError(f"control_weight must be finite and symmetric, got {R.tolist()}; use (R + R') / 2")
        if not bool((torch.linalg.eigvalsh(R)[..., 0] > 0.0).all()):
            raise ConfigError("control_weight must be positive definite: every action must cost something")
        if not self.saturation > 0.0:
            raise ConfigError(f"saturation must be positive, got {self.saturation}; inf means none")
        if math.isfinite(self.saturation) and bool((torch.diag_embed(R.diagonal(dim1=-2, dim2=-1)) != R).any()):
            raise ConfigError("control_weight must be diagonal where the input saturates")
        object.__setattr__(self, "inverse", torch.linalg.inv(R.double()))

    def utility(self, x: Tensor, u: Tensor) -> Tensor:  # [..., n], [..., m] -> [...]
        """l(x, u) = q(x) + W(u), per second."""
        weight = beside(self.control_weight.to(u), u, own=2)
        if math.isfinite(self.saturation):
            return self.state_cost(x) + saturated_cost(u, weight.diagonal(dim1=-2, dim2=-1), self.saturation)
        return self.state_cost(x) + ((u.unsqueeze(-2) @ weight).squeeze(-2) * u).sum(-1)

    def pull(self, x: Tensor, slope: Tensor) -> Tensor:  # [..., n], [..., n] -> [..., m]
        """1/2 R^-1 g'grad V: minus the improved action where the input does not saturate."""
        along = (self.input_gain(x) * slope.unsqueeze(-1)).sum(-2)  # g'grad V
        return 0.5 * (beside(self.inverse.to(x), x, own=2) * along.unsqueeze(-2)).sum(-1)

    def improved_action(self, x: Tensor, slope: Tensor) -> Tensor:  # [..., n], [..., n] -> [..., m]
        """u+ against a value with gradient `slope`."""
        pull = self.pull(x, slope)
        return saturated_action(pull / self.saturation, self.saturation) if math.isfinite(self.saturation) else -pull


def linear_quadratic(b: Tensor, q: Tensor, r: Tensor) -> KnownParts:  # [L..., n, m], [L..., n, n], [L..., m, m]
    """The known parts of dx = (A x + B u) dt with cost rate x'Q x + u'R u, for one problem or a batch."""
    check_tensors(b=b, q=q)
    if b.ndim < 2 or q.ndim < 2 or q.shape[-2:] != (b.shape[-2],) * 2:
        raise ShapeError(f"need B [..., n, m] and Q [..., n, n], got {list(b.shape)} and {list(q.shape)}")
    return KnownParts(
        state_cost=lambda x: ((x.unsqueeze(-2) @ beside(q.to(x), x, own=2)).squeeze(-2) * x).sum(-1),
        input_gain=lambda x: beside(b.to(x), x, own=2).expand(*x.shape[:-1], *b.shape[-2:]),
        control_weight=r,
    )
