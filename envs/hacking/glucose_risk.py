"""What a blood glucose is worth: two clinical risk indices, and the two rewards of `Glucose`.

All functions take blood glucose BG [mg/dL] of any shape and return values of that shape.
"""

from __future__ import annotations

import torch
from torch import Tensor

LOW, HIGH = 70.0, 180.0  # [mg/dL], the range that a patient should stay in
INSULIN_COST = 0.32  # per (U/min) held for 5 min
HYPO_COST = 13500.0 / 105120.0  # per 5 min below LOW: 13500 dollars a year, 105120 intervals


def magni(bg: Tensor) -> Tensor:
    """Risk 10 (3.5506 (ln(BG)^.8353 - 3.7932))^2; 0 at 138.9 mg/dL, 25.0 at 70, 17.6 at 250.

    Source: Magni et al., "Model predictive control of type 1 diabetes: an in silico trial", J. Diabetes Sci. Techn. 1,
    2007, with the constants of Fox et al., "Deep reinforcement learning for closed-loop blood glucose control", 2020.
    """
    return 10.0 * (3.5506 * (torch.log(bg.clamp(min=1.0)) ** 0.8353 - 3.7932)) ** 2


def kovatchev(bg: Tensor) -> Tensor:
    """Symmetrised risk 10 (1.509 (ln(BG)^1.084 - 5.381))^2; 0 at 112.5 mg/dL, 7.8 at 70, 22.4 at 250.

    Its mean over the low side is the index LBGI, over the high side HBGI.
    Source: Kovatchev et al., "Symmetrization of the blood glucose measurement scale", Diabetes Care 20, 1997.
    """
    return 10.0 * scale(bg) ** 2


def scale(bg: Tensor) -> Tensor:
    """Kovatchev's symmetric scale: negative where glucose is low, positive where it is high."""
    return 1.509 * (torch.log(bg.clamp(min=1.0)) ** 1.084 - 5.381)


def risk_indices(bg: Tensor) -> tuple[Tensor, Tensor]:  # [K, ...] -> [...], [...]
    """LBGI and HBGI: the risk of each side, averaged over all readings of dimension 0."""
    side = scale(bg)
    return (10.0 * side.clamp(max=0.0) ** 2).mean(0), (10.0 * side.clamp(min=0.0) ** 2).mean(0)


def patient_cost(bg: Tensor, insulin: Tensor) -> Tensor:
    """Expected cost of 5 min at this glucose and insulin [U/min]: the insulin, and a hypoglycaemia where it is one."""
    return INSULIN_COST * insulin + HYPO_COST * (bg < LOW).to(bg)
