"""What a proxy asks for at a price of sqrt(chi^2) if no dynamics stood in the way: from reference data alone."""

from __future__ import annotations

import torch
from torch import Tensor

from rlcore.checks import check_not_negative
from rlcore.functional.occupancy.bounds import spread

HALVINGS = 100


def reweighting(proxy: Tensor, weight: Tensor, strength: float) -> Tensor:  # [N], weights that sum to 1 -> [N]
    """The L >= 0 with E_mu0[L] = 1 that maximises E_mu0[L P] - lambda sqrt(E_mu0[(L - 1)^2]).

        L = (P - c)+ / E_mu0[(P - c)+],   c such that sd((P - c)+) = lambda

    No policy earns more by that objective than this L does, so the truth that it weights together, E_mu0[L R], says
    beforehand where a strength leads. From lambda = sd(P) on nothing pays, and L = 1; at 0 all is where P is largest.
    """
    check_not_negative("strength", strength)
    if strength >= float(spread(proxy, weight)[1]):
        return torch.ones_like(proxy)
    low, high = proxy.min(), proxy.max()
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        wide = spread((proxy - middle).clamp(min=0.0), weight)[1] > strength
        low, high = torch.where(wide, middle, low), torch.where(wide, high, middle)
    above = (proxy - low).clamp(min=0.0)
    if not bool((weight * above).sum() > 0.0):  # c is the largest P to rounding
        above = (proxy == proxy.max()).to(proxy)
    return above / (weight * above).sum()
