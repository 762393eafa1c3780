"""Noisy states: the table of errors, itself a sample of nine, and that no rule gains above the noise floor."""

from __future__ import annotations

import math

from rlcore.experiments.integral_rl_noise import LONG, SHORT, SHOWN, learn
from rlcore.reporting.acceptance import Measurement, row

SYSTEM = "integral-rl"
NOISES = (1e-5, 1e-4, 1e-3, 1e-2)
UNSTABLE = math.inf
TABLE = {
    SHORT: {
        "trapezoid": (2.9e-4, 6.9e-4, 9.3e-3, 0.16, UNSTABLE),
        "Simpson": (2.8e-8, 9.0e-4, 9.7e-3, 0.16, UNSTABLE),
        "Matern-7/2, l = 0.3": (2.3e-6, 9.0e-4, 9.6e-3, 0.16, UNSTABLE),
        "IWP2": (6.1e-8, 9.0e-4, 9.6e-3, 0.16, UNSTABLE),
    },
    LONG: {
        "trapezoid": (1.8e-3, 1.9e-3, 2.6e-3, 1.2e-2, 0.11),
        "Simpson": (1.1e-6, 1.0e-4, 9.9e-4, 1.0e-2, 0.11),
        "Matern-7/2, l = 0.3": (3.3e-5, 1.3e-4, 1.0e-3, 1.0e-2, 0.11),
        "IWP2": (2.5e-6, 1.0e-4, 1.0e-3, 1.0e-2, 0.11),
    },
}
NINES = 33


@row(
    SYSTEM,
    "A22",
    "noisy states, 2 window lengths, 4 rules: entries of the table at s = 0 within 3 %; at 4 noises, each a median of "
    "9 draws, between the ends of 33 such medians; within 30 % of the median of all 297; spread of the rules above the "
    "floor",
    "8; 32; -; 5 %",
)
def noise_table() -> Measurement:
    exact, inside, near, spread = 0, 0, 0, 0.0
    for setting, rules in TABLE.items():
        for name, (expected, *_) in rules.items():
            exact += int(abs(float(learn(name, setting, 0.0, 1, seed=0)) / expected - 1.0) <= 0.03)
        for k, noise in enumerate(NOISES, 1):
            errors = {name: learn(name, setting, noise, 9 * NINES, seed=0) for name in SHOWN}
            for name, found in errors.items():
                expected, of_nine = rules[name][k], found.reshape(NINES, 9).median(1).values
                inside += int(float(of_nine.min()) <= expected <= float(of_nine.max()))
                near += int(math.isfinite(expected) and abs(float(found.median()) / expected - 1.0) <= 0.3)
            medians = [float(found.median()) for found in errors.values()]
            if 10.0 * noise / setting.window > 10.0 * rules["trapezoid"][0]:
                spread = max(spread, max(medians) / min(medians) - 1.0)
    passed = exact == 8 and inside == 32 and spread <= 0.05
    return Measurement("8; 32; -; <= 5 %", f"{exact}; {inside}; {near}; {spread:.1%}", passed)
