"""Sampling steered by the error bar: what the tolerance buys, and at how many samples."""

from __future__ import annotations

import math

from rlcore.experiments.integral_rl_adaptive import Config, adaptive, with_fixed_nodes
from rlcore.reporting.acceptance import Measurement, row

SYSTEM = "integral-rl"


@row(
    SYSTEM,
    "A16",
    "third order, T = 1, where N = 5 is refused: adaptive at rtol 1e-6, |P - P*| at the end, mean nodes per window in "
    "the worst iteration",
    "5e-6; 80",
)
def adaptive_sampling() -> Measurement:
    config = Config()
    refused = math.isnan(with_fixed_nodes(5, config))
    found = adaptive(1e-6, config)
    passed = refused and found.error <= 5e-6 and max(found.nodes) <= 80.0
    got = f"{'refused' if refused else 'accepted'}; {found.error:.2e}; {max(found.nodes):.1f}"
    return Measurement("refused; <= 5e-6; <= 80", got, passed)


@row(
    SYSTEM,
    "adaptive-table",
    "the same at rtol 1e-2, 1e-4, 1e-6, 1e-8: |P - P*|; mean nodes in iterations 1 to 4 and at the end, all rtol; the "
    "largest number",
    "3 %; .5; exact",
)
def adaptive_table() -> Measurement:
    table = {
        1e-2: (3.48e-3, (5, 8, 7, 5, 5), 17),
        1e-4: (2.86e-4, (5, 20, 12, 8.7, 6.3), 65),
        1e-6: (1.44e-6, (10, 71.6, 37.3, 24.1, 15.6), 257),
        1e-8: (1.56e-8, (24.4, 146, 82, 53.6, 43.3), 513),
    }
    errors, off, largest = [], 0.0, []
    for rtol, (_, nodes, _) in table.items():
        found = adaptive(rtol, Config())
        errors.append(found.error)
        largest.append(found.largest)
        off = max(off, *(abs(a - b) for a, b in zip((*found.nodes[:4], found.nodes[-1]), nodes, strict=True)))
    worst = max(abs(got / error - 1.0) for got, (error, _, _) in zip(errors, table.values(), strict=True))
    passed = worst <= 0.03 and off <= 0.5 and largest == [most for _, _, most in table.values()]
    return Measurement("0; 0; 17, 65, 257, 513", f"{worst:.1%}; {off:.2f}; {', '.join(map(str, largest))}", passed)
