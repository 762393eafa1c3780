"""Quadrature rules on given nodes: golden values, known limits, invariances."""

from __future__ import annotations

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import torch

from rlcore.experiments.acceptance.integral_rl import oracle
from rlcore.functional.quadrature import (
    IntegratedWiener,
    Matern,
    MaternKernel,
    NaturalSpline,
    Rule,
    Simpson,
    SquaredExponential,
    Trapezoid,
    clenshaw_curtis,
    dense_quadrature,
    gauss_legendre,
)

FIVE = torch.linspace(0.0, 1.0, 5, dtype=torch.float64)
GOLDEN = {
    (1, 0): ([0.124353001772, 0.248706003543, 0.248706003543], 1.0351971654e-2),
    (1, 1): ([0.104561145137, 0.278207356148, 0.236140487572], 1.7462243457e-4),
    (1, 2): ([0.095652148521, 0.297936576917, 0.213502904044], 9.5745354814e-6),
    (1, 3): ([0.090074716940, 0.313585716388, 0.192985039232], 1.2522941695e-6),
    (3, 0): ([0.124927712236, 0.249855424473, 0.249855424473], 3.4698126500e-3),
    (3, 1): ([0.100397408189, 0.282932452506, 0.233567820378], 6.9192972388e-6),
    (3, 2): ([0.090248173923, 0.309513830296, 0.200509521763], 5.4719772053e-8),
    (3, 3): ([0.084026324587, 0.331459922971, 0.169033529432], 1.2137905224e-9),
}
SPLINES = {
    (5, 1): ["11/112", "2/7", "13/56"],
    (5, 2): ["7/80", "19/60", "23/120"],
    (5, 3): ["783/9664", "2483/7248", "2215/14496"],
    (9, 1): ["153/3104", "55/388", "187/1552", "49/388", "193/1552"],
    (9, 2): ["28603/643104", "24781/160776", "4991/45936", "21421/160776", "38267/321552"],
}
RULES: list[Rule] = [
    Trapezoid(),
    Simpson(),
    NaturalSpline(),
    *(IntegratedWiener(order) for order in range(5)),
    *(Matern(order, 1.3) for order in range(5)),
    Matern(3, 1.3, mean_degree=2),
    Matern(2, 1.3, mean_degree=1, noise=0.01),
    SquaredExponential(1.3),
    SquaredExponential(1.3, mean_degree=1, noise=0.01),
]


