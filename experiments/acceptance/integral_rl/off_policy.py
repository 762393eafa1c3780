"""Off-policy integral RL and inputs that saturate: the tables of errors, their slopes, the start without a gain."""

from __future__ import annotations

import math

import torch

from rlcore.agents.integral_rl import IntegralRlConfig, OffPolicyConfig, OffPolicyIntegralRl, OwnNodes
from rlcore.envs.affine import SaturatedInput, ThirdOrderLinear
from rlcore.experiments.integral_rl_off_policy import SHOWN, excited, gain_error, identity, pendulum_error
from rlcore.experiments.integral_rl_tasks import RULES, iterate, task
from rlcore.functional.bases import half_vector
from rlcore.functional.quadrature import IntegratedWiener, gauss_legendre
from rlcore.functional.riccati import care
from rlcore.reporting.acceptance import Measurement, row

SYSTEM = "integral-rl"
NODES = (5, 9, 17, 33)
SHORT = {
    "trapezoid": (1.19e-3, 2.98e-4, 7.44e-5, 1.86e-5),
    "Simpson": (2.20e-6, 1.37e-7, 8.55e-9, 5.34e-10),
    "Matern-7/2, l = 0.3": (1.08e-5, 4.67e-7, 1.61e-8, 5.23e-10),
    "Matern-7/2, l = 10 T": (7.35e-7, 3.07e-8, 1.03e-9, 3.29e-11),
    "IWP3": (1.27e-6, 4.72e-8, 1.48e-9, 4.57e-11),
}
LONG = {
    "trapezoid": (1.81e-2, 4.44e-3, 1.10e-3, 2.76e-4),
    "Simpson": (7.15e-4, 4.10e-5, 2.51e-6, 1.56e-7),
    "Matern-7/2, l = 0.3": (2.47e-3, 1.47e-4, 6.21e-6, 2.24e-7),
    "Matern-7/2, l = 10 T": (5.06e-4, 1.82e-5, 5.29e-7, 1.55e-8),
    "IWP3": (4.23e-4, 1.41e-5, 3.93e-7, 1.15e-8),
}
SATURATED = {
    "trapezoid": (1.553e-3, 3.889e-4, 9.727e-5, 2.432e-5),
    "Simpson": (2.98e-5, 1.15e-6, 6.58e-8, 4.03e-9),
    "Matern-3/2, l = T": (2.50e-3, 3.60e-4, 4.81e-5, 6.21e-6),
    "Matern-7/2, l = T": (5.33e-4, 2.78e-5, 1.07e-6, 3.70e-8),
    "Matern-7/2, l = 10 T": (1.09e-5, 1.24e-6, 6.40e-8, 2.36e-9),
    "IWP2": (9.22e-5, 4.34e-6, 2.10e-7, 1.13e-8),
}
GAUSS_17 = (0.108, 4.51e-4, 5.02e-9)
ORDERS = {
    "trapezoid": 2,
    "Simpson": 4,
    "Matern-3/2, l = T": 3,
    "Matern-7/2, l = T": 5,
    "Matern-7/2, l = 0.3": 5,
    "Matern-7/2, l = 10 T": 5,
    "IWP2": 4,
    "IWP3": 5,
}


@row(
    SYSTEM,
    "A18",
    "off-policy, |K - K*|, 2 window lengths, 5 rules: largest deviation from the table, N = 5 ... 33; of the slope, "
    "N = 33 to 65, from -2, -4, -5, -5, -5; error over its bound",
    "2 %; .2; 1",
)
def off_policy_table() -> Measurement:
    worst, off, covered = 0.0, 0.0, 0.0
    for window, count, table in ((0.1, 60, SHORT), (0.5, 40, LONG)):
        for name in SHOWN:
            found = [gain_error(name, window=window, count=count, nodes=N) for N in (*NODES, 65)]
            errors = [error for error, _ in found]
            worst = max(worst, *(abs(g / e - 1.0) for g, e in zip(errors, table[name], strict=False)))
            off = max(off, abs(math.log2(errors[-1] / errors[-2]) + ORDERS[name]))
            covered = max(covered, *(0.0 if math.isnan(bound) else error / bound for error, bound in found))
    passed = worst <= 0.02 and off <= 0.2 and covered <= 1.0
    return Measurement("0; 0; <= 1", f"{worst:.2%}; {off:.3f}; {covered:.2f}", passed)


