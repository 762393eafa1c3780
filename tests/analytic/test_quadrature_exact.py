"""Bayesian quadrature against sixty digits, its limits, its gradients, and the integrals of its kernels."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import mpmath as mp
import numpy as np
import pytest
import torch
from scipy.integrate import quad

from rlcore.errors import NumericsError
from rlcore.experiments.acceptance.integral_rl.oracle import matern_filter_oracle, matern_oracle, relative_errors
from rlcore.functional.quadrature import (
    ByPattern,
    IntegratedWiener,
    Kernel,
    Matern,
    MaternKernel,
    SquaredExponential,
    SquaredExponentialKernel,
    Trapezoid,
    WienerKernel,
    dense_quadrature,
    fit_length_scale,
)

DOUBLE = torch.float64
KERNELS: list[Kernel] = [*(MaternKernel(p, 0.4) for p in range(5)), SquaredExponentialKernel(0.4), WienerKernel()]


def drawn(count: int, seed: int) -> torch.Tensor:
    """Nodes drawn uniformly between the ends of [0, 1], which are nodes too."""
    inside = torch.rand(count - 2, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed)).sort().values
    return torch.cat([inside.new_zeros(1), inside, inside.new_ones(1)])


@pytest.mark.parametrize("order", range(5))
@pytest.mark.parametrize("scale", [0.3, 3.0, 1000.0])
@pytest.mark.parametrize(("nodes", "mean_degree", "ends"), [
    (torch.linspace(0.0, 1.0, 30, dtype=DOUBLE), None, (0.0, 1.0)),
    (drawn(13, seed=1), None, (-0.2, 1.3)),
    (drawn(26, seed=2), 1, (0.0, 1.1)),
])  # fmt: skip
def test_weights_and_variance_to_rounding(order, scale, nodes, mean_degree, ends):
    exact = matern_oracle(order, scale, nodes.tolist(), *ends, mean_degree=mean_degree, digits=70)
    found = Matern(order, scale, mean_degree).at(nodes, *ends)
    weights, variance = relative_errors(found.weights.tolist(), float(found.variance), exact)
    assert weights < (2e-12 if order < 4 else 2e-11)
    assert variance < 2e-12


@pytest.mark.parametrize("order", [1, 3])
def test_measurement_noise_and_missing_nodes(order):
    nodes, noise = drawn(33, seed=3), 1e-4
    seen = torch.rand(33, generator=torch.Generator().manual_seed(4)) < 0.7
    seen[[0, 1, 32]] = False
    kept = nodes[seen]
    exact = matern_oracle(order, 0.7, kept.tolist(), 0.0, 1.0, noise=noise, mean_degree=2, digits=60)
    found = Matern(order, 0.7, mean_degree=2, noise=noise).at(nodes, observed=seen)
    assert float(found.weights[~seen].abs().sum()) == 0.0
    assert max(relative_errors(found.weights[seen].tolist(), float(found.variance), exact)) < 1e-12
    values = torch.where(seen, torch.sin(5.0 * nodes), torch.nan)  # what was not observed is never read
    alone = Matern(order, 0.7, mean_degree=2, noise=noise).at(kept, 0.0, 1.0)
    for name in ("integral", "deviation", "log_likelihood"):
        torch.testing.assert_close(getattr(found, name)(values), getattr(alone, name)(values[seen]), rtol=1e-10, atol=0)


@pytest.mark.parametrize("order", [0, 3])
def test_float32_keeps_its_digits(order):
    nodes = torch.linspace(0.0, 1.0, 65, dtype=torch.float32)
    exact = matern_oracle(order, 0.3, nodes.tolist(), 0.0, 1.0, digits=60)
    found = Matern(order, 0.3).at(nodes)
    assert found.weights.dtype == torch.float32
    assert max(relative_errors(found.weights.tolist(), float(found.variance), exact)) < 1e-5


@pytest.mark.parametrize("order", range(5))
@pytest.mark.parametrize("mean_degree", [None, 0, 3])
def test_likelihood_is_that_of_the_dense_form(order, mean_degree):
    """Restricted likelihood with log det K + log det X'K^-1 X, by plain linear algebra on few nodes."""
    nodes, values = drawn(8, seed=5), torch.sin(torch.arange(8.0, dtype=DOUBLE))
    K = MaternKernel(order, 0.2).covariance(nodes[:, None], nodes) + 0.01 * torch.eye(8, dtype=DOUBLE)
    powers = torch.arange(0.0 if mean_degree is None else mean_degree + 1.0, dtype=DOUBLE)
    X = nodes[:, None] ** powers / torch.exp(torch.lgamma(powers + 1.0))  # t^j / j!: coefficients are derivatives
    G = X.T @ torch.linalg.solve(K, X)
    projector = torch.linalg.inv(K) - torch.linalg.solve(K, X) @ torch.linalg.solve(G, torch.linalg.solve(K, X).T)
    found = Matern(order, 0.2, mean_degree, noise=0.01).at(nodes)
    torch.testing.assert_close(found.energy(values), values @ projector @ values)
    torch.testing.assert_close(found.log_determinant, torch.logdet(K) + (torch.logdet(G) if X.shape[1] else 0.0))
    assert int(found.degrees) == 8 - X.shape[1]


