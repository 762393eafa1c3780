"""Gradients to a length scale, to rounding, without differentiating a factorisation.

    d f / d log l = sum_j c_j [f(l e^(j h)) - f(l e^(-j h))] / h + O(h^8),   j = 1 to 4

Weights and variances are analytic in log l, and the filter gives them to some 1e-15, so this central difference is good
to about 1e-12. To differentiate the QR factorisations would divide by the pivots that exact observations make 0.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rlcore.functional.quadrature.nodes import Quadrature

STEP = 0.03
"""h, which leaves (h / 2)^8 in truth and some 1e-15 / h in rounding."""
STENCIL = (4 / 5, -1 / 5, 4 / 105, -1 / 280)


def differentiable(solve: Callable[[Tensor], Quadrature], scale: Tensor, windows: int) -> Quadrature:
    """`solve(scale)` with gradients to the scale [...]; `windows` is the number of batch dimensions of the nodes."""
    shifts = STEP * torch.arange(-4, 5, dtype=scale.dtype, device=scale.device)
    leading = (1,) * (max(windows, scale.ndim) - scale.ndim)
    around = scale.detach().reshape((*leading, *scale.shape)) * shifts.exp().reshape((9, *leading, *[1] * scale.ndim))
    nine = solve(around)
    offset = scale.log() - scale.detach().log()  # 0, with the gradient of log l

    def slope(values: Tensor) -> Tensor:  # [9, ...] -> [...]
        return torch.stack([c * (values[4 + j] - values[4 - j]) for j, c in enumerate(STENCIL, 1)]).sum(0) / STEP

    def power(values: Tensor) -> Tensor:  # [9, ...] -> [...]
        """What is near a power of the scale: its logarithm is near a straight line, which the stencil fits best."""
        logarithm = slope(values.clamp(min=torch.finfo(values.dtype).tiny).log())
        return values[4] + values[4] * logarithm * offset.to(values.dtype)

    def squares(values: Tensor) -> Tensor:  # [..., N] -> [...]
        rank = len(leading) + scale.ndim
        further = max(0, values.ndim - 1 - rank)  # dimensions that only the values have
        beside = values.unsqueeze(further) if values.ndim > rank else values
        assert nine.squares is not None
        return power(nine.squares(beside).movedim(further, 0))

    assert nine.variance is not None
    assert nine.log_determinant is not None
    return Quadrature(
        nine.times,
        nine.weights[4] + slope(nine.weights) * offset.to(nine.weights.dtype).unsqueeze(-1),
        power(nine.variance),
        squares,
        nine.degrees,
        nine.log_determinant[4] + slope(nine.log_determinant) * offset.to(nine.weights.dtype),
        nine.observed,
    )
