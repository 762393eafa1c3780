"""f-divergences: slopes by automatic differentiation, inverses, conjugates by search, limits, and no overflow."""

import math

import pytest
import torch

from rlcore.functional.divergence import (
    ALL,
    INTERIOR,
    Alpha,
    Divergence,
    ForwardKl,
    JensenShannon,
    PearsonChiSquared,
    ReverseKl,
    kl,
)

DOUBLE = torch.float64
U = torch.tensor([1e-3, 0.1, 0.5, 0.9, 1.1, 2.0, 7.0, 50.0], dtype=DOUBLE)
SMOOTH = {name: d for name, d in ALL.items() if name != "total variation"}


def policies(seed: int, rows: int = 4, n: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.log_softmax(torch.randn(rows, n, dtype=DOUBLE, generator=generator), -1)


@pytest.mark.parametrize("name", ALL)
def test_f_is_zero_and_flat_or_not_at_one(name: str) -> None:
    one = torch.ones((), dtype=DOUBLE)
    assert abs(float(ALL[name].f(one))) < 1e-15


@pytest.mark.parametrize("name", ALL)
def test_slope_is_the_derivative(name: str) -> None:
    u = U.clone().requires_grad_()
    (expected,) = torch.autograd.grad(ALL[name].f(u).sum(), u)
    torch.testing.assert_close(ALL[name].slope(U), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", SMOOTH)
def test_inverse_undoes_the_slope(name: str) -> None:
    u = torch.tensor([0.05, 0.3, 0.9, 1.0, 1.5, 4.0], dtype=DOUBLE)
    torch.testing.assert_close(SMOOTH[name].inverse(SMOOTH[name].slope(u)), u, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("name", SMOOTH)
def test_conjugate_is_the_largest_of_uv_minus_f(name: str) -> None:
    d = SMOOTH[name]
    v = d.slope(torch.tensor([0.2, 0.7, 1.0, 2.5], dtype=DOUBLE))
    grid = torch.linspace(-8.0, 5.0, 200_001, dtype=DOUBLE).exp()
    searched = (grid * v.unsqueeze(-1) - d.f(grid)).amax(-1)
    torch.testing.assert_close(d.conjugate(v), searched, rtol=0, atol=1e-7)
    u = d.inverse(v)
    torch.testing.assert_close(d.conjugate(v), u * v - d.f(u), rtol=1e-12, atol=1e-13)


def test_conjugates_where_zero_is_reached() -> None:
    assert float(PearsonChiSquared().conjugate(torch.tensor(-5.0, dtype=DOUBLE))) == -1.0  # u = 0, f(0) = 1
    tv = ALL["total variation"]
    grid = torch.linspace(0.0, 9.0, 9001, dtype=DOUBLE)
    for v in (-2.0, -0.5, -0.1, 0.3, 0.5):
        assert float(tv.conjugate(torch.tensor(v, dtype=DOUBLE))) == pytest.approx(float((grid * v - tv.f(grid)).max()))
    assert math.isinf(float(tv.conjugate(torch.tensor(0.6, dtype=DOUBLE))))


@pytest.mark.parametrize("name", INTERIOR)
def test_slopes_have_the_stated_ends(name: str) -> None:
    d = INTERIOR[name]
    assert float(d.slope_at_log(torch.tensor(-300.0, dtype=DOUBLE))) < -100.0
    assert d.lowest_slope == -math.inf
    top = float(d.slope_at_log(torch.tensor(300.0, dtype=DOUBLE)))
    assert top > 100.0 if d.highest_slope == math.inf else top == pytest.approx(d.highest_slope, abs=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_divergences_are_positive_and_zero_between_equals(name: str) -> None:
    p, q = policies(0), policies(1)
    assert bool((ALL[name].between(p, q) > 0.0).all())
    assert float(ALL[name].between(p, p).abs().max()) < 1e-15


def test_known_pairs() -> None:
    p, q = policies(2), policies(3)
    torch.testing.assert_close(ReverseKl().between(p, q), kl(p, q), rtol=1e-13, atol=0)
    torch.testing.assert_close(ForwardKl().between(p, q), kl(q, p), rtol=1e-13, atol=0)
    middle = (0.5 * (p.exp() + q.exp())).log()
    torch.testing.assert_close(JensenShannon().between(p, q), kl(p, middle) + kl(q, middle), rtol=1e-13, atol=0)
    torch.testing.assert_close(ALL["total variation"].between(p, q), 0.5 * (p.exp() - q.exp()).abs().sum(-1))


def test_alpha_goes_to_both_kl_divergences() -> None:
    p, q = policies(4), policies(5)
    torch.testing.assert_close(Alpha(1e-4).between(p, q), kl(p, q), rtol=1e-3, atol=0)
    torch.testing.assert_close(Alpha(1.0 - 1e-4).between(p, q), kl(q, p), rtol=1e-3, atol=0)
    d, other = torch.tensor([-2.0, 0.3]), torch.tensor([1.0, 0.2])
    for alpha, limit in ((1e-4, ReverseKl()), (1.0 - 1e-4, ForwardKl())):
        torch.testing.assert_close(Alpha(alpha).slope_difference(d, other), limit.slope_difference(d, other),
                                   rtol=1e-3, atol=1e-3)  # fmt: skip


def test_kl_resolves_what_the_sum_of_logarithms_loses() -> None:
    p = policies(6)
    shift = 1e-12 * torch.randn(p.shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    q = torch.log_softmax(p + shift, -1)
    d = q - p
    expected = 0.5 * (p.exp() * d.square()).sum(-1)  # second order is all there is
    torch.testing.assert_close(kl(p, q), expected, rtol=1e-9, atol=0)
    assert bool((kl(p, q) < 1e-23).all())


def test_kl_lets_p_vanish() -> None:
    q = torch.tensor([0.25, 0.75], dtype=DOUBLE).log()
    for rare in (-math.inf, -720.0, -50.0):  # -720: a number that is not normal any more
        p = torch.tensor([0.0, rare], dtype=DOUBLE)
        assert float(kl(p, q)) == pytest.approx(math.log(4.0), rel=1e-14)


@pytest.mark.parametrize("name", INTERIOR | {"Pearson chi^2": 0})
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_differences_of_slopes_never_overflow(name: str, dtype: torch.dtype) -> None:
    values = torch.tensor([-1e4, -300.0, -90.0, -1.0, 0.0, 1.0, 90.0, 300.0, 1e4])
    d = values.repeat_interleave(len(values)).to(dtype).requires_grad_()
    other = values.repeat(len(values)).to(dtype).requires_grad_()
    found = ALL[name].slope_difference(d, other)
    found.sum().backward()
    assert bool(torch.isfinite(found).all())
    assert bool((found * (d - other) >= 0.0).all()), "slopes rise"
    for gradient in (d.grad, other.grad):
        assert gradient is not None
        assert bool(torch.isfinite(gradient).all())


@pytest.mark.parametrize("name", INTERIOR | {"Pearson chi^2": 0})
def test_differences_of_slopes_are_what_they_say(name: str) -> None:
    d, other = torch.tensor([-3.0, -0.2, 0.1, 2.0], dtype=DOUBLE), torch.tensor([1.0, -0.2, 0.1000001, -4.0]).double()
    kind: Divergence = ALL[name]
    torch.testing.assert_close(kind.slope_difference(d, other), kind.slope_at_log(d) - kind.slope_at_log(other))


@pytest.mark.parametrize("name", INTERIOR | {"Pearson chi^2": 0})
def test_differences_of_slopes_have_their_gradient_between_equals_too(name: str) -> None:
    """Where training begins, policy and reference are the same: f''(1) is not to be lost there."""
    d, other = (torch.zeros(1, dtype=DOUBLE, requires_grad=True) for _ in range(2))
    ALL[name].slope_difference(d, other).sum().backward()
    u = torch.ones(1, dtype=DOUBLE, requires_grad=True)
    (curvature,) = torch.autograd.grad(ALL[name].slope(u).sum(), u)
    torch.testing.assert_close(d.grad, curvature)
    torch.testing.assert_close(other.grad, -curvature)
