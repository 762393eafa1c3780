"""On-policy integral RL: oracles, Newton's step, the tables of errors, the laws that predict them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from rlcore.agents.integral_rl import IntegralRl, OwnNodes, linear_quadratic
from rlcore.envs.affine import (
    ArctanSpring,
    CosineInput,
    CubicDecay,
    CubicGrowth,
    F16ShortPeriod,
    HyperbolicValue,
    LinearRegulator,
    LoadFrequency,
    QuarticValue,
    SaturatedInput,
    SineSystem,
    ThirdOrderLinear,
    TwoInputs,
)
from rlcore.experiments.acceptance.integral_rl import tables
from rlcore.experiments.integral_rl_tables import WINDOWS, errors, first_order, learned, problem, spectral_error
from rlcore.experiments.integral_rl_tasks import RULES
from rlcore.functional import riccati
from rlcore.functional.bases import half_vector, quadratic, symmetric
from rlcore.functional.quadrature import gauss_legendre
from rlcore.reporting.acceptance import Measurement, at_most, row
from rlcore.simulation.closed_loop import LinearPaths
from rlcore.training.closed_loop_source import ClosedLoopSource

SYSTEM = "integral-rl"
THIRD_ORDER_VALUE = (2.3550309331, 2.2384523709, 0.9049875621, 4.2419424968, 1.8930952220, 1.5969959608)
THIRD_ORDER_GAIN = (0.904987562112, 1.893095222031, 1.596995960829)
EXACT = {
    ThirdOrderLinear: (22.87215, 10.00061, 3.893876, 1.285786, 0.2666836, 1.017723e-2, 1.088598e-5),
    F16ShortPeriod: (1.9392e-1, 1.4262e-2, 6.383e-5),
    LoadFrequency: (3.7729, 1.8755, 0.53668, 6.7189e-2, 1.4793e-3, 7.912e-7),
}
"""|P_i - P*| of exact policy iteration from u = 0, to the digits given."""
COMPARED = [
    ("third order", 0.1, tables.THIRD_ORDER_SHORT),
    ("third order", 1.0, tables.THIRD_ORDER_LONG),
    ("sine", 0.1, tables.SINE_SHORT),
    ("sine", 1.0, tables.SINE_LONG),
    ("cosine", 0.1, tables.COSINE_SHORT),
]


def norm(x: Tensor) -> float:
    """Frobenius."""
    return float(torch.linalg.matrix_norm(x))


def matrices(env: LinearRegulator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A, B, Q, R."""
    return env.A, env.B, env.Q, env.R


@row(
    SYSTEM,
    "A1",
    "CARE against Kleinman on three linear systems, and the known P*, K* of the first; exact sequence |P_i - P*|, "
    "relative; last |P_i+1 - P*| / |P_i - P*|^2",
    "1e-10; 6 digits (5 where 5 are known); <= 4",
)
def oracles() -> Measurement:
    distance, sequence, tail = 0.0, 0.0, 0.0
    for cls, known in EXACT.items():
        parts = matrices(cls(dtype=torch.float64))
        best = riccati.care(*parts)
        found = riccati.kleinman(*parts, torch.zeros_like(parts[1].T), 12)
        distance = max(distance, norm(found[-1] - best))
        measured = [norm(p - best) for p in found[: len(known)]]
        unit = 1.0 if cls is ThirdOrderLinear else 0.1
        sequence = max(sequence, *(unit * abs(g / e - 1.0) for g, e in zip(measured, known, strict=True)))
        tail = max(tail, measured[-1] / measured[-2] ** 2)
    third = ThirdOrderLinear(dtype=torch.float64)
    upper = third.P[tuple(torch.triu_indices(3, 3))].tolist()
    off = [abs(g - e) for g, e in zip(upper, THIRD_ORDER_VALUE, strict=True)]
    off += [abs(g - e) for g, e in zip(third.optimal_gain[0].tolist(), THIRD_ORDER_GAIN, strict=True)]
    passed = max(distance, *off) <= 1e-10 and sequence <= 1e-5 and tail <= 4.0
    got = f"{max(distance, *off):.1e}; {sequence:.1e}; {tail:.2f}"
    return Measurement("<= 1e-10; <= 1e-5; <= 4", got, passed)


