"""Figures of the literature that the rows are held against: Nash-MP with lambda = 1/2 and its rivals on two games."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from rlcore.agents.nash import Egpo, Method, Mmd, NashMd, NashMp, follow
from rlcore.envs.games.tables import cosine_reference, cyclic_table, sine_table
from rlcore.functional.divergence import kl
from rlcore.functional.games import PreferenceGame, equilibrium

TABLES = {"SIN": sine_table, "CYC": cyclic_table}
FITTED = (1e-22, 1e-13)
"""Slopes are fitted where KL(pi* | pi_k) lies in between."""

Key = tuple[str, float, int]
Row = tuple[float, float, float, float | None, float]
KL: dict[Key, Row] = {  # game, beta, n: KL after 0, 5, 10, 25 iterations; slope of ln KL per query
    ("CYC", 0.01, 3): (1.545992e-1, 4.2044e-2, 9.5064e-3, 1.1375e-4, -0.14811),
    ("CYC", 0.01, 10): (6.293778e-2, 2.0849e-2, 9.9269e-3, 3.4465e-3, -0.02646),
    ("CYC", 0.01, 100): (2.657803e-3, 2.1663e-3, 1.7666e-3, 9.5850e-4, -0.02030),
    ("CYC", 0.01, 1000): (5.568522e-3, 4.5670e-3, 3.7466e-3, 2.0689e-3, -0.01981),
    ("CYC", 0.1, 3): (1.349219e-1, 7.3338e-3, 3.0606e-4, 2.2374e-8, -0.31745),
    ("CYC", 0.1, 10): (4.849121e-2, 2.2364e-3, 1.3859e-4, 2.6546e-7, -0.18878),
    ("CYC", 0.1, 100): (1.032411e-4, 1.6282e-5, 2.5982e-6, 1.0666e-8, -0.18297),
    ("CYC", 0.1, 1000): (6.154885e-5, 9.6448e-6, 1.5435e-6, 6.4363e-9, -0.18239),
    ("CYC", 1.0, 3): (9.194491e-3, 8.2766e-8, 7.6338e-13, None, -1.15941),
    ("CYC", 1.0, 10): (3.971193e-3, 2.7025e-8, 1.8699e-13, None, -1.17928),
    ("CYC", 1.0, 100): (1.247581e-6, 1.8892e-11, 3.0662e-16, None, -1.10064),
    ("CYC", 1.0, 1000): (8.056830e-7, 1.1343e-11, 1.7932e-16, None, -1.10152),
    ("SIN", 0.01, 3): (3.237503e-1, 1.3462e-1, 7.3681e-2, 6.9852e-3, -0.08252),
    ("SIN", 0.01, 10): (4.704345e-1, 2.0585e-1, 1.1273e-1, 1.1593e-2, -0.08116),
    ("SIN", 0.01, 100): (2.125611e-2, 6.1825e-3, 1.7801e-3, 4.1985e-5, -0.12495),
    ("SIN", 0.01, 1000): (2.045167e-3, 5.8637e-4, 1.6799e-4, 3.9458e-6, -0.12505),
    ("SIN", 0.1, 3): (2.512938e-1, 2.0742e-2, 1.6072e-3, 6.5141e-7, -0.26038),
    ("SIN", 0.1, 10): (3.629533e-1, 3.4007e-2, 2.6449e-3, 1.1032e-6, -0.25938),
    ("SIN", 0.1, 100): (1.831998e-2, 9.9991e-4, 5.3409e-5, 8.1288e-9, -0.29300),
    ("SIN", 0.1, 1000): (1.765713e-3, 9.3904e-5, 4.9838e-6, 7.4502e-10, -0.29361),
    ("SIN", 1.0, 3): (1.265435e-2, 1.5169e-7, 1.8150e-12, None, -1.13337),
    ("SIN", 1.0, 10): (1.533685e-2, 2.0967e-7, 2.7933e-12, None, -1.12263),
    ("SIN", 1.0, 100): (1.226606e-3, 1.0538e-8, 9.0528e-14, None, -1.16649),
    ("SIN", 1.0, 1000): (1.202711e-4, 1.0069e-9, 8.4292e-15, None, -1.16907),
}

LEVELS, LIMIT = (1e-4, 1e-8, 1e-16), 4000
Counts = tuple[int | None, int | None, int | None]
QUERIES: dict[tuple[str, float], dict[str, Counts]] = {  # game of 10 actions, beta: queries to LEVELS within LIMIT
    ("SIN", 0.01): {
        "Nash-MP": (110, 224, 450),
        "Nash-MP, least weight": (108, 220, 444),
        "EGPO": (1700, 3484, None),
        "Nash-MD": (None, None, None),
        "Nash-MD, constant": (None, None, None),
        "MMD": (None, None, None),
    },
    ("SIN", 0.1): {
        "Nash-MP": (34, 70, 140),
        "Nash-MP, least weight": (30, 62, 124),
        "EGPO": (240, 502, 1026),
        "Nash-MD": (141, None, None),
        "Nash-MD, constant": (493, None, None),
        "MMD": (116, 244, 501),
    },
    ("SIN", 1.0): {
        "Nash-MP": (6, 14, 30),
        "Nash-MP, least weight": (4, 8, 18),
        "EGPO": (18, 50, 114),
        "Nash-MD": (4, 701, None),
        "Nash-MD, constant": (6, None, None),
        "MMD": (2, 5, 12),
    },
    ("CYC", 0.01): {
        "Nash-MP": (184, 532, 1228),
        "Nash-MP, least weight": (182, 526, 1214),
        "EGPO": (1384, None, None),
        "Nash-MD": (None, None, None),
        "Nash-MD, constant": (None, None, None),
        "MMD": (None, None, None),
    },
    ("CYC", 0.1): {
        "Nash-MP": (22, 68, 166),
        "Nash-MP, least weight": (20, 62, 150),
        "EGPO": (168, 420, 950),
        "Nash-MD": (76, None, None),
        "Nash-MD, constant": (339, None, None),
        "MMD": (96, 239, 525),
    },
}


def rivals(beta: float) -> dict[str, Method]:
    """The methods of `QUERIES`; the constant step of Nash-MD is min(beta, 1/2)."""
    return {
        "Nash-MP": NashMp(),
        "Nash-MP, least weight": NashMp(None),
        "EGPO": Egpo(),
        "Nash-MD": NashMd(),
        "Nash-MD, constant": NashMd(min(beta, 0.5)),
        "MMD": Mmd(),
    }


def known_game(name: str, beta: float, n: int) -> PreferenceGame:
    """One of the two games with the cosine reference."""
    return PreferenceGame.of(TABLES[name](n), beta, cosine_reference(n))


def path(game: PreferenceGame, method: Method, queries: int) -> tuple[list[int], Tensor]:
    """Queries and KL(pi* | pi_k), until below what is fitted."""
    star = equilibrium(game)
    low, _ = FITTED
    return follow(game, method, queries, lambda at: kl(star, at.log_policy), until=lambda d: bool(d < low))


def slope_per_query(spent: Sequence[int], seen: Tensor) -> float:
    """Of ln KL, where it lies within `FITTED`."""
    low, high = FITTED
    kept = [(q, d) for q, d in zip(spent, seen.tolist(), strict=True) if low < d < high]
    return float(np.polyfit([q for q, _ in kept], np.log([d for _, d in kept]), 1)[0])
