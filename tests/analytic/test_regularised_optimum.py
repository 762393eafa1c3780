"""Regularised optima against closed forms, first-order conditions, and bounds that nothing exceeds."""

import math

import pytest
import torch
from torch import Tensor

from rlcore.envs.hacking.tomato import Tomato
from rlcore.envs.hacking.tomato_model import TomatoModel
from rlcore.errors import ConfigError, DataError, NumericsError
from rlcore.functional.occupancy import FiniteProblem, policy_of, program, regularised_occupancy, spread, two_states
from rlcore.functional.occupancy.certificate import ceiling, worth

DOUBLE = torch.float64
KINDS = ["none", "sqrt_chi2", "chi2", "kl", "ad_kl", "maxmin"]


def drawn(seed: int, states: int = 5, actions: int = 3) -> tuple[FiniteProblem, Tensor, Tensor, torch.Generator]:
    """A random problem, a proxy, a base, and what they were drawn from."""
    generator = torch.Generator().manual_seed(seed)

    def simplex(*shape: int) -> Tensor:
        return torch.softmax(1.5 * torch.randn(*shape, dtype=DOUBLE, generator=generator), -1)

    problem = FiniteProblem(simplex(states, actions, states), simplex(states), 0.9)
    proxy = torch.randn(states, actions, dtype=DOUBLE, generator=generator)
    return problem, proxy, problem.occupancy(simplex(states, actions)), generator


def arms(base: Tensor) -> FiniteProblem:
    """One state without a future, whose occupancies are all distributions of the actions."""
    return FiniteProblem(torch.ones(1, base.numel(), 1, dtype=DOUBLE), torch.ones(1, dtype=DOUBLE), 0.0)


@pytest.mark.parametrize("strength", [1e-3, 0.08, 1.0, 1e4])
@pytest.mark.parametrize("kind", ["kl", "ad_kl"])
def test_arms_under_kl_follow_a_softmax(kind: str, strength: float) -> None:
    base = torch.tensor([[0.7, 0.2, 0.1 - 1e-7, 1e-7]], dtype=DOUBLE)
    proxy = torch.tensor([[0.0, 0.3, -0.2, 0.52]], dtype=DOUBLE)
    found = regularised_occupancy(arms(base), proxy, base, kind, strength)  # type: ignore[arg-type]
    torch.testing.assert_close(found, torch.softmax(base.log() + proxy / strength, 1), rtol=1e-8, atol=1e-14)


def test_two_arms_under_chi_squared() -> None:
    pytest.importorskip("cvxpy")
    base, proxy = torch.tensor([[0.8, 0.2]], dtype=DOUBLE), torch.tensor([[0.0, 1.0]], dtype=DOUBLE)
    found = regularised_occupancy(arms(base), proxy, base, "chi2", 2.0)
    moved = 0.8 * 0.2 / (2.0 * 2.0)  # chi^2 = d^2 / (b0 b1) for a shift d, whose gain is d
    torch.testing.assert_close(found, torch.tensor([[0.8 - moved, 0.2 + moved]], dtype=DOUBLE), rtol=0.0, atol=1e-6)
    for strength, right in ((0.39, 1.0), (0.41, 0.2)):  # C = d / sqrt(b0 b1): all or nothing about sqrt(b0 b1) = 0.4
        found = regularised_occupancy(arms(base), proxy, base, "sqrt_chi2", strength)
        assert float(found[0, 1]) == pytest.approx(right, abs=1e-4)


@pytest.fixture(scope="module")
def tomatoes() -> TomatoModel:
    return Tomato().model()


@pytest.mark.parametrize(("temperature", "strength"), [(0.0, 0.08), (0.1, 0.03), (0.15, 1.0)])
def test_no_action_earns_more_of_the_gradient_in_the_garden(
    tomatoes: TomatoModel, temperature: float, strength: float
) -> None:
    problem, proxy = tomatoes.problem, tomatoes.proxy
    law = tomatoes.softened(temperature) if temperature else torch.full_like(proxy, 0.25)
    base = problem.occupancy(law)
    mu = regularised_occupancy(problem, proxy, base, "kl", strength)
    gradient, policy = proxy - strength * (mu / base).log(), policy_of(mu)
    q = problem.action_values(policy, gradient)
    advantage = q - (policy * q).sum(1, keepdim=True)
    assert float(advantage.max()) <= 1e-7