@row(
    SYSTEM,
    "A2",
    "one evaluation of the improved policy is one Newton step on the Riccati map: by Lyapunov's equation, and from "
    "sampled windows alone; from four values of exact policy iteration",
    "1e-12",
)
def newton() -> Measurement:
    env = ThirdOrderLinear(dtype=torch.float64)
    parts, rule = matrices(env), OwnNodes(gauss_legendre(24))
    worst = 0.0
    for p in riccati.kleinman(*parts, torch.zeros(1, 3, dtype=torch.float64), 6)[2:]:
        step = riccati.newton_step(*parts, p)
        exact = riccati.value_of_gain(*parts, riccati.feedback_gain(env.B, env.R, p))
        agent = sampled(env, rule, p)
        worst = max(worst, norm(step - exact) / norm(step), norm(step - symmetric(agent.weights)) / norm(step))
    return at_most(worst, 1e-12)


def sampled(env: LinearRegulator, rule: OwnNodes, p: Tensor) -> IntegralRl:
    """One evaluation on windows of the policy improved from x'P x."""
    third = problem("third order")
    agent = IntegralRl(quadratic(3), linear_quadratic(env.B, env.Q, env.R), rule, half_vector(p))
    paths = LinearPaths(env.A, env.B)
    agent.update(ClosedLoopSource(paths, third.starts, window=1.0, count=4, nodes=rule.places).next(agent))
    return agent


@row(SYSTEM, "A3", "residual of the HJB equation, N1 to N8, 500 random states each, gradient by autodiff", "1e-11")
def residuals() -> Measurement:
    systems = (SineSystem, CosineInput, ArctanSpring, CubicDecay, CubicGrowth, QuarticValue, HyperbolicValue, TwoInputs,
               SaturatedInput)  # fmt: skip
    worst, where = 0.0, ""
    for cls in systems:
        env = cls(dtype=torch.float64)
        generator = torch.Generator().manual_seed(3)
        x = 2.0 * torch.rand(500, env.spec.state_dim, generator=generator, dtype=torch.float64) - 1.0
        largest = float(replace(env.problem, value_gradient=None).residual(x).abs().max())
        worst, where = max((worst, where), (largest, cls.__name__))
    return Measurement("<= 1e-11", f"{worst:.1e} ({where})", worst <= 1e-11)


def entries() -> Iterator[tuple[str, float, str, int, float | None, float]]:
    """Problem, window, rule, nodes, expected, got: every entry of the tables."""
    for name, window, table in COMPARED:
        for column, nodes in enumerate(tables.NODES):
            found = errors(name, window, nodes)
            for rule, expected in table.items():
                if column < len(expected):
                    yield name, window, rule, nodes, expected[column], found[rule]
    for window, spectral in ((0.1, tables.SPECTRAL_SHORT), (1.0, tables.SPECTRAL_LONG)):
        for rule, known in spectral.items():
            for nodes, value in known.items():
                yield "third order", window, rule, nodes, value, spectral_error(rule, window, nodes)


@row(
    SYSTEM,
    "A13",
    "weight error on three tasks, 11 rules and 4 spectral ones, N = 5 ... 65: entries above 1e-12 that miss by > 1 %, "
    "or by their last digit; refused gains that are not those that diverge; the worst miss",
    "0; 0",
)
def error_tables() -> Measurement:
    missed, verdicts, worst, where, count = 0, 0, 0.0, "", 0
    for name, window, rule, nodes, expected, got in entries():
        if expected is None or math.isnan(got):
            verdicts += (expected is None) != math.isnan(got)
        elif expected > 1e-12:
            count += 1
            off = abs(got / expected - 1.0)
            missed += off > max(0.01, last_digit(expected))
            worst, where = max((worst, where), (off, f"{name}, T = {window}, {rule}, N = {nodes}"))
    got_text = f"{missed} of {count}; {verdicts}; {worst:.2%} ({where})"
    return Measurement("0; 0", got_text, missed == 0 and verdicts == 0)


def last_digit(value: float) -> float:
    """Half a unit in the last digit that a table entry shows, beside the entry."""
    mantissa = f"{value:.3e}".split("e")[0].rstrip("0")
    return 0.5 * 10.0 ** -(len(mantissa) - 2 if len(mantissa) > 2 else 0) / float(mantissa)


