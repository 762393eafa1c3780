"""Basis error, apart from quadrature error; a neural value function beside monomials."""

from __future__ import annotations

import torch

from rlcore.experiments.integral_rl_basis import monomials, network, plane, scalar
from rlcore.reporting.acceptance import Measurement, row

SYSTEM = "integral-rl"


@row(
    SYSTEM,
    "A23",
    "N4, even monomials of degree 2 to 12: sup of |V - V*| and of |u - u*|, largest deviation from the table up to "
    "degree 8, and beyond; error of the quadrature alone, 16 Gauss nodes beside 24",
    "20 %; 20 %; 1e-12",
)
def basis_error() -> Measurement:
    table = {
        2: (9.1e-2, 0.20),
        4: (1.0e-2, 5.0e-2),
        6: (7.6e-4, 7.2e-3),
        8: (1.9e-5, 1.1e-4),
        10: (1.5e-5, 3.4e-4),
        12: (2.0e-6, 9.4e-5),
    }
    study, off, quadrature = scalar(), {}, 0.0
    for degree, (value, action) in table.items():
        agent, found = monomials(study, degree)
        off[degree] = max(abs(found.value / value - 1.0), abs(found.action / action - 1.0))
        if degree in (2, 8):
            finer = monomials(study, degree, nodes=24)[0]
            x = torch.linspace(-1.0, 1.0, 201, dtype=torch.float64).unsqueeze(1)
            quadrature = max(quadrature, float((agent.value(x) - finer.value(x)).abs().max()))
    low, high = max(off[d] for d in (2, 4, 6, 8)), max(off[d] for d in (10, 12))
    passed = low <= 0.2 and high <= 0.2 and quadrature <= 1e-12
    return Measurement("0; 0; <= 1e-12", f"{low:.1%}; {high:.1%}; {quadrature:.0e}", passed)


@row(
    SYSTEM,
    "neural",
    "value networks, 8 and 16 hidden units, N4 and N6: sup of |V - V*| over the box, excess cost as a share of V*",
    "1e-4, 5e-3; 1e-6, 1e-4",
)
def neural() -> Measurement:
    one, two = network(scalar(), 8, 8, seed=0)[1], network(plane(), 16, 8, seed=0)[1]
    passed = one.value <= 1e-4 and two.value <= 5e-3 and one.cost <= 1e-6 and two.cost <= 1e-4
    got = f"{one.value:.1e}, {two.value:.1e}; {one.cost:.1e}, {two.cost:.1e}"
    return Measurement("<= 1e-4, 5e-3; <= 1e-6, 1e-4", got, passed)
