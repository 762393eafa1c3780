"""Occupancies against sums, bounds against random problems and an adversary, penalties against finite differences."""

import math

import pytest
import torch
from torch import Tensor

from rlcore.errors import ConfigError, DataError
from rlcore.functional.alignment import root_chi_squared
from rlcore.functional.divergence import kl
from rlcore.functional.occupancy import (
    FiniteProblem,
    adversarial_reward,
    best_lambda,
    bound_a,
    bound_b,
    bound_t,
    chi_squared,
    fisher_limit,
    maxmin_reward,
    moments,
    penalty,
    policy_of,
    regularised_occupancy,
    reweighting,
    spread,
    two_states,
)

DOUBLE = torch.float64


def drawn(seed: int, states: int = 5, actions: int = 3, discount: float = 0.9) -> tuple[FiniteProblem, Tensor, Tensor]:
    """A random problem, a policy and a reference."""
    generator = torch.Generator().manual_seed(seed)

    def simplex(*shape: int) -> Tensor:
        return torch.softmax(1.5 * torch.randn(*shape, dtype=DOUBLE, generator=generator), -1)

    problem = FiniteProblem(simplex(states, actions, states), simplex(states), discount)
    return problem, simplex(states, actions), simplex(states, actions)


def test_an_occupancy_is_the_discounted_sum_of_visits() -> None:
    problem, policy, _ = drawn(0)
    moves = torch.einsum("sa,sat->st", policy, problem.transition)
    place, expected = problem.start, torch.zeros_like(policy)
    for t in range(400):
        expected += (1.0 - problem.discount) * problem.discount**t * place.unsqueeze(1) * policy
        place = place @ moves
    found = problem.occupancy(policy)
    torch.testing.assert_close(found, expected)
    assert float(found.sum()) == pytest.approx(1.0)
    torch.testing.assert_close(policy_of(found), policy)


