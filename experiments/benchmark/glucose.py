"""4096 virtual patients as one batch beside one patient by SciPy's adaptive integrator, and simglucose if installed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from scipy.integrate import ode

from rlcore.envs import make
from rlcore.envs.hacking.glucose_patients import STATES, Patient, columns, names
from rlcore.experiments.benchmark.machine import machine
from rlcore.experiments.benchmark.timing import interleave, table
from rlcore.simulation import UniformPolicy, begin, rollout_with_reset

OURS, SCIPY, PEER = "rlcore Glucose", "SciPy dopri5, one patient", "simglucose, one patient"


def batch(copies: int, steps: int) -> Callable[[], int]:
    """A workload: `steps` control steps of all copies, with resets, every row kept."""
    env = make("rlcore/Glucose-v0")
    policy, state = UniformPolicy(0.0, 0.1, 1), begin(env, copies, seed=0)

    def work() -> int:
        nonlocal state
        _, state = rollout_with_reset(env, policy, state, steps, mode="compiled")
        return copies * steps

    return work


def one_patient(steps: int) -> Callable[[], int]:
    """The same equations as one would write them for one patient, restarted at every minute with constant inputs."""
    parameters, steady, _ = columns(names("adult#001"))
    p = Patient(*parameters[:, 0].tolist())
    state = steady[:, 0].numpy().copy()

    def right(t: float, x: Any, carbs: float, insulin: float, meal: float) -> Any:
        slope = np.zeros(STATES)
        kgut = p.kmax
        if meal > 0.0:
            share = (x[0] + x[1]) / meal
            kgut = p.kmax + p.half * (math.tanh(p.steep_b * (share - p.b)) - math.tanh(p.steep_d * (share - p.d)))
        slope[0] = 1000.0 * carbs - p.kmax * x[0]
        slope[1] = p.kmax * x[0] - kgut * x[1]
        slope[2] = kgut * x[1] - p.kabs * x[2]
        production, excretion = max(p.kp1 - p.kp2 * x[3] - p.kp3 * x[8], 0.0), p.ke1 * max(x[3] - p.ke2, 0.0)
        exchange = p.k1 * x[3] - p.k2 * x[4]
        slope[3] = (production + p.appears * x[2] - p.Fsnc - excretion - exchange) * (x[3] >= 0.0)
        slope[4] = exchange - (p.Vm0 + p.Vmx * x[6]) * x[4] / (p.Km0 + x[4])
        slope[5] = p.m1 * x[9] + p.ka1 * x[10] + p.ka2 * x[11] - p.m24 * x[5]
        level = x[5] / p.Vi
        slope[6] = p.p2u * (level - p.Ib - x[6])
        slope[7], slope[8] = p.ki * (level - x[7]), p.ki * (x[7] - x[8])
        slope[9] = p.m2 * x[5] - p.m130 * x[9]
        slope[10] = p.unit * insulin - (p.ka1 + p.kd) * x[10]
        slope[11] = p.kd * x[10] - p.ka2 * x[11]
        slope[12] = p.ksc * (x[3] - x[12])
        return slope

    solver = ode(right).set_integrator("dopri5")
    solver.set_initial_value(state, 0.0)

    def work() -> int:
        for k in range(5 * steps):
            eating = k % 360 < 15
            solver.set_f_params(5.0 if eating else 0.0, p.basal, 1000.0 * 5.0 * min(k % 360 + 1, 15))
            solver.integrate(solver.t + 1.0)
        return steps

    return work


def simglucose(steps: int) -> Callable[[], int]:
    """simglucose's own patient with the same infusion and meals."""
    from simglucose.patient.t1dpatient import Action, T1DPatient

    patient = T1DPatient.withName("adult#001")

    def work() -> int:
        for k in range(5 * steps):
            patient.step(Action(CHO=75.0 if k % 360 == 0 else 0.0, insulin=0.0211))
        return steps

    return work


def rates(copies: int = 4096, rounds: int = 7) -> dict[str, list[float]]:
    """Control steps (5 min) per second of each, interleaved; one thread."""
    torch.set_num_threads(1)
    work = {OURS: batch(copies, 10), SCIPY: one_patient(50)}
    with suppress(ImportError):
        work[PEER] = simglucose(25)
    return interleave(work, rounds=rounds)


def ratio(copies: int = 4096) -> float:
    """Median over rounds of our rate over SciPy's."""
    found = rates(copies)
    return statistics.median(a / b for a, b in zip(found[OURS], found[SCIPY], strict=True))


def measure(batches: Sequence[int] = (64, 1024, 4096), rounds: int = 7) -> list[dict[str, Any]]:
    """Control steps per second by the number of patients; the limit is that of observation, action, reward and end."""
    spec = make("rlcore/Glucose-v0").spec
    limit = machine().limit(moved=4.0 * ((spec.observation_dim or spec.state_dim) + spec.action_dim + 2))
    about: dict[str, Any] = {"what": "virtual patients", "limit": limit}
    return [row for batch in batches for row in table(rates(batch, rounds), OURS, batch=batch, **about)]
