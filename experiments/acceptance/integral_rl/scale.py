"""Thousands of random problems at once, each within its own error bound."""

from __future__ import annotations

import torch

from rlcore.envs.affine.random_linear import random_stable
from rlcore.experiments.integral_rl_scale import Config, errors
from rlcore.reporting.acceptance import Measurement, row

SYSTEM = "integral-rl"


@row(
    SYSTEM,
    "scale",
    "4096 random 4-state problems at once, N = 9, and 4096 with 2 inputs, N = 17: problems outside of their own error "
    "bound beside the Riccati equation; largest error over bound; problems without a bound",
    "none",
)
def every_problem_within_its_bound() -> Measurement:
    outside, largest, without = 0, 0.0, 0
    for config in (Config(), Config(inputs=2, nodes=17, steps=10)):
        error, bound = errors(random_stable(config.problems, config.states, config.inputs, seed=0), config)
        outside += int((~(error <= bound)).sum())
        largest = max(largest, float((error / bound).max()))
        without += int(torch.isinf(bound).sum())
    return Measurement("0; <= 1; 0", f"{outside}; {largest:.2f}; {without}", outside == 0 and without == 0)