def test_wiener_quadrature_is_the_trapezoidal_rule_on_any_nodes():
    nodes = 0.5 + 2.0 * drawn(40, seed=6)
    found, dense = IntegratedWiener(0).at(nodes), dense_quadrature(WienerKernel(), nodes)
    for weights in (found.weights, dense.weights):
        torch.testing.assert_close(weights, Trapezoid().at(nodes).weights, rtol=0.0, atol=1e-12)
    assert float(found.variance) == pytest.approx(float((nodes.diff() ** 3).sum()) / 12.0, rel=1e-12)


@pytest.mark.parametrize("order", range(4))
def test_flat_limit_is_the_natural_spline(order):
    for nodes in (torch.linspace(0.0, 1.0, 17, dtype=DOUBLE), drawn(17, seed=7)):
        flat, spline = Matern(order, 1e6).at(nodes).weights, IntegratedWiener(order).at(nodes).weights
        torch.testing.assert_close(flat, spline, rtol=0.0, atol=1e-6 * float(spline.abs().max()))


def test_squared_exponential_limits():
    nodes = torch.linspace(0.0, 1.0, 5, dtype=DOUBLE)
    boole = [7 / 90, 32 / 90, 12 / 90, 32 / 90, 7 / 90]
    assert SquaredExponential(1e5).at(nodes).weights.tolist() == pytest.approx(boole, abs=1e-9)
    found, dense = SquaredExponential(0.4).at(nodes), dense_quadrature(SquaredExponentialKernel(0.4), nodes)
    torch.testing.assert_close(found.weights, dense.weights, rtol=1e-10, atol=0.0)
    torch.testing.assert_close(found.variance, dense.variance, rtol=1e-8, atol=0.0)
    torch.testing.assert_close(found.log_likelihood(nodes.exp()), dense.log_likelihood(nodes.exp()))


def squared_exponential_oracle(
    scale: float, nodes: list[float], noise: float, degrees: int
) -> tuple[list[mp.mpf], mp.mpf]:
    """Weights and variance on [0, 1] by the saddle-point system in 80 digits."""
    with mp.workdps(80):
        ell, n = mp.mpf(scale), len(nodes)
        t, root = [mp.mpf(node) for node in nodes], mp.sqrt(2) * mp.mpf(scale)
        system = mp.matrix(n + degrees, n + degrees)
        for i in range(n):
            for j in range(n):
                system[i, j] = mp.exp(-(((t[i] - t[j]) / ell) ** 2) / 2) + (mp.mpf(noise) if i == j else 0)
            for k in range(degrees):
                system[i, n + k] = system[n + k, i] = t[i] ** k
        z = [ell * mp.sqrt(mp.pi / 2) * (mp.erf((1 - s) / root) + mp.erf(s / root)) for s in t]
        target = mp.matrix(z + [mp.mpf(1) / (k + 1) for k in range(degrees)])
        found = mp.lu_solve(system, target)
        total = mp.sqrt(2 * mp.pi) * ell * mp.erf(1 / root) + 2 * ell**2 * mp.expm1(-1 / (2 * ell**2))
        return list(found[:n]), total - mp.fdot(found, target)


