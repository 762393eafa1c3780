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
    around = scale.detach().reshape(*leading, *scale.shape) * shifts.exp().reshape(9, *leading, *[1] * scale.ndim)
    nine = solve(around)
    offset = scale.log() - scale.detach().log()  # 0, with the gradient of log l

    def at_scale(values: Tensor, trailing: int = 0) -> Tensor:  # [9, ...] -> [...]
        slope = sum(c * (values[4 + j] - values[4 - j]) for j, c in enumerate(STENCIL, 1)) / STEP
        return values[4] + slope * offset.to(values.dtype).reshape(*offset.shape, *[1] * trailing)

    assert nine.variance is not None
    assert nine.log_determinant is not None
    assert nine.squares is not None
    squares = nine.squares
    return Quadrature(
        nine.times,
        at_scale(nine.weights, 1),
        at_scale(nine.variance),
        lambda values: at_scale(squares(values)),
        nine.degrees,
        at_scale(nine.log_determinant),
        nine.observed,
    )
