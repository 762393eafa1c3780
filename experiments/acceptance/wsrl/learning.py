"""What the study of the point maze shows, from one run of its quick preset: 5 seeds, K = 0 and 5000, RLPD."""

from __future__ import annotations

from functools import cache

import torch

from rlcore.experiments import wsrl_point_maze
from rlcore.experiments.benchmark import cal_ql
from rlcore.reporting.acceptance import Measurement, at_least, row

SYSTEM = "wsrl"


@cache
def study() -> dict[str, float]:
    """The figures of the quick preset, computed once for all rows."""
    torch.set_num_threads(1)
    return wsrl_point_maze.run(wsrl_point_maze.PRESETS["quick"], seed=0)


@row(SYSTEM, "L1-end", "with K = 5000: share of arrivals at the end, over that before", ">= 1", slow=True)
def no_loss_with_warm_up() -> Measurement:
    return at_least(study()["K = 5000/end"] / study()["K = 5000/before"], 1.0)


@row(SYSTEM, "L1-lowest", "with K = 5000: share of arrivals at the worst moment, over that before", ">= .8", slow=True)
def shallow_dip_with_warm_up() -> Measurement:
    return at_least(study()["K = 5000/lowest"] / study()["K = 5000/before"], 0.8)


@row(SYSTEM, "L2", "with K = 0: share of arrivals lost at the worst moment, of that before", ">= .3", slow=True)
def collapse_without() -> Measurement:
    return at_least(1.0 - study()["K = 0/lowest"] / study()["K = 0/before"], 0.3)


@row(SYSTEM, "L2-q", "Q on offline rows: how far it falls with K = 0, over with K = 5000", ">= 1.25", slow=True)
def q_falls() -> Measurement:
    return at_least(study()["K = 0/q_fall"] / study()["K = 5000/q_fall"], 1.25)


@row(
    SYSTEM,
    "L3",
    "highest TD error on offline rows over that before, with K = 0 and with K = 5000",
    ">= 5; <= 2",
    slow=True,
)
def td_error_rises() -> Measurement:
    without, with_warm_up = (study()[f"{label}/td_error_rise"] for label in ("K = 0", "K = 5000"))
    return Measurement(">= 5; <= 2", f"{without:.2f}; {with_warm_up:.2f}", without >= 5.0 and with_warm_up <= 2.0)


@row(SYSTEM, "L8", "share of arrivals at the end, K = 5000 minus RLPD after as many steps", ">= -.05", slow=True)
def beside_rlpd() -> Measurement:
    return at_least(study()["K = 5000/end"] - study()["RLPD/end"], -0.05)


@row(
    SYSTEM,
    "L11",
    "share of arrivals after 800 updates of Cal-QL on the same batches, 5 seeds: ours beside d3rlpy's",
    ">= -.05",
    slow=True,
    needs="d3rlpy",
)
def beside_d3rlpy() -> Measurement:
    torch.set_num_threads(1)
    found = {name: sum(shares) / len(shares) for name, shares in cal_ql.trained(800, 5).items()}
    difference = found["rlcore"] - found["d3rlpy"]
    return Measurement(">= -0.05", f"{found['rlcore']:.2f} - {found['d3rlpy']:.2f}", difference >= -0.05)