@pytest.mark.parametrize(("scale", "noise", "degrees", "accuracy"), [
    (0.4, 0.0, 2, 1e-10),
    (3.5, 0.0, 1, 1e-5),
    (3.5, 0.0, 3, 1e-6),
    (1.0, 1e-6, 0, 1e-9),
    (1.0, 1e-6, 2, 1e-9),
])  # fmt: skip
def test_squared_exponential_with_noise_or_an_unknown_mean(scale, noise, degrees, accuracy):
    """A long scale leaves few digits beside a mean: its powers are taken out of the features in closed form."""
    nodes = torch.linspace(0.0, 1.0, 8, dtype=DOUBLE)
    weights, variance = squared_exponential_oracle(scale, nodes.tolist(), noise, degrees)
    found = SquaredExponential(scale, degrees - 1 if degrees else None, noise).at(nodes)
    assert found.weights.tolist() == pytest.approx([float(w) for w in weights], rel=accuracy)
    assert float(found.variance) == pytest.approx(float(variance), rel=10.0 * accuracy, abs=0.0)


@pytest.mark.parametrize("count", [5, 7, 9, 11, 13])
@pytest.mark.parametrize("degrees", [1, 2, 3])
def test_the_variance_beside_an_unknown_mean_is_right_or_refused(count, degrees):
    """Longer and longer length scales, until no digits are left."""
    nodes, refused = torch.linspace(0.0, 1.0, count, dtype=DOUBLE), []
    for scale in (0.5, 1.0, 1.2, 2.0, 2.5, 3.5, 5.0, 10.0, 40.0):
        rule = SquaredExponential(scale, degrees - 1)
        try:
            found = rule.at(nodes)
        except NumericsError:
            refused.append(scale)
            continue
        assert not refused, "a shorter scale was refused"
        weights, variance = squared_exponential_oracle(scale, nodes.tolist(), 0.0, degrees)
        assert found.weights.tolist() == pytest.approx([float(w) for w in weights], rel=1e-4)
        assert float(found.variance) == pytest.approx(float(variance), rel=1e-3, abs=0.0)
        single = rule.at(nodes.float())
        assert single.weights.dtype == torch.float32
        moved = squared_exponential_oracle(scale, nodes.float().tolist(), 0.0, degrees)[1]
        assert float(single.variance) == pytest.approx(float(moved), rel=2e-3, abs=0.0)
    assert refused[-2:] == [10.0, 40.0] or count == 5


@pytest.mark.parametrize(("order", "count", "accuracy"), [(3, 2, 1e-10), (3, 4, 1e-9), (4, 2, 1e-4), (4, 3, 1e-7)])
def test_the_scale_on_few_nodes_of_a_window_much_shorter_than_the_length_scale(order, count, accuracy):
    """y'K^-1 y by the covariance of sixty digits, at l = 10^4 T."""
    nodes = torch.linspace(0.0, 1.0, count, dtype=DOUBLE)
    values = torch.cos(2.0 * nodes) + 0.4
    with mp.workdps(120):
        rate, p = mp.sqrt(2 * order + 1) / 10**4, order
        terms = [
            mp.mpf(math.factorial(p) * math.factorial(p + i) * 2 ** (p - i))
            / (math.factorial(2 * p) * math.factorial(i) * math.factorial(p - i))
            for i in range(p + 1)
        ]

        def covariance(s: float, t: float) -> mp.mpf:
            x = rate * abs(mp.mpf(s) - mp.mpf(t))
            return mp.exp(-x) * mp.fsum(term * x ** (p - i) for i, term in enumerate(terms))

        matrix = mp.matrix([[covariance(s, t) for t in nodes.tolist()] for s in nodes.tolist()])
        exact = float(mp.fdot(values.tolist(), mp.lu_solve(matrix, mp.matrix(values.tolist()))))
    assert float(Matern(order, 1e4).at(nodes).energy(values)) == pytest.approx(exact, rel=accuracy)


