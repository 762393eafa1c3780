"""Quadrature to the last digit: integrals of kernels, golden values, limits, a hundred digits."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import torch
from scipy.integrate import quad
from torch import Tensor

from rlcore.experiments.acceptance.integral_rl.oracle import matern_oracle, relative_errors
from rlcore.functional.quadrature import (
    IntegratedWiener,
    Kernel,
    Matern,
    MaternKernel,
    SquaredExponential,
    SquaredExponentialKernel,
    Trapezoid,
    WienerKernel,
)
from rlcore.reporting.acceptance import Measurement, row

SYSTEM = "integral-rl"
DOUBLE = torch.float64
GOLDEN = {  # (length scale in windows, order): weights of the first three of five even nodes, variance
    (1, 0): ((0.124353001772, 0.248706003543, 0.248706003543), 1.0351971654e-2),
    (1, 1): ((0.104561145137, 0.278207356148, 0.236140487572), 1.7462243457e-4),
    (1, 2): ((0.095652148521, 0.297936576917, 0.213502904044), 9.5745354814e-6),
    (1, 3): ((0.090074716940, 0.313585716388, 0.192985039232), 1.2522941695e-6),
    (3, 0): ((0.124927712236, 0.249855424473, 0.249855424473), 3.4698126500e-3),
    (3, 1): ((0.100397408189, 0.282932452506, 0.233567820378), 6.9192972388e-6),
    (3, 2): ((0.090248173923, 0.309513830296, 0.200509521763), 5.4719772053e-8),
    (3, 3): ((0.084026324587, 0.331459922971, 0.169033529432), 1.2137905224e-9),
}
RATIONAL = {  # (nodes, order of the integrated Wiener process): the first half of the weights
    (5, 1): "11/112 2/7 13/56",
    (5, 2): "7/80 19/60 23/120",
    (5, 3): "783/9664 2483/7248 2215/14496",
    (9, 1): "153/3104 55/388 187/1552 49/388 193/1552",
    (9, 2): "28603/643104 24781/160776 4991/45936 21421/160776 38267/321552",
}


def even(count: int, dtype: torch.dtype = DOUBLE) -> Tensor:
    """Nodes on [0, 1], ends included."""
    return torch.linspace(0.0, 1.0, count, dtype=dtype)


def drawn(count: int, seed: int) -> Tensor:
    """The ends of [0, 1], and nodes drawn uniformly between them."""
    inside = torch.rand(count - 2, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed)).sort().values
    return torch.cat([inside.new_zeros(1), inside, inside.new_ones(1)])


def listed(values: dict[str, float]) -> str:
    """Names and figures."""
    return "; ".join(f"{name} {value:.3g}" for name, value in values.items())


def at_most_each(values: dict[str, float], bounds: dict[str, float]) -> Measurement:
    """Holds when every figure is within its bound."""
    expected = "; ".join(f"{name} <= {bound:.3g}" for name, bound in bounds.items())
    return Measurement(expected, listed(values), all(values[name] <= bound for name, bound in bounds.items()))


def kernel_error(kernel: Kernel, start: float, end: float) -> float:
    """Largest relative error of z at the ends and inside, and of c, against adaptive quadrature of the kernel."""
    a, b = (torch.tensor([x], dtype=DOUBLE) for x in (start, end))
    width, worst = end - start, 0.0

    def z(t: float) -> float:
        return float(kernel.embedding(torch.tensor([t], dtype=DOUBLE), a, b))

    for t in (start, start + 0.3 * width, end):
        here = torch.tensor([t], dtype=DOUBLE)

        def along(s: float, here: Tensor = here) -> float:
            return float(kernel.covariance(torch.tensor([s], dtype=DOUBLE), here).reshape(()))

        pieces = [ends for ends in ((start, t), (t, end)) if ends[0] < ends[1]]
        exact: float = math.fsum(quad(along, *ends, epsabs=0.0, epsrel=1e-13)[0] for ends in pieces)
        worst = max(worst, abs(z(t) / exact - 1.0))
    total = quad(z, start, end, epsabs=0.0, epsrel=1e-13)[0]
    return max(worst, abs(float(kernel.total(a, b)) / float(total) - 1.0))


@row(
    SYSTEM,
    "A4",
    "integrals z and c of every kernel against adaptive quadrature; golden weights and variances on five nodes",
    "relative, absolute, relative",
)
def kernels() -> Measurement:
    """Long and short windows, so that both the series and the closed form are met."""
    every: list[Kernel] = [WienerKernel()]
    for scale in (0.05, 0.7, 20.0):
        every += [*(MaternKernel(order, scale) for order in range(5)), SquaredExponentialKernel(scale)]
    weights, variances = [], []
    for (scale, order), (first, variance) in GOLDEN.items():
        found = Matern(order, 0.1 * scale).at(0.1 * even(5))
        weights += [abs(a / 0.1 - b) for a, b in zip(found.weights.tolist(), (*first, *first[1::-1]), strict=True)]
        variances.append(abs(float(found.variance) / 0.01 / variance - 1.0) if found.variance is not None else math.inf)
    errors = {
        "kernels": max(kernel_error(kernel, 0.2, 1.2) for kernel in every),
        "weights": max(weights),
        "variances": max(variances),
    }
    return at_most_each(errors, {"kernels": 1e-11, "weights": 1e-10, "variances": 1e-8})


@row(SYSTEM, "A5", "Wiener quadrature on uneven nodes is the trapezoidal rule, with variance sum h^3 / 12", "")
def wiener() -> Measurement:
    """On drawn nodes, some of them very close together."""
    errors = {"weights": 0.0, "variance": 0.0}
    for seed in range(5):
        nodes = drawn(50, seed)
        found = IntegratedWiener(0).at(nodes)
        assert found.variance is not None
        off = (found.weights - Trapezoid().at(nodes).weights).abs().max()
        errors["weights"] = max(errors["weights"], float(off))
        exact = float((nodes.diff() ** 3).sum()) / 12.0
        errors["variance"] = max(errors["variance"], abs(float(found.variance) / exact - 1.0))
    return at_most_each(errors, {"weights": 1e-12, "variance": 1e-12})


@row(
    SYSTEM,
    "A6",
    "flat limits: Matern to natural splines (l = 1e6 T), squared exponential to Newton-Cotes",
    "",
)
def flat_limits() -> Measurement:
    """With the spline weights as rational numbers."""
    nodes, boole = even(9), [7 / 90, 32 / 90, 12 / 90, 32 / 90, 7 / 90]
    splines = {order: IntegratedWiener(order).at(nodes).weights for order in range(4)}
    rational = 0.0
    for (count, order), text in RATIONAL.items():
        half = [float(Fraction(part)) for part in text.split()]
        found = IntegratedWiener(order).at(even(count)).weights.tolist()
        rational = max(rational, *(abs(a - b) for a, b in zip(found, [*half, *half[-2::-1]], strict=True)))
    errors = {
        "Matern": max(float((Matern(p, 1e6).at(nodes).weights - w).abs().max()) for p, w in splines.items()),
        "squared exponential": float(np.abs(SquaredExponential(1e4).at(even(5)).weights.numpy() - boole).max()),
        "rationals": rational,
    }
    return at_most_each(errors, {"Matern": 1e-6, "squared exponential": 1e-6, "rationals": 1e-13})


@row(SYSTEM, "A7", "state space against 100 digits: nu 1/2 to 7/2, N 9 to 129, l .3 T to 10 T, all kinds of nodes", "")
def many_digits() -> Measurement:
    """No jitter anywhere; float32 on even nodes with l = .3 T."""
    errors = {"weights": 0.0, "variance": 0.0, "float32": 0.0}
    cases = [(order, scale, nodes) for order in range(4) for scale in (0.3, 3.0, 10.0)
             for nodes in (even(9), even(33), drawn(9, seed=1), drawn(33, seed=2))]  # fmt: skip
    cases += [(order, 0.3, even(129)) for order in range(4)] + [(order, 10.0, drawn(129, seed=3)) for order in range(4)]
    for order, scale, nodes in cases:
        exact = matern_oracle(order, scale, nodes.tolist(), 0.0, 1.0)
        found = Matern(order, scale).at(nodes)
        assert found.variance is not None
        weights, variance = relative_errors(found.weights.tolist(), float(found.variance), exact)
        errors["weights"], errors["variance"] = max(errors["weights"], weights), max(errors["variance"], variance)
        if scale == 0.3 and float(nodes[1]) == 1.0 / (len(nodes) - 1):
            short = Matern(order, scale).at(nodes.float())
            assert short.variance is not None
            here = relative_errors(short.weights.tolist(), float(short.variance), exact)
            errors["float32"] = max(errors["float32"], *here)
    return at_most_each(errors, {"weights": 1e-12, "variance": 1e-11, "float32": 1e-5})
