"""The virtual patients by an adaptive integrator: what the fixed step of `Glucose` is measured against."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from torch import Tensor

from rlcore.envs.hacking.glucose_meals import DAY
from rlcore.envs.hacking.glucose_model import Inputs, Plate, RungeKutta, bite, blood_glucose, rates
from rlcore.envs.hacking.glucose_patients import STATES, Patient, columns, names

MEALS = {7 * 60: 45.0, 12 * 60 + 30: 70.0, 15 * 60: 10.0, 18 * 60 + 17: 80.0}
"""Minute of the day -> grams."""


def adaptive_minute(p: Patient, x: Tensor, given: Inputs, rtol: float) -> Tensor:  # [13, P] -> [13, P]
    """One minute by Dormand and Prince's rule of order 8."""

    def right(t: float, y: NDArray[np.float64]) -> NDArray[np.float64]:
        return rates(p, torch.from_numpy(y).view(STATES, -1), given).flatten().numpy()

    found = solve_ivp(right, (0.0, 1.0), x.flatten().numpy(), method="DOP853", rtol=rtol, atol=1e-8)
    return torch.from_numpy(found.y[:, -1].copy()).view(STATES, -1)


def largest_gap(which: str = "all", *, minutes: int = DAY, basal: float = 1.0, rtol: float = 1e-8) -> float:
    """Largest difference in blood glucose [mg/dL] over patients and minutes, at `basal` times the basal rate."""
    table, steady, _ = columns(names(which))
    p = Patient(*table.unbind())
    ours, exact = steady, steady
    zero = torch.zeros_like(p.BW)
    plates = [Plate(zero, zero, zero, zero)] * 2
    rule, gap = RungeKutta(torch.float64, torch.device("cpu")), 0.0
    for minute in range(minutes):
        served = torch.full_like(zero, MEALS.get(minute, 0.0))
        eaten, plates[0], meal = bite(ours, plates[0], served, 1000.0)
        ours = rule.advance(table, ours, Inputs(eaten, basal * p.basal, meal))
        eaten, plates[1], meal = bite(exact, plates[1], served, 1000.0)
        exact = adaptive_minute(p, exact, Inputs(eaten, basal * p.basal, meal), rtol)
        gap = max(gap, float((blood_glucose(p, ours) - blood_glucose(p, exact)).abs().max()))
    return gap