@pytest.mark.parametrize("degree", range(5))
def test_a_polynomial_mean_is_integrated_exactly(degree):
    drawn_nodes, even_nodes = drawn(12, seed=8), torch.linspace(0.0, 1.0, 8, dtype=DOUBLE)
    exact = (1.4 ** (degree + 1) - (-0.1) ** (degree + 1)) / (degree + 1)
    rules = [Matern(p, 0.5, mean_degree=degree) for p in range(5)] + [IntegratedWiener(p) for p in range(degree, 5)]
    cases = [(rule, drawn_nodes) for rule in rules] + [(SquaredExponential(0.5, mean_degree=degree), even_nodes)]
    for rule, nodes in cases:
        found = rule.at(nodes, -0.1, 1.4)
        size = float(found.weights.abs().sum())
        assert float(found.integral(nodes**degree)) == pytest.approx(exact, abs=1e-14 * (10.0 + size)), rule


@pytest.mark.parametrize(
    "make", [partial(Matern, 3), partial(Matern, 1, mean_degree=2, noise=0.01), SquaredExponential]
)
def test_gradients_to_the_values_and_to_the_length_scale(make):
    nodes = torch.linspace(0.0, 1.0, 5, dtype=DOUBLE)
    values = torch.stack([nodes.exp(), torch.cos(4.0 * nodes)]).requires_grad_()
    scales = torch.tensor([[0.5], [2.0]], dtype=DOUBLE, requires_grad=True)

    def all_of_it(scales: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = make(scales).at(nodes)
        return found.integral(values), found.deviation(values), found.log_likelihood(values), found.variance

    assert torch.autograd.gradcheck(all_of_it, (scales, values), eps=1e-6, atol=1e-7, rtol=1e-5)
    plain = make(scales.detach()).at(nodes)
    torch.testing.assert_close(make(scales).at(nodes).weights, plain.weights, rtol=1e-12, atol=0.0)


def test_gradient_to_the_length_scale_in_many_digits():
    """d Var / d l of the Wiener-like prior in closed form: nu = 1/2 on one step, where everything is elementary."""
    scale = torch.tensor(0.7, dtype=DOUBLE, requires_grad=True)
    found = Matern(0, scale).at(torch.tensor([0.0, 1.0], dtype=DOUBLE))
    found.weights[0].backward()  # w = l tanh(1 / 2 l)
    x = 0.5 / 0.7
    assert float(found.weights[0].detach()) == pytest.approx(0.7 * math.tanh(x), rel=1e-14)
    assert float(scale.grad) == pytest.approx(math.tanh(x) - x / math.cosh(x) ** 2, rel=1e-11)


@pytest.mark.parametrize("make", [partial(Matern, 2), partial(Matern, 2, mean_degree=1), SquaredExponential])
@pytest.mark.parametrize("length_scale", [0.7, torch.tensor(0.7, dtype=DOUBLE, requires_grad=True)])
def test_values_may_have_dimensions_that_the_nodes_have_not(make, length_scale):
    nodes = torch.linspace(0.0, 1.0, 9, dtype=DOUBLE)
    values = torch.rand(3, 4, 9, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    found, alone = make(length_scale).at(nodes), make(0.7).at(nodes)
    for name in ("integral", "deviation", "log_likelihood"):
        several = getattr(found, name)(values)
        assert several.shape == (3, 4)
        torch.testing.assert_close(several[1, 2].detach(), getattr(alone, name)(values[1, 2]), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: type(kernel).__name__)
@pytest.mark.parametrize("width", [1.0, 0.02])
def test_integrals_of_the_kernels(kernel: Kernel, width: float):
    start, end = 0.1, 0.1 + width
    a, b = (torch.tensor(x, dtype=DOUBLE) for x in (start, end))

    def covariance(here: torch.Tensor, s: float) -> float:
        return float(kernel.covariance(torch.tensor(s, dtype=DOUBLE), here))

    def z(t: float) -> float:
        return float(kernel.embedding(torch.tensor([t], dtype=DOUBLE), a[None], b[None])[0])

    def pieces(t: float) -> float:
        here = torch.tensor(t, dtype=DOUBLE)
        slices = [ends for ends in ((start, t), (t, end)) if ends[0] < ends[1]]
        along = partial(covariance, here)
        return math.fsum(quad(along, *ends, epsabs=0.0, epsrel=1e-13)[0] for ends in slices)

    for t in (start, start + 0.3 * width, end):
        assert z(t) == pytest.approx(pieces(t), rel=1e-12)
    roots, masses = np.polynomial.legendre.leggauss(40)
    whole = sum(0.5 * width * m * z(start + 0.5 * width * (r + 1.0)) for r, m in zip(roots, masses, strict=True))
    assert float(kernel.total(a[None], b[None])[0]) == pytest.approx(whole, rel=1e-11)


def test_the_length_scale_of_greatest_likelihood():
    nodes = torch.linspace(0.0, 1.0, 33, dtype=DOUBLE)
    true = MaternKernel(1, 0.3)
    factor = torch.linalg.cholesky(true.covariance(nodes[:, None], nodes))
    noise = torch.randn(200, 33, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
    scales = torch.logspace(-3.0, 3.0, 200, dtype=DOUBLE)[:, None]  # every window has its own
    found = fit_length_scale(Matern(1, 1.0), nodes, scales * noise @ factor.T)
    assert float(found.length_scale) == pytest.approx(0.3, rel=0.05)
    other = fit_length_scale(Matern(1, 1.0), 7.0 * nodes + 2.0, scales * noise @ factor.T)
    assert float(other.length_scale) / 7.0 == pytest.approx(float(found.length_scale), rel=2e-3), "in any unit of time"
    smooth = fit_length_scale(Matern(1, 1.0), nodes, 1.0 + nodes**3)
    assert 10.0 < float(smooth.length_scale) <= 1000.0 * (1.0 + 1e-12)


def test_one_rule_for_every_pattern():
    grid = 1e3 + torch.arange(0, 641, dtype=DOUBLE) / 320.0
    windows = grid.unfold(0, 33, 32)  # 20 windows that differ by their origin
    rule, values = ByPattern(Matern(2, 0.05)), torch.cos(3.0 * windows)
    seen = torch.ones(20, 33, dtype=torch.bool)
    seen[3:, 7] = False
    for observed, patterns in ((None, 3), (seen, 9)):
        found, alone = rule.at(windows, observed=observed), Matern(2, 0.05).at(windows, observed=observed)
        assert len(rule.known) <= patterns  # a node may round either way
        torch.testing.assert_close(found.weights, alone.weights, rtol=1e-7, atol=1e-10)
        torch.testing.assert_close(found.variance, alone.variance, rtol=1e-7, atol=0.0)
        torch.testing.assert_close(found.integral(values), alone.integral(values), rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(found.deviation(values), alone.deviation(values), rtol=1e-5, atol=0.0)


@pytest.mark.parametrize("order", range(5))
def test_many_nodes_to_rounding(order):
    """Against a filter in many digits, which on few nodes is the dense form."""
    step = 2.0**-8
    few = matern_oracle(order, 2.0, [step * k for k in range(12)], 0.0, 11 * step, digits=100)
    again = matern_filter_oracle(order, 2.0, 12, step, digits=100)
    assert max(abs(a - b) for a, b in zip(few[0], again[0], strict=True)) < 1e-40
    found = Matern(order, 2.0).at(step * torch.arange(400, dtype=DOUBLE))
    exact = matern_filter_oracle(order, 2.0, 400, step, digits=60)
    assert max(relative_errors(found.weights.tolist(), float(found.variance), exact)) < 1e-12


def test_long_windows_agree_with_their_halves_at_no_loss():
    """10^4 nodes: the weights are those of a window cut in two well away from the cut, and polynomials stay exact."""
    nodes = torch.linspace(0.0, 1.0, 10_001, dtype=DOUBLE)
    whole, half = IntegratedWiener(2).at(nodes), IntegratedWiener(2).at(nodes[:5001])
    torch.testing.assert_close(whole.weights[:4900], half.weights[:4900], rtol=1e-12, atol=0.0)
    assert float(whole.integral(nodes**2)) == pytest.approx(1.0 / 3.0, abs=1e-14)


def test_samples_may_be_shorter_than_the_weights():
    nodes = torch.linspace(0.0, 1.0, 9, dtype=DOUBLE)
    found, values = Matern(3, 1.0).at(nodes), torch.cos(nodes)
    assert found.integral(values.float()).dtype == DOUBLE
    torch.testing.assert_close(found.integral(values.float()), found.integral(values), rtol=1e-7, atol=0.0)
    assert found.deviation(values.float()).dtype == DOUBLE


@pytest.mark.parametrize("rule", [Matern(3, 2e-9), Matern(2, 1e9), Matern(1, 1e-3, 1), IntegratedWiener(3)], ids=repr)
@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_any_unit_of_time_and_any_length_scale(rule, unit):
    """Weights scale with time; a length scale far below the spacing leaves nothing but the nodes themselves."""
    nodes = torch.linspace(0.0, 1.0, 9, dtype=DOUBLE)
    one = rule.at(nodes)
    other = (replace(rule, length_scale=unit * rule.length_scale) if isinstance(rule, Matern) else rule).at(
        unit * nodes
    )
    torch.testing.assert_close(
        other.weights / unit, one.weights, rtol=1e-9, atol=1e-12 * float(one.weights.abs().max())
    )
    power = unit**2 if isinstance(rule, Matern) else unit ** (2 * rule.order + 3)
    torch.testing.assert_close(other.variance / power, one.variance, rtol=1e-9, atol=0.0)
    assert bool(torch.isfinite(one.deviation(torch.cos(nodes))))


def test_noise_of_an_integrated_wiener_process():
    """Smoothing spline weights by plain linear algebra: K + noise, polynomials without a prior."""
    nodes, noise = 0.7 * drawn(9, seed=9), 1e-3
    a, b = nodes[0], nodes[-1]
    K = (nodes[:, None] - nodes).abs() ** 3 / 12.0 + noise * torch.eye(9, dtype=DOUBLE)
    z = ((nodes - a) ** 4 + (b - nodes) ** 4) / 48.0
    X = torch.stack([torch.ones(9, dtype=DOUBLE), nodes], dim=-1)
    moments = torch.stack([b - a, (b**2 - a**2) / 2.0])
    system = torch.cat([torch.cat([K, X], 1), torch.cat([X.T, torch.zeros(2, 2, dtype=DOUBLE)], 1)])
    exact = torch.linalg.solve(system, torch.cat([z, moments]))[:9]
    found = IntegratedWiener(1, noise=noise).at(nodes)
    torch.testing.assert_close(found.weights, exact, rtol=1e-9, atol=1e-12)
    c = (b - a) ** 5 / 120.0
    torch.testing.assert_close(found.variance, c - 2.0 * z @ exact + exact @ K @ exact, rtol=1e-7, atol=0.0)