def test_the_best_policy_has_the_largest_return_of_all_deterministic_ones() -> None:
    problem, _, _ = drawn(3, states=3, actions=2)
    reward = torch.randn(3, 2, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
    returns = [
        float((problem.occupancy(torch.eye(2, dtype=DOUBLE)[torch.tensor([k & 1, k >> 1 & 1, k >> 2])]) * reward).sum())
        for k in range(8)
    ]
    assert float((problem.occupancy(problem.best(reward)) * reward).sum()) == pytest.approx(max(returns))


def test_bounds_hold_and_the_adversary_attains_the_tight_one() -> None:
    certified = 0
    for seed in range(300):
        problem, policy, reference = drawn(seed)
        mu, base = problem.occupancy(policy), problem.occupancy(reference)
        generator = torch.Generator().manual_seed(10_000 + seed)
        proxy = torch.randn(*mu.shape, dtype=DOUBLE, generator=generator)
        true = 0.3 * torch.randn(*mu.shape, dtype=DOUBLE, generator=generator) + proxy
        found = moments(proxy, true, base)
        r = float(found.correlation)
        if r <= 0.0:
            continue
        p = ((mu * proxy).sum() - found.proxy_mean) / found.proxy_sd
        y = ((mu * true).sum() - found.true_mean) / found.true_sd
        c = chi_squared(mu, base).sqrt()
        a, b, t = (bound(p, c, r) for bound in (bound_a, bound_b, bound_t))
        slack = 1e-9 * (1.0 + float(c))
        assert float(abs(p)) <= float(c) + slack
        assert float(t) >= max(float(a), float(b)) - slack
        assert float(y) >= float(t) - slack
        assert (float(a) > 0.0) == (float(t) > 0.0)
        certified += float(a) > 0.0
        worst = adversarial_reward(mu, base, proxy, r)
        seen = moments(proxy, worst, base)
        assert float(seen.true_sd) == pytest.approx(1.0)
        assert float(seen.correlation) == pytest.approx(r)
        assert float((mu * worst).sum() - seen.true_mean) == pytest.approx(float(t), abs=1e-10)
    assert certified > 3


@pytest.mark.parametrize("kind", ["sqrt_chi2", "chi2", "kl", "forward_kl", "maxmin"])
def test_penalties_are_gradients(kind: str) -> None:
    problem, policy, reference = drawn(7)
    base = problem.occupancy(reference)
    logits = policy.log().requires_grad_()
    proxy = torch.randn(*base.shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    mean, sd = spread(proxy, base)
    x, r = (proxy - mean) / sd, 0.6

    def objective(mu: Tensor) -> Tensor:
        chi2, p = (mu * mu / base).sum() - 1.0, (mu * x).sum()
        return {
            "sqrt_chi2": -chi2.sqrt(),
            "chi2": -chi2,
            "kl": -(mu * (mu / base).log()).sum(),
            "forward_kl": -(base * (base / mu).log()).sum(),
            "maxmin": r * p - math.sqrt(1.0 - r * r) * (chi2 - p * p).sqrt(),
        }[kind]

    def value(theta: Tensor) -> Tensor:
        return objective(problem.occupancy(torch.softmax(theta, -1)))

    (expected,) = torch.autograd.grad(value(logits), logits)
    mu = problem.occupancy(torch.softmax(logits, -1)).detach()
    log_ratio, root, p = (mu / base).log(), chi_squared(mu, base).sqrt(), (mu * x).sum()
    rewards = {"maxmin": lambda: maxmin_reward(x, log_ratio, p, root, r)}
    reward = rewards.get(kind, lambda: -penalty(kind, log_ratio, root))()  # type: ignore[arg-type]
    frozen = (problem.occupancy(torch.softmax(logits, -1)) * reward).sum()
    (found,) = torch.autograd.grad(frozen, logits)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-12)
    step = 1e-5 * torch.randn(*logits.shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(2))
    ahead, behind = (float(value(logits.detach() + sign * step)) for sign in (1.0, -1.0))
    assert float((found * step).sum()) == pytest.approx(0.5 * (ahead - behind), rel=1e-5)


def test_chi_squared_has_two_forms_and_is_at_least_p_squared() -> None:
    problem, policy, reference = drawn(11)
    mu, base = problem.occupancy(policy), problem.occupancy(reference)
    assert float(chi_squared(mu, base)) == pytest.approx(float((base * (mu / base - 1.0) ** 2).sum()), rel=1e-10)
    away = torch.zeros_like(base)
    away[0, 0] = 1.0
    gone = base.clone()
    gone[0, 0] = 0.0
    assert math.isinf(float(chi_squared(away, gone)))


def test_the_two_state_example_of_the_paper() -> None:
    problem, reward, rare = two_states(1e-4)
    often = two_states(1e-2)[2]
    base, mu = problem.occupancy(rare), problem.occupancy(often)
    assert [float((x * reward).sum()) for x in (base, mu)] == pytest.approx([0.990, 0.503], abs=5e-4)
    visits = mu.sum(-1)
    on_actions = float((visits * kl(often.log().clamp(min=-700), rare.log().clamp(min=-700))).sum())
    assert on_actions == pytest.approx(0.018, abs=5e-4)
    seen = mu > 0.0
    assert float((mu[seen] * (mu[seen] / base[seen]).log()).sum()) == pytest.approx(1.63, abs=5e-3)
    assert float(chi_squared(mu, base)) == pytest.approx(24.8, abs=0.05)


@pytest.mark.parametrize("kind", ["sqrt_chi2", "chi2", "kl", "maxmin", "ad_kl", "none"])
def test_the_convex_program_beats_every_policy_nearby(kind: str) -> None:
    pytest.importorskip("cvxpy")
    problem, _, reference = drawn(5, states=4, actions=2)
    base = problem.occupancy(reference)
    proxy = torch.randn(4, 2, dtype=DOUBLE, generator=torch.Generator().manual_seed(3))
    mean, sd = spread(proxy, base)
    strength = 0.7 if kind == "maxmin" else 0.2
    best = regularised_occupancy(problem, proxy, base, kind, strength)  # type: ignore[arg-type]

    def objective(mu: Tensor) -> float:
        gain = float((mu * proxy).sum())
        chi2, law = float(chi_squared(mu, base)), policy_of(mu)
        p = float((mu * (proxy - mean) / sd).sum())
        prices = {
            "none": 0.0,
            "sqrt_chi2": strength * math.sqrt(max(chi2, 0.0)),
            "chi2": strength * chi2,
            "kl": strength * float(torch.xlogy(mu, mu / base).sum()),
            "ad_kl": strength * float((mu.sum(-1, keepdim=True) * torch.xlogy(law, law / reference)).sum()),
        }
        if kind == "maxmin":
            return strength * p - math.sqrt(1 - strength**2) * math.sqrt(max(chi2 - p * p, 0.0))
        return gain - prices[kind]

    flow = (1.0 - problem.discount) * problem.start + problem.discount * torch.einsum(
        "sa,sat->t", best, problem.transition
    )
    torch.testing.assert_close(best.sum(-1), flow, rtol=1e-5, atol=1e-6)
    policy, generator = policy_of(best), torch.Generator().manual_seed(4)
    for _ in range(200):
        other = torch.softmax(torch.randn(4, 2, dtype=DOUBLE, generator=generator), -1)
        near = problem.occupancy(0.95 * policy + 0.05 * other)
        assert objective(near) <= objective(best) + 1e-6


def test_whole_sequences_as_actions_have_the_same_root() -> None:
    p, q = (
        torch.softmax(torch.randn(40, dtype=DOUBLE, generator=torch.Generator().manual_seed(s)), -1) for s in (1, 2)
    )
    drawn_rows = torch.multinomial(p, 400_000, True, generator=torch.Generator().manual_seed(0))
    found = root_chi_squared((p / q).log()[drawn_rows])
    assert float(found) == pytest.approx(float(chi_squared(p, q).sqrt()), rel=0.03)


def test_correlations_and_labels_at_the_door() -> None:
    for r in (0.0, -0.3, 1.2, math.nan):
        with pytest.raises(ConfigError, match=r"\(0, 1\]"):
            best_lambda(1.0, r)
    assert best_lambda(0.05, 1.0) == 0.0
    assert fisher_limit(0.73, 103) == pytest.approx(math.tanh(math.atanh(0.73) - 1.6449 / 10.0))
    assert fisher_limit(0.73, 10_000) < 0.73
    with pytest.raises(ConfigError, match="4 labelled"):
        fisher_limit(0.5, 3)
    base = torch.full((2, 2), 0.25, dtype=DOUBLE)
    with pytest.raises(DataError, match="constant"):
        adversarial_reward(base, base, torch.ones(2, 2, dtype=DOUBLE), 0.5)
    with pytest.raises(ConfigError, match="discount"):
        FiniteProblem(torch.ones(1, 1, 1, dtype=DOUBLE), torch.ones(1, dtype=DOUBLE), 1.0)
    with pytest.raises(DataError, match="sum to 1"):
        FiniteProblem(torch.ones(1, 1, 1, dtype=DOUBLE), torch.full((1,), 0.5, dtype=DOUBLE), 0.9)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.61, 0.9])