@pytest.mark.parametrize("state_only", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_exceeds_the_bound_at_any_prices(kind: str, state_only: bool) -> None:
    if state_only and kind in ("ad_kl", "maxmin"):
        pytest.skip("compares actions")
    for seed in range(10):
        problem, proxy, base, generator = drawn(seed)
        prices = 2.0 * torch.randn(5, dtype=DOUBLE, generator=generator)
        sharp = 10.0 ** float(torch.rand((), generator=generator))
        mu = problem.occupancy(torch.softmax(sharp * torch.randn(5, 3, dtype=DOUBLE, generator=generator), -1))
        strength = 0.05 + 0.9 * float(torch.rand((), generator=generator))
        value = worth(mu, proxy, base, kind, strength, state_only=state_only)  # type: ignore[arg-type]
        for near in (mu, base):
            most = ceiling(problem, proxy, base, kind, strength, prices, near, state_only=state_only)  # type: ignore[arg-type]
            assert value <= most + 1e-9


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("kind", KINDS)
def test_units_of_the_reward_change_nothing(kind: str, scale: float) -> None:
    pytest.importorskip("cvxpy")
    problem, proxy, base, _ = drawn(3)
    strength = 0.6 if kind == "maxmin" else 0.3
    known = regularised_occupancy(problem, proxy, base, kind, strength)  # type: ignore[arg-type]
    scaled = strength if kind == "maxmin" else scale * strength
    found = regularised_occupancy(problem, scale * proxy, base, kind, scaled)  # type: ignore[arg-type]
    torch.testing.assert_close(found, known, rtol=0.0, atol=2e-4)
    law = policy_of(found)
    torch.testing.assert_close(problem.occupancy(law), found, rtol=1e-9, atol=1e-12)


def test_state_only_ignores_what_is_done() -> None:
    pytest.importorskip("cvxpy")
    problem, _, base, _ = drawn(8)
    x = torch.tensor([1.0, -0.5, 0.3, 0.0, -1.0], dtype=DOUBLE).unsqueeze(1).expand(5, 3)
    alone, both = (regularised_occupancy(problem, x, base, "sqrt_chi2", 0.2, state_only=s) for s in (True, False))
    held = [worth(mu, x, base, "sqrt_chi2", 0.2, state_only=True) for mu in (alone, both)]
    assert held[0] >= held[1] - 1e-9
    assert float(spread(x, base)[0]) <= held[0] + 1e-9


def test_a_solver_that_fails_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    cvxpy = pytest.importorskip("cvxpy")
    problem, proxy, base, _ = drawn(4)

    def fails(*_: object, **__: object) -> None:
        raise cvxpy.error.SolverError("Solver 'CLARABEL' failed.")

    monkeypatch.setattr(cvxpy.Problem, "solve", fails)
    with pytest.raises(NumericsError, match=r"^expected an optimum under sqrt_chi2 .* got inf; take a larger [^\n]*$"):
        regularised_occupancy(problem, proxy, base, "sqrt_chi2", 0.3)
    monkeypatch.setattr(program, "kl_optimum", lambda *_: (base, torch.zeros(5, dtype=DOUBLE)))
    with pytest.raises(NumericsError, match="under kl at strength"):
        regularised_occupancy(problem, proxy, base, "kl", 0.01)


def test_programs_at_the_door() -> None:
    problem, proxy, base, _ = drawn(4)
    for bad in (proxy.log(), proxy / 0.0):
        with pytest.raises(DataError, match="finite"):
            regularised_occupancy(problem, bad, base, "kl", 0.3)
    with pytest.raises(ConfigError, match="state_only"):
        regularised_occupancy(problem, proxy, base, "maxmin", 0.3, state_only=True)
    with pytest.raises(DataError, match="constant"):
        regularised_occupancy(problem, torch.ones_like(proxy), base, "maxmin", 0.3)
    left, _, law = two_states(0.1)
    elsewhere = left.occupancy(law).clone()
    elsewhere[0] = 0.0
    with pytest.raises(DataError, match="every state that starts"):
        regularised_occupancy(left, torch.ones(2, 2, dtype=DOUBLE), elsewhere, "kl", 0.3)
    assert math.isclose(
        float(regularised_occupancy(left, torch.zeros(2, 2, dtype=DOUBLE), left.occupancy(law), "kl", 1.0).sum()), 1.0
    )
