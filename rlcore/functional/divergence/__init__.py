"""f-divergences: f, slope, inverse slope and conjugate of each, under one convention and without overflow."""

from rlcore.functional.divergence.base import (
    LARGEST_EXPONENT,
    Divergence,
    clipped_exponential,
    exponential_difference,
    kl,
)
from rlcore.functional.divergence.families import (
    ALL,
    INTERIOR,
    Alpha,
    ChiSquaredKl,
    ForwardKl,
    JensenShannon,
    NeymanChiSquared,
    PearsonChiSquared,
    ReverseKl,
    SquaredHellinger,
    TotalVariation,
)

__all__ = [
    "ALL",
    "INTERIOR",
    "LARGEST_EXPONENT",
    "Alpha",
    "ChiSquaredKl",
    "Divergence",
    "ForwardKl",
    "JensenShannon",
    "NeymanChiSquared",
    "PearsonChiSquared",
    "ReverseKl",
    "SquaredHellinger",
    "TotalVariation",
    "clipped_exponential",
    "exponential_difference",
    "kl",
]
