"""The regularised preference game: identities, the exact equilibrium, and games whose matrix is never formed."""

import math

import pytest
import torch
from torch import Tensor

from rlcore.envs.games.tables import (
    cosine_reference,
    cyclic_table,
    perturbed_rock_paper_scissors,
    random_circles,
    random_policies,
    random_tables,
    sine_table,
)
from rlcore.errors import ConfigError
from rlcore.functional.divergence import kl
from rlcore.functional.games import ClassPreference, MatrixPreference, PreferenceGame, equilibrium

GAMES, N = 40, 9


@pytest.fixture(params=[0.02, 0.1, 1.0])
def game(request: pytest.FixtureRequest) -> PreferenceGame:
    return PreferenceGame(MatrixPreference(random_tables(GAMES, N, 0)), random_policies(GAMES, N, 1), request.param)


@pytest.fixture
def policy() -> Tensor:
    return random_policies(GAMES, N, 2, spread=2.0)


def close(a: Tensor, b: Tensor | float, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(a, torch.as_tensor(b, dtype=a.dtype).expand_as(a), rtol=tolerance, atol=tolerance)


def test_values_sum_to_one(game: PreferenceGame, policy: Tensor) -> None:
    other = random_policies(GAMES, N, 3)
    close(game.value(policy, other) + game.value(other, policy), 1.0)


def test_value_against_the_equilibrium(game: PreferenceGame, policy: Tensor) -> None:
    star = equilibrium(game)
    close(game.value(policy, star), 0.5 - game.beta * kl(policy, star), 1e-11)
    close(game.value(star, policy), 0.5 + game.beta * kl(policy, star), 1e-11)


def test_gap_is_the_closed_form_and_decomposes(game: PreferenceGame, policy: Tensor) -> None:
    star, beta = equilibrium(game), game.beta
    soft_max = beta * torch.logsumexp(game.log_reference + game.payoffs(policy) / beta, -1)
    close(game.gap(policy), soft_max + beta * kl(policy, game.log_reference) - 0.5)
    best = game.best_response(policy)
    close(game.gap(policy), game.value(best, policy) - 0.5)
    close(game.gap(policy), beta * kl(policy, star) + beta * kl(star, best), 1e-11)
    close(game.duality_gap(policy), game.value(best, policy) - game.value(policy, best))
    assert bool((game.gap(policy) <= beta * kl(policy, star) + kl(star, policy) / (4.0 * beta)).all())
    assert float(game.gap(star).max()) < 1e-20


def test_start_is_not_far(game: PreferenceGame) -> None:
    assert bool((kl(equilibrium(game), game.log_reference) <= 0.5 / game.beta).all())


def test_bound_needs_no_equilibrium(game: PreferenceGame, policy: Tensor) -> None:
    star = equilibrium(game)
    for share in (1.0, 0.1, 1e-3, 1e-6):
        near = torch.log_softmax((1.0 - share) * star + share * policy, -1)
        apart, bound = kl(star, near) + kl(near, star), game.divergence_bound(near)
        assert bool((apart <= bound * (1.0 + 1e-6)).all())
    assert bool((bound <= 0.25 * (game.residual(near).amax(-1) - game.residual(near).amin(-1)).square()).all())


def test_bound_is_the_variance_of_the_residual_near_by(game: PreferenceGame, policy: Tensor) -> None:
    star = equilibrium(game)
    near = torch.log_softmax(star + 1e-4 * game.beta * (policy - star), -1)
    residual, pi = game.residual(near), near.exp()
    variance = (pi * residual.square()).sum(-1) - (pi * residual).sum(-1).square()
    close(game.divergence_bound(near) / variance, 1.0, 0.02)


def test_bound_of_a_policy_beyond_all_measure(game: PreferenceGame) -> None:
    far = torch.log_softmax(random_policies(GAMES, N, 6) * 400.0, -1)
    bound = game.divergence_bound(far)
    assert bool(torch.isfinite(bound).all())
    assert bool((kl(equilibrium(game), far) <= bound).all())


def test_equilibrium_is_one(game: PreferenceGame) -> None:
    star = equilibrium(game)
    assert float(game.residual(star).abs().max()) < 1e-13 / game.beta
    close(star.logsumexp(-1), 0.0, 1e-14)
    again = equilibrium(game, random_policies(GAMES, N, 5, spread=3.0))
    close(again, star, 1e-12 / game.beta)


def test_a_game_does_not_depend_on_its_batch(game: PreferenceGame) -> None:
    together = equilibrium(game)
    for k in (0, 17, GAMES - 1):
        alone = equilibrium(game.select(slice(k, k + 1)))
        close(alone[0], together[k], 1e-12 / game.beta)


def test_a_large_table_is_checked_to_its_last_entry() -> None:
    table = torch.full((1500, 1500), 0.5)
    table[1400, 3] = 0.6
    with pytest.raises(ConfigError, match=r"off by 0\.1 for actions 3 and 1400"):
        MatrixPreference(table)


def test_one_beta_for_each_game() -> None:
    table, beta = sine_table(7), torch.tensor([[0.05], [0.2], [1.0]], dtype=torch.float64)
    game = PreferenceGame(MatrixPreference(table), cosine_reference(7).log().expand(3, -1), beta)
    stars, gaps = equilibrium(game), game.gap(game.log_reference)
    for k, strength in enumerate((0.05, 0.2, 1.0)):
        one = PreferenceGame.of(table, strength, cosine_reference(7))
        close(stars[k], equilibrium(one))
        close(gaps[k], one.gap(one.log_reference))


def test_names_of_actions_do_not_matter() -> None:
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    table, mu = sine_table(8), cosine_reference(8)
    star = equilibrium(PreferenceGame.of(table, 0.1, mu))
    close(equilibrium(PreferenceGame.of(table[order][:, order], 0.1, mu[order])), star[order])


@pytest.mark.parametrize(
    ("table", "beta", "expected"),
    [
        (sine_table(3), 0.1, (0.28516747, 0.31472094, 0.40011159)),
        (sine_table(10), 0.1, (0.0954244, 0.13843861, 0.21014822)),
        (cyclic_table(3), 0.1, (0.41482174, 0.25392031, 0.33125795)),
    ],
)
def test_known_equilibria(table: Tensor, beta: float, expected: tuple[float, ...]) -> None:
    found = equilibrium(PreferenceGame.of(table, beta, cosine_reference(len(table)))).exp()
    close(found[:3], torch.tensor(expected, dtype=torch.float64), 6e-9)


def test_quantal_response_equilibrium_of_the_literature() -> None:
    found = equilibrium(PreferenceGame.of(perturbed_rock_paper_scissors(), 0.1)).exp()
    close(found, torch.tensor([0.17347803, 0.48630324, 0.34021873], dtype=torch.float64), 5e-9)


def test_gap_and_exploitability_of_the_reference() -> None:
    game = PreferenceGame.of(sine_table(3), 0.1, cosine_reference(3))
    star = equilibrium(game)
    assert float(game.gap(game.log_reference)) == pytest.approx(0.109664, abs=5e-7)
    assert float(game.exploitability(star)) == pytest.approx(0.0876981, abs=5e-8)


CLASSES = {  # beta: equilibrium over the classes, KL to the masses, gap of the masses
    0.05: ((0.35679080, 0.29632821, 0.34688099), 0.06696370, 0.03782000),
    0.1: ((0.38841417, 0.26693826, 0.34464757), 0.05830134, 0.02479367),
    0.5: ((0.50467415, 0.24695054, 0.24837531), 0.01044469, 0.00612931),
}


@pytest.mark.parametrize("beta", CLASSES)
def test_class_reduction(beta: float) -> None:
    """pi*(y) = q*(c(y)) mu(y) / m(c(y)): the game over classes gives that over many actions."""
    masses = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    classes = torch.arange(60) % 3
    inside = torch.rand(60, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    share = inside / torch.zeros(3, dtype=torch.float64).index_add_(0, classes, inside)[classes]
    mu, table = masses[classes] * share, cyclic_table(3, wins=0.9)
    large = PreferenceGame(ClassPreference(table, classes), mu.log(), beta)
    small = PreferenceGame.of(table, beta, masses)
    q, expected = equilibrium(small), CLASSES[beta]
    close(q.exp(), torch.tensor(expected[0], dtype=torch.float64), 6e-9)
    assert float(kl(q, masses.log())) == pytest.approx(expected[1], abs=6e-9)
    assert float(small.gap(masses.log())) == pytest.approx(expected[2], abs=6e-9)
    assert float(large.gap(large.log_reference)) == pytest.approx(expected[2], abs=6e-9)
    close(equilibrium(large).exp(), q.exp()[classes] * share)


def test_preferences_without_a_matrix_are_those_with_it() -> None:
    circles, classes = random_circles(30, planes=2, seed=0), torch.arange(30) % 4
    policy, mu = random_policies(5, 30, 1), cosine_reference(30)
    for preference in (circles, ClassPreference(cyclic_table(4, 0.8), classes)):
        table = preference(torch.eye(30, dtype=torch.float64)).mT
        matrix = MatrixPreference(table)
        close(preference(policy.exp()), matrix(policy.exp()), 1e-14)
        implicit, explicit = (PreferenceGame(p, mu.log(), 0.05) for p in (preference, matrix))
        close(equilibrium(implicit), equilibrium(explicit), 1e-11)


def test_a_large_implicit_game() -> None:
    n = 100_000
    log_mu = torch.full((n,), -math.log(n), dtype=torch.float64)
    game = PreferenceGame(random_circles(n, planes=4, seed=1), log_mu, 0.02)
    star = equilibrium(game)
    assert float(game.divergence_bound(star)) < 1e-24
    assert float(game.gap(star)) < 1e-24 < float(game.gap(log_mu))


def test_weak_regularisation_comes_near_the_von_neumann_winner() -> None:
    """Rock, paper, scissors with stakes 3, 3 and 1 has the winner (1, 3, 3) / 7."""
    game = PreferenceGame.of(perturbed_rock_paper_scissors(), 1e-3)
    star = equilibrium(game)
    close(star.exp(), torch.tensor([1.0, 3.0, 3.0], dtype=torch.float64) / 7.0, 5e-3)
    assert float(game.exploitability(star)) < 2e-3