@row(
    SYSTEM,
    "A13-slopes",
    "slope from N = 33 to 65 of every rule above rounding: largest distance from -2, -4, -2, -3, -4, -5, -5, -5, -3, "
    "-4, -5; of Matern-7/2 with l = 0.3 at T = 1; error of Gauss-Legendre with 9 nodes at T = .1",
    ".15; .3; 5e-14",
)
def slopes() -> Measurement:
    worst = [(0.0, ""), (0.0, "")]
    for name, window, _ in COMPARED:
        coarse, fine = errors(name, window, 33), errors(name, window, 65)
        for rule, order in tables.ORDERS.items():
            if fine[rule] > 1e-13:
                off = abs(math.log2(coarse[rule] / fine[rule]) - order)
                loose = int(window == 1.0 and rule == "Matern-7/2, l = 0.3")
                worst[loose] = max(worst[loose], (off, f"{name}, T = {window}, {rule}"))
    floor = spectral_error("Gauss-Legendre", 0.1, 9)
    passed = worst[0][0] <= 0.15 and worst[1][0] <= 0.3 and floor <= 5e-14
    got = f"{worst[0][0]:.3f} ({worst[0][1]}); {worst[1][0]:.3f}; {floor:.1e}"
    return Measurement("<= .15; <= .3; <= 5e-14", got, passed)


@row(
    SYSTEM,
    "A14",
    "closed forms of the error, -h^2/12 L(M) for the trapezoid and -h^4/180 L(L(L(M))) for Simpson, over what is "
    "measured at T = .1, N = 5 ... 33: largest distance from 1",
    ".2 %",
)
def closed_forms() -> Measurement:
    env = problem("third order").env
    assert isinstance(env, LinearRegulator)
    closed = env.A - env.B @ env.optimal_gain
    rate = env.Q + env.optimal_gain.T @ env.R @ env.optimal_gain
    worst = 0.0
    for nodes in (5, 9, 17, 33):
        found = errors("third order", 0.1, nodes)
        for rule, law in (("trapezoid", riccati.trapezoid_error), ("Simpson", riccati.simpson_error)):
            worst = max(worst, abs(norm(law(closed, rate, 0.1 / (nodes - 1))) / found[rule] - 1.0))
    return Measurement("<= 0.2 %", f"{worst:.3%}", worst <= 2e-3)


@row(
    SYSTEM,
    "A15",
    "the error of the fixed point is Theta_*^+ dXi_* of the optimal loop: largest relative distance, 11 rules, N = 5 "
    "... 65, where 1e-10 < error < 1e-2, on the two published tasks; on the cosine task, whose remainder is larger",
    "1 %; 2.5 %",
)
def first_order_law() -> Measurement:
    worst, cosine, count = 0.0, 0.0, 0
    for name, window, _ in COMPARED:
        for nodes in tables.NODES:
            off = learned(name, window, nodes).weights - problem(name).env.optimal_weights  # [R, p]
            size = off.norm(dim=-1)
            distance = (off - first_order(name, window, nodes)).norm(dim=-1) / size
            for share, total in zip(distance.tolist(), size.tolist(), strict=True):
                if 1e-10 < total < 1e-2:
                    count += 1
                    worst, cosine = (worst, max(cosine, share)) if name == "cosine" else (max(worst, share), cosine)
    got = f"{worst:.2%}; {cosine:.2%} ({count} fixed points)"
    return Measurement("<= 1 %; <= 2.5 %", got, worst <= 0.01 and cosine <= 0.025)


@row(
    SYSTEM,
    "A17",
    "tr(P_K - P*), what the learned gain costs, T = .1, N = 5, 9, 17: slopes of trapezoid, Simpson, Matern-7/2 with "
    "l = .3; the trapezoid's at N = 5, 9",
    "± .1, ± .1, <= -9; 1 %",
)
def cost_slopes() -> Measurement:
    env = problem("third order").env
    assert isinstance(env, LinearRegulator)
    costs: dict[str, list[float]] = {rule: [] for rule in ("trapezoid", "Simpson", "Matern-7/2, l = 0.3")}
    for nodes in (5, 9, 17):
        weights = learned("third order", 0.1, nodes).weights
        gains = riccati.feedback_gain(env.B, env.R, symmetric(weights))
        excess = riccati.cost_excess(*matrices(env), gains, env.P)
        for rule, found in costs.items():
            found.append(float(excess[list(RULES).index(rule)]))
    got = [math.log(found[-1] / found[0]) / math.log(4.0) for found in costs.values()]
    level = max(abs(g / e - 1.0) for g, e in zip(costs["trapezoid"], (1.647e-7, 1.028e-8), strict=False))
    passed = abs(got[0] + 4.0) <= 0.1 and abs(got[1] + 8.0) <= 0.1 and got[2] <= -9.0 and level <= 0.01
    return Measurement("-4; -8; <= -9; 0", f"{got[0]:.2f}; {got[1]:.2f}; {got[2]:.2f}; {level:.2%}", passed)


assert set(WINDOWS) == {window for _, window, _ in COMPARED}