def uneven(count: int, seed: int = 0) -> torch.Tensor:
    """Even nodes on [0, 1], those inside moved by up to 0.3 steps."""
    nodes = torch.linspace(0.0, 1.0, count, dtype=torch.float64)
    moved = torch.rand(count - 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    nodes[1:-1] += (0.6 * moved - 0.3) / (count - 1)
    return nodes


@pytest.mark.parametrize(("scale", "order"), GOLDEN)
@pytest.mark.parametrize("window", [1.0, 0.1])
def test_matern_golden_values(scale, order, window):
    weights, variance = GOLDEN[scale, order]
    found = Matern(order, scale * window).at(window * FIVE)
    assert (found.weights / window).tolist() == pytest.approx([*weights, *weights[1::-1]], abs=1e-11)
    assert float(found.variance) / window**2 == pytest.approx(variance, rel=1e-9)


@pytest.mark.parametrize(("count", "order"), SPLINES)
def test_natural_splines_are_rational(count, order):
    half = [float(Fraction(text)) for text in SPLINES[count, order]]
    nodes = torch.linspace(0.0, 1.0, count, dtype=torch.float64)
    for rule in (IntegratedWiener(order), NaturalSpline(2 * order + 1)):
        assert rule.at(nodes).weights.tolist() == pytest.approx([*half, *half[-2::-1]], abs=1e-13)


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_rows_do_not_depend_on_the_batch_nor_on_the_origin(rule):
    nodes = torch.stack([uneven(9, seed) for seed in range(3)])
    whole = rule.at(nodes)
    values = torch.cos(3.0 * nodes)
    for i in range(3):
        one = rule.at(nodes[i] + 7.0)
        torch.testing.assert_close(whole.weights[i], one.weights, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(whole.integral(values)[i], one.integral(values[i]), rtol=1e-10, atol=0.0)
        if one.variance is not None:
            torch.testing.assert_close(whole.deviation(values)[i], one.deviation(values[i]), rtol=1e-8, atol=0.0)


def test_marginal_likelihood_and_scale_are_those_of_the_dense_form():
    nodes, scales = torch.linspace(0.0, 1.0, 5, dtype=torch.float64), [1.75502244, 2.16539884, 2.59239178]
    integrals = [1.724307944651, 1.720958300555, 1.719614719264]
    for order, scale, integral in zip((1, 2, 3), scales, integrals, strict=True):
        found = Matern(order, 1.0).at(nodes)
        dense = dense_quadrature(MaternKernel(order, 1.0), nodes)
        assert float(found.integral(nodes.exp())) == pytest.approx(integral, abs=1e-12)
        assert float(found.scale(nodes.exp()) ** 2) == pytest.approx(scale, abs=1e-8)
        torch.testing.assert_close(found.log_likelihood(nodes.exp()), dense.log_likelihood(nodes.exp()))


def test_rules_with_nodes_of_their_own():
    for count in (2, 5, 9, 12):
        gauss, clenshaw = gauss_legendre(count, -0.3, 1.1), clenshaw_curtis(count, -0.3, 1.1)
        for found, degree in ((gauss, 2 * count - 1), (clenshaw, count - 1)):
            exact = (1.1 ** (degree + 1) - (-0.3) ** (degree + 1)) / (degree + 1)
            assert float(found.integral(found.times**degree)) == pytest.approx(exact, abs=1e-14)
        assert float(clenshaw.weights.sum()) == pytest.approx(1.4)
    assert gauss_legendre(3).weights.tolist() == pytest.approx([5 / 18, 8 / 18, 5 / 18])
    assert clenshaw_curtis(3).weights.tolist() == pytest.approx([1 / 6, 4 / 6, 1 / 6])
    assert math.isclose(float(gauss_legendre(5).integral(gauss_legendre(5).times.exp())), math.e - 1.0, rel_tol=1e-12)


@pytest.mark.parametrize("rule", [Matern(3, 1.0), Matern(2, 0.5, mean_degree=1), IntegratedWiener(2)])
def test_one_pattern_of_nodes_gives_the_error_bar_of_every_window(rule):
    times = torch.linspace(0.0, 1.0, 9, dtype=torch.float64)
    values = torch.randn(4, 7, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    together = rule.at(times).deviation(values)
    single = torch.stack([rule.at(times).deviation(row) for row in values.flatten(0, 1)]).view(4, 7)
    torch.testing.assert_close(together, single, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("count", [3, 5, 9, 13])
@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_squared_exponential_in_many_digits(count, scale):
    """Weights and variance, though the kernel matrix has a condition of up to 1e40."""
    nodes = torch.linspace(0.0, 1.0, count, dtype=torch.float64)
    with mpmath.workdps(100):
        t, length, root = [mpmath.mpf(x) for x in nodes.tolist()], mpmath.mpf(scale), mpmath.sqrt(2)
        K = np.array([[mpmath.exp(-(((a - b) / length) ** 2) / 2) for b in t] for a in t], dtype=object)
        reach = [mpmath.erf((1 - x) / (root * length)) + mpmath.erf(x / (root * length)) for x in t]
        z = length * mpmath.sqrt(mpmath.pi / 2) * np.array(reach, dtype=object)
        bell = mpmath.expm1(-1 / (2 * length**2))
        c = mpmath.sqrt(2 * mpmath.pi) * length * mpmath.erf(1 / (root * length)) + 2 * length**2 * bell
        w = oracle.solve(oracle.cholesky(K), z)
        exact = w, c - z @ w
    found = SquaredExponential(scale).at(nodes)
    errors = oracle.relative_errors(found.weights.tolist(), float(found.variance), exact)
    assert max(errors) < (1e-11 if count < 13 else 1e-8)
