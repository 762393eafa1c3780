"""f-divergences: f, slope, inverse slope and conjugate of each, under one convention and without overflow."""

from rlcore.functional.divergence.base import Divergence, clipped_exponential, exponential_difference, kl
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
