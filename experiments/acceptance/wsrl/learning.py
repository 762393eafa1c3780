"""What the study of the point maze shows, from one run of its quick preset: 5 seeds, K = 0 and 5000, RLPD."""

from __future__ import annotations

from functools import cache

import torch

from rlcore.experiments import wsrl_point_maze
from rlcore.reporting.acceptance import Measurement, at_least, row

SYSTEM = "wsrl"


@cache
def study() -> dict[str, float]:
    """The figures of the quick preset, computed once for all rows."""
    torch.set_num_threads(1)
    return wsrl_point_maze.run(wsrl_point_maze.PRESETS["quick"], seed=0)


@row(
    SYSTEM,
    "L1",
    "with K = 5000: lowest share of arrivals over that before; share at the end over that before",
    ">= .8; >= 1",
    slow=True,
)
def no_collapse_with_warm_up() -> Measurement:
    found = study()
    before, lowest, end = (found[f"K = 5000/{name}"] for name in ("before", "lowest", "end"))
    passed = lowest >= 0.8 * before and end >= before
    return Measurement(">= 0.8; >= 1", f"{lowest / before:.2f}; {end / before:.2f} (before: {before:.2f})", passed)


@row(SYSTEM, "L2", "with K = 0: share of arrivals lost at the worst moment, of that before", ">= .3", slow=True)
def collapse_without() -> Measurement:
    found = study()
    return at_least(1.0 - found["K = 0/lowest"] / found["K = 0/before"], 0.3)


@row(SYSTEM, "L3", "TD error on offline rows, most over before: K = 0; K = 5000", ">= 5; <= 2", slow=True)
def td_error_on_offline_rows() -> Measurement:
    none, warm = (study()[f"K = {k}/td_error_rise"] for k in (0, 5000))
    return Measurement(">= 5; <= 2", f"{none:.2f}; {warm:.2f}", none >= 5.0 and warm <= 2.0)


@row(SYSTEM, "L8", "share of arrivals at the end, K = 5000 minus RLPD after as many steps", ">= -.05", slow=True)
def beside_rlpd() -> Measurement:
    return at_least(study()["K = 5000/end"] - study()["RLPD/end"], -0.05)
