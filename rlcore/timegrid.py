"""Physical time: rates per second, steps in seconds, and the numbers that follow from both."""

from __future__ import annotations

import math

from rlcore.checks import check_not_negative, check_positive
from rlcore.errors import ConfigError


def discount(rate: float, dt: float) -> float:
    """Discount of one step, exp(-rate dt); rate in 1/s, dt in s."""
    check_not_negative("discount rate", rate, "1/s")
    check_positive("dt", dt, "s")
    return math.exp(-rate * dt)


def rate_from_gamma(gamma: float, dt: float = 1.0) -> float:
    """The rate [1/s] at which a per-step discount `gamma` in (0, 1] discounts, -log(gamma) / dt."""
    check_positive("dt", dt, "s")
    if not 0.0 < gamma <= 1.0:
        raise ConfigError(f"gamma must lie in (0, 1], got {gamma}; a rate of 0 means no discounting")
    return -math.log(gamma) / dt


def steps_in(duration: float, dt: float) -> int:
    """How many steps of `dt` make up `duration`; raises if they do not fit."""
    check_positive("dt", dt, "s")
    check_positive("duration", duration, "s")
    steps = round(duration / dt)
    if steps < 1 or abs(steps * dt - duration) > 1e-6 * duration:
        raise ConfigError(f"{duration} s is not a whole number of steps of dt = {dt} s; choose a multiple of dt")
    return steps
