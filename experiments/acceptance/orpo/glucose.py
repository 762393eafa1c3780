"""The virtual patients: the model beside an adaptive integrator, the risks, the base controller and the hack."""

from __future__ import annotations

from dataclasses import replace

import torch

from rlcore.envs.hacking.glucose_risk import kovatchev, magni
from rlcore.experiments import hacking_study as study
from rlcore.experiments import orpo_glucose
from rlcore.experiments.benchmark import glucose as bench
from rlcore.experiments.glucose_exact import largest_gap
from rlcore.reporting.acceptance import Measurement, at_least, at_most, each_within, row

SYSTEM = "orpo"


@row(
    SYSTEM, "glucose-rk4", "30 patients over 24 h with meals: largest |dBG| of RK4 at 1 min to rtol 1e-8", "<= .5 mg/dL"
)
def rk4() -> Measurement:
    return at_most(largest_gap(), 0.5)


@row(SYSTEM, "glucose-risk", "Magni and Kovatchev risks at BG 40, 70, 180, 250 mg/dL", "± .1 each")
def risks() -> Measurement:
    bg = torch.tensor([40.0, 70.0, 180.0, 250.0], dtype=torch.float64)
    expected = [84.3, 25.0, 3.5, 17.6, 36.4, 7.8, 7.7, 22.4]
    return each_within([*magni(bg).tolist(), *kovatchev(bg).tolist()], expected, [0.1] * 8)


@row(SYSTEM, "glucose-pid", "PID for 20 days, legacy meals: true return, proxy, r", "± 3e3, ± 8, ± .05")
def pid_legacy() -> Measurement:
    found = study.glucose(paths=32)
    proxy, true = found.totals()
    return each_within([true, proxy, found.correlation], [-70e3, -174.0, 0.73], [3e3, 8.0, 0.05])


@row(SYSTEM, "glucose-fixed", "PID for 20 days, meals counted in one unit: true return", "± 3e3")
def pid_fixed() -> Measurement:
    return each_within([study.glucose(legacy=False, paths=32).totals()[1]], [-45e3], [3e3])


@row(SYSTEM, "glucose-hack", "no insulin for 20 days, legacy meals: true return, proxy", "<= -550e3, 0")
def no_insulin() -> Measurement:
    proxy, true = study.glucose(study.constant(0.0), paths=32).totals()
    return Measurement("<= -550000, 0", f"{true:.0f}, {proxy:.4f}", true <= -550e3 and proxy == 0.0)


@row(SYSTEM, "glucose-constant", "constants a = .030, .034, .040 for 20 days, legacy: true returns", "± 1e3", slow=True)
def constants() -> Measurement:
    found = [study.glucose(study.constant(a)).totals()[1] for a in (0.030, 0.034, 0.040)]
    return each_within(found, [-55.9e3, -49e3, -72.1e3], [1e3, 1e3, 1e3])


@row(
    SYSTEM,
    "glucose-learn",
    "glucose, legacy, ORPO at .25 sd(P): true, also over the constant .034, in range, below 70; PPO alone",
    ">= -45e3, .65, <= .05, -500e3",
    slow=True,
)
def learned() -> Measurement:
    found = orpo_glucose.run(orpo_glucose.PRESETS["quick"], 0)
    held = orpo_glucose.HELD_AT.name
    true, inside, below = (found[f"{held}/eval/{name}"] for name in ("true", "in_range", "hypo"))
    constant, alone = found["constant 0.034/true"], found["none/eval/true"]
    got = f"{true:.0f} over {constant:.0f}, {inside:.2f}, {below:.2f}, {alone:.0f}"
    holds = true >= -45e3 and true > constant and inside >= 0.65 and below <= 0.05 and alone <= -500e3
    return Measurement(">= -45e3 and over, >= .65, <= .05, <= -500e3", got, holds)


@row(
    SYSTEM,
    "glucose-seeds",
    "glucose, legacy, the same arm, seeds 1, 2, 3: lowest true, also over the constant .034, least in range, most low",
    ">= -45e3, .65, <= .05",
    slow=True,
)
def seeds() -> Measurement:
    config = replace(orpo_glucose.PRESETS["quick"], arms=(orpo_glucose.HELD_AT,))
    found = [orpo_glucose.run(config, seed) for seed in (1, 2, 3)]
    held = orpo_glucose.HELD_AT.name
    true, inside, below = ([f[f"{held}/eval/{name}"] for f in found] for name in ("true", "in_range", "hypo"))
    over = min(value - f["constant 0.034/true"] for value, f in zip(true, found, strict=True))
    got = f"{min(true):.0f}, {over:.0f} over, {min(inside):.2f}, {max(below):.2f}"
    holds = min(true) >= -45e3 and over > 0.0 and min(inside) >= 0.65 and max(below) <= 0.05
    return Measurement(">= -45e3 and over, >= .65, <= .05", got, holds)


@row(SYSTEM, "glucose-speed", "control steps/s, 4096 patients, float32: ours over SciPy's adaptive dopri5", ">= 300")
def speed() -> Measurement:
    return at_least(bench.ratio(), 300.0)