@row(
    SYSTEM,
    "A18-start",
    "off-policy on an inverted pendulum without a first gain: |K - K*| at N = 33, error over its bound",
    "1e-8; 1",
)
def without_a_gain() -> Measurement:
    error, bound = pendulum_error(33, 0.1)
    return Measurement("<= 1e-8; <= 1", f"{error:.1e}; {error / bound:.1e}", error <= 1e-8 and error <= bound)


@row(
    SYSTEM,
    "A18-saturated",
    "saturated N8, T = .5, m = 5, |w - w*|, 6 rules: largest deviation from the table, N = 5 ... 33; of the slope, N = "
    "33 to 65, from -2, -4, -3, -5, -5, -4; Gauss-Legendre-17: iterations 1 to 3 and the end",
    "2 %; .2; 1 %, 1e-14",
)
def saturated_table() -> Measurement:
    problem = task(SaturatedInput(dtype=torch.float64))
    found = []
    for nodes in (*NODES, 65):
        rules = [RULES[name](0.5) for name in SATURATED]
        learned = iterate(problem, rules, window=0.5, count=5, nodes=nodes, iterations=8)
        found.append(problem.error(learned.weights).tolist())
    columns = dict(zip(SATURATED, zip(*found, strict=True), strict=True))
    pairs = [pair for name, table in SATURATED.items() for pair in zip(columns[name], table, strict=False)]
    worst = max(abs(got / expected - 1.0) for got, expected in pairs)
    off = max(abs(math.log2(errors[-1] / errors[-2]) + ORDERS[name]) for name, errors in columns.items())
    gauss = OwnNodes(gauss_legendre(17))
    history = problem.error(iterate(problem, [gauss], window=0.5, count=5, nodes=gauss.places, iterations=6).history)
    first = max(abs(float(e) / g - 1.0) for e, g in zip(history[:3, 0], GAUSS_17, strict=True))
    passed = worst <= 0.02 and off <= 0.2 and first <= 0.01 and float(history[-1, 0]) <= 1e-14
    return Measurement("0; 0; 0, 0", f"{worst:.2%}; {off:.3f}; {first:.2%}, {float(history[-1, 0]):.0e}", passed)


@row(
    SYSTEM,
    "discount",
    "third order, discounted at .8 per second, N = 33, integrated Wiener 3: |P - P'|, P' of A - .4 I from the Riccati "
    "equation, on policy and off",
    "1e-9",
)
def discounted() -> Measurement:
    env, beta = ThirdOrderLinear(dtype=torch.float64), 0.8
    problem, rule = task(env), IntegratedWiener(3)
    shifted = env.A - 0.5 * beta * torch.eye(3, dtype=torch.float64)
    best = half_vector(care(shifted, env.B, env.Q, env.R))
    config = IntegralRlConfig(discount_rate=beta)
    learned = iterate(problem, [rule], window=0.1, count=10, nodes=33, iterations=12, config=config)
    off = OffPolicyIntegralRl(
        3,
        problem.basis,
        identity,
        env.state_cost,
        env.control_weight,
        rule,
        torch.zeros(1, 3),
        OffPolicyConfig(discount_rate=beta),
    )
    off.update(excited(env, problem.starts[:1], window=0.1, count=60, nodes=33).next(off))
    got = [float((weights - best).norm()) for weights in (learned.weights[0], off.weights)]
    return Measurement("<= 1e-9, 1e-9", f"{got[0]:.1e}, {got[1]:.1e}", max(got) <= 1e-9)
