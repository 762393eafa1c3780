"""Occupancy measures: exact ones, what they say of a proxy, penalties on them, and the regularised optimum."""

from rlcore.functional.occupancy.bounds import (
    Moments,
    adversarial_reward,
    best_lambda,
    bound_a,
    bound_b,
    bound_t,
    check_correlation,
    chi_squared,
    fisher_limit,
    moments,
    spread,
)
from rlcore.functional.occupancy.certificate import Regulariser
from rlcore.functional.occupancy.penalties import OccupancyPenalty, maxmin_reward, penalty
from rlcore.functional.occupancy.program import regularised_occupancy
from rlcore.functional.occupancy.reweighting import reweighting
from rlcore.functional.occupancy.tabular import FiniteProblem, policy_of, two_states

__all__ = [
    "FiniteProblem",
    "Moments",
    "OccupancyPenalty",
    "Regulariser",
    "adversarial_reward",
    "best_lambda",
    "bound_a",
    "bound_b",
    "bound_t",
    "check_correlation",
    "chi_squared",
    "fisher_limit",
    "maxmin_reward",
    "moments",
    "penalty",
    "policy_of",
    "regularised_occupancy",
    "reweighting",
    "spread",
    "two_states",
]