def test_the_best_reweighting_satisfies_the_conditions_of_a_maximum(share: float) -> None:
    generator = torch.Generator().manual_seed(4)
    weight = torch.softmax(torch.randn(400, dtype=DOUBLE, generator=generator), 0)
    proxy = torch.randn(400, dtype=DOUBLE, generator=generator) ** 3
    strength = share * float(spread(proxy, weight)[1])
    found = reweighting(proxy, weight, strength)
    root = (weight * (found - 1.0).square()).sum().sqrt()
    slope = proxy - strength * (found - 1.0) / root  # of the objective, concave in L
    level = slope[found > 0.0]
    assert float((weight * found).sum()) == pytest.approx(1.0, abs=1e-12)
    torch.testing.assert_close(level, level[:1].expand_as(level), rtol=0, atol=1e-8)
    assert float(slope[found == 0.0].max()) <= float(level[0]) + 1e-8


def test_no_policy_is_worth_more_than_the_best_reweighting_and_at_its_ends_it_is_known() -> None:
    for seed in range(20):
        problem, policy, other = drawn(seed)
        mu, base = problem.occupancy(policy), problem.occupancy(other)
        proxy = torch.randn(base.shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))
        for strength in (0.1, 0.4):
            best = reweighting(proxy.flatten(), base.flatten(), strength).view_as(base) * base
            ours, bound = (
                (x * proxy).sum() - strength * chi_squared(x, base).clamp(min=0.0).sqrt() for x in (mu, best)
            )
            assert ours <= bound + 1e-9
    flat, weight = proxy.flatten(), base.flatten()
    assert (reweighting(flat, weight, 100.0) == 1.0).all()
    top = reweighting(flat, weight, 0.0)
    assert top.argmax() == flat.argmax()
    assert float((weight * top * flat).sum()) == pytest.approx(float(flat.max()))
    assert (reweighting(torch.ones(4), torch.full((4,), 0.25), 0.0) == 1.0).all(), "nothing to gain"


def test_a_constant_has_no_spread_whatever_its_weights_round_to() -> None:
    for seed in range(50):
        weight = torch.rand(97, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        mean, sd = spread(torch.full((97,), 0.3, dtype=torch.float64), weight / weight.sum())
        assert float(mean) == 0.3
        assert float(sd) == 0.0
