"""Lyapunov and Riccati equations in batches: known optima, Newton's sequence, error laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rlcore.envs.affine import F16ShortPeriod, LinearRegulator, LoadFrequency, ThirdOrderLinear
from rlcore.errors import ConfigError, NumericsError, ShapeError
from rlcore.functional import riccati
from rlcore.functional.linear_quadratic import LqProblem, solve_stationary

OPTIMA = {
    ThirdOrderLinear: (
        [2.3550309331, 2.2384523709, 0.9049875621, 4.2419424968, 1.8930952220, 1.5969959608],
        [0.904987562112, 1.893095222031, 1.596995960829],
    ),
    F16ShortPeriod: ([1.424522, 1.168193, -0.135232, 1.434940, -0.150103, 0.432928], [-0.135232, -0.150103, 0.432928]),
    LoadFrequency: (
        [0.475350, None, None, None, 0.783751, None, None, 0.051321, None, 2.346166],
        [0.826689, 1.700305, 0.704948, 0.414214],
    ),
}
ERRORS = {
    ThirdOrderLinear: [22.87215, 10.00061, 3.893876, 1.285786, 0.2666836, 1.017723e-2, 1.088598e-5, 1.2305e-11],
    F16ShortPeriod: [1.9392e-1, 1.4262e-2, 6.383e-5, 6.66e-10],
    LoadFrequency: [3.7729, 1.8755, 0.53668, 6.7189e-2, 1.4793e-3, 7.912e-7, 2.3e-13],
}
CONSTANTS = {
    ThirdOrderLinear: (1.882357, 1.162417),
    F16ShortPeriod: (0.427974, 0.349119),
    LoadFrequency: (12.18626, 1852.387),
}
SYSTEMS = list(OPTIMA)


def parts(cls: type[LinearRegulator]) -> tuple[torch.Tensor, ...]:
    env = cls(dtype=torch.float64)
    return env.A, env.B, env.Q, env.R


def norm(x: torch.Tensor) -> float:
    return float(torch.linalg.matrix_norm(x))


@pytest.mark.parametrize("cls", SYSTEMS)
def test_care_gives_the_known_optimum(cls):
    a, b, q, r = parts(cls)
    p = riccati.care(a, b, q, r)
    upper = p[tuple(torch.triu_indices(len(a), len(a)))].tolist()
    digits = 1e-10 if cls is ThirdOrderLinear else 6e-7
    for got, expected in zip(upper, OPTIMA[cls][0], strict=True):
        assert expected is None or got == pytest.approx(expected, abs=digits)
    assert riccati.feedback_gain(b, r, p)[0].tolist() == pytest.approx(OPTIMA[cls][1], abs=digits)
    assert norm(riccati.riccati_map(a, b, q, r, p)) < 1e-13


@pytest.mark.parametrize("cls", SYSTEMS)
def test_kleinman_reaches_the_same_optimum_as_care_and_as_the_numpy_oracle(cls):
    a, b, q, r = parts(cls)
    n = len(a)
    p = riccati.kleinman(a, b, q, r, torch.zeros(1, n, dtype=a.dtype), 10)[-1]
    torch.testing.assert_close(p, riccati.care(a, b, q, r), rtol=0.0, atol=1e-12)
    zero = torch.zeros
    other = LqProblem(
        *(
            np.asarray(part)
            for part in (a, b, zero(0, n, n), zero(0, n, 1), zero(n, 1), 2 * q, 2 * r, zero(1, n), zero(n), zero(1))
        )
    )
    torch.testing.assert_close(p, -0.5 * torch.as_tensor(solve_stationary(other).K), rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("cls", SYSTEMS)
def test_exact_policy_iteration(cls):
    """The whole sequence from u = 0, to the digits known, with its quadratic tail."""
    a, b, q, r = parts(cls)
    best = riccati.care(a, b, q, r)
    found = riccati.kleinman(a, b, q, r, torch.zeros(1, len(a), dtype=a.dtype), len(ERRORS[cls]))
    errors = [norm(p - best) for p in found]
    for got, expected in zip(errors, ERRORS[cls], strict=True):
        assert got == pytest.approx(expected, rel=6e-2 if expected < 1e-12 else 2e-3 if expected < 1e-9 else 5e-5)
    decay = torch.diff(found, dim=0)
    assert float(torch.linalg.eigvalsh(decay).max()) < 1e-12, "the values fall"


def test_first_value_of_the_third_order_system_is_decimal():
    a, b, q, r = parts(ThirdOrderLinear)
    first = riccati.kleinman(a, b, q, r, torch.zeros(1, 3, dtype=a.dtype), 1)[0]
    expected = torch.tensor([[3.64, 5.2, 5.0], [5.2, 11.48, 11.4], [5.0, 11.4, 17.0]], dtype=a.dtype)
    torch.testing.assert_close(first, expected, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("cls", SYSTEMS)
def test_policy_evaluation_is_a_newton_step(cls):
    a, b, q, r = parts(cls)
    for p in riccati.kleinman(a, b, q, r, torch.zeros(1, len(a), dtype=a.dtype), 7):
        evaluated = riccati.value_of_gain(a, b, q, r, riccati.feedback_gain(b, r, p))
        torch.testing.assert_close(riccati.newton_step(a, b, q, r, p), evaluated, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("cls", SYSTEMS)
def test_quadrature_constants(cls):
    a, b, q, r = parts(cls)
    k = riccati.feedback_gain(b, r, riccati.care(a, b, q, r))
    closed, rate = a - b @ k, q + k.T @ r @ k
    assert norm(riccati.trapezoid_error(closed, rate, 1.0)) == pytest.approx(CONSTANTS[cls][0], rel=2e-6)
    assert norm(riccati.simpson_error(closed, rate, 1.0)) == pytest.approx(CONSTANTS[cls][1], rel=2e-6)


@pytest.mark.parametrize("rule", ["trapezoid", "simpson"])
def test_quadrature_constants_are_those_of_the_sums(rule):
    """The rule over all time, with states from the matrix exponential, is the integral plus the error predicted."""
    a, b, q, r = parts(ThirdOrderLinear)
    best = riccati.care(a, b, q, r)
    k = riccati.feedback_gain(b, r, best)
    closed, rate = a - b @ k, q + k.T @ r @ k
    h, nodes = 0.05, 2 * 800  # 80 s: exp(-0.7 * 80) is below rounding
    step = torch.linalg.matrix_exp(closed * h)
    flow, total = torch.eye(3, dtype=a.dtype), torch.zeros_like(rate)
    for i in range(nodes + 1):
        inside = 1.0 if rule == "trapezoid" else (4.0 if i % 2 else 2.0) / 3.0
        weight = inside if 0 < i < nodes else 0.5 * inside
        total = total + h * weight * flow.T @ rate @ flow
        flow = flow @ step
    expected = (riccati.trapezoid_error if rule == "trapezoid" else riccati.simpson_error)(closed, rate, h)
    assert norm(total - best - expected) < 2e-3 * norm(expected)


def test_cost_excess():
    """Second order in the gain, with the sizes that the first-order laws predict, and without cancellation."""
    a, b, q, r = parts(ThirdOrderLinear)
    best = riccati.care(a, b, q, r)
    k = riccati.feedback_gain(b, r, best)
    closed, rate = a - b @ k, q + k.T @ r @ k
    gain = torch.stack(
        [k + riccati.feedback_gain(b, r, riccati.trapezoid_error(closed, rate, 0.1 / n)) for n in (4, 8)]
    )
    trapezoid = riccati.cost_excess(a, b, q, r, gain)
    assert trapezoid.tolist() == pytest.approx([1.647e-7, 1.028e-8], rel=3e-3)
    simpson = riccati.feedback_gain(b, r, riccati.simpson_error(closed, rate, 0.025))
    assert float(riccati.cost_excess(a, b, q, r, k + simpson)) == pytest.approx(2.29e-14, rel=2e-3)
    off = torch.tensor([[0.3, -0.2, 0.5]], dtype=a.dtype)
    direct = riccati.value_of_gain(a, b, q, r, k + off) - best
    assert float(riccati.cost_excess(a, b, q, r, k + off, best)) == pytest.approx(float(direct.trace()), rel=1e-12)


def drawn(batch: int, n: int, m: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(n)
    a = torch.randn(batch, n, n, dtype=torch.float64, generator=generator) / math.sqrt(n)
    b = torch.randn(batch, n, m, dtype=torch.float64, generator=generator)
    return a, b, torch.eye(n, dtype=a.dtype), 0.5 * torch.eye(m, dtype=a.dtype)


@pytest.mark.parametrize("n", [1, 4, 10, 13])
def test_batches(n):
    a, b, q, r = drawn(6, n, 2)
    p = riccati.care(a, b, q, r)
    assert p.shape == (6, n, n)
    assert float((riccati.riccati_map(a, b, q, r, p).norm(dim=(1, 2)) / (1.0 + p.norm(dim=(1, 2)) ** 2)).max()) < 1e-13
    assert bool((riccati.largest_real_part(a - b @ riccati.feedback_gain(b, r, p)) < 0).all())
    torch.testing.assert_close(riccati.care(a[2], b[2], q, r), p[2], rtol=1e-10, atol=1e-10)
    start = 1.5 * riccati.feedback_gain(b, r, p)
    found = riccati.kleinman(a, b, q, r, start, 12)
    assert found.shape == (12, 6, n, n)
    torch.testing.assert_close(found[-1], p, rtol=1e-9, atol=1e-10)


def test_thousands_of_problems_at_once():
    a, b, q, r = drawn(4096, 4, 1)
    a = a - 4.0 * torch.eye(4, dtype=a.dtype)
    found = riccati.kleinman(a, b, q, r, torch.zeros(1, 4, dtype=a.dtype), 8)
    assert float(riccati.riccati_map(a, b, q, r, found[-1]).abs().max()) < 1e-12


def test_lyapunov_has_gradients():
    a = torch.tensor([[-1.0, 0.5], [0.0, -2.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a: riccati.lyapunov(a, torch.eye(2, dtype=a.dtype)), a)


def test_care_has_the_gradients_of_its_solution_and_float32_keeps_its_digits():
    a, b, q, r = parts(ThirdOrderLinear)
    assert torch.autograd.gradcheck(lambda a, r: riccati.care(a, b, q, r), (a.requires_grad_(), r.requires_grad_()))
    short = riccati.care(*(part.detach().float() for part in (a, b, q, r)))
    assert short.dtype == torch.float32
    torch.testing.assert_close(short.double(), riccati.care(a, b, q, r).detach(), rtol=1e-6, atol=1e-6)


def test_what_has_no_solution_says_why():
    eye, push = torch.eye(2, dtype=torch.float64), torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    one = torch.ones(1, 1, dtype=torch.float64)
    integrators = torch.tensor([[0.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    cases = [
        ((torch.diag(torch.tensor([1.0, -1.0])).double(), push, eye, one), r"B must act.*eigenvalue 1(\+0j)? 1/s"),
        ((integrators, push, 0.0 * eye, one), "Q must weigh every mode"),
        ((torch.stack([-eye, eye]), push, eye, one), r"B must act.*\(row 1\)"),
    ]
    for arguments, message in cases:
        with pytest.raises(NumericsError, match=message) as caught:
            riccati.care(*arguments)
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="R must be positive definite"):
        riccati.care(integrators, push, eye, -one)
    with pytest.raises(ConfigError, match=r"R must be positive definite.* in 1 rows of the batch, first 1"):
        riccati.care(integrators, push, eye, torch.stack([one, -one]))
    with pytest.raises(ConfigError, match="Q must be symmetric"):
        riccati.care(integrators, push, integrators, one)
    with pytest.raises(ConfigError, match="A must be finite"):
        riccati.care(math.nan * integrators, push, eye, one)
    with pytest.raises(ShapeError, match=r"A must have shape \[\.\.\., 1, 1\]"):
        riccati.care(integrators, push.T, eye, one)
    with pytest.raises(NumericsError, match=r"first gain must be stable, got .* in row 1"):
        riccati.kleinman(torch.stack([-eye, eye]), push, eye, one, torch.zeros(1, 2, dtype=eye.dtype), 1)
    for n in (1, 6):
        with pytest.raises(NumericsError, match="share no eigenvalue"):
            riccati.lyapunov(torch.diag(torch.tensor([1.0] * n + [-1.0] * n)).double(), torch.eye(2 * n).double())
