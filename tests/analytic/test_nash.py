"""Nash Mirror Prox and its rivals on tables: identities, rates, published figures, and controls that must fail."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from rlcore.agents.nash import (
    Comal,
    Egpo,
    Inpo,
    Iterate,
    Method,
    MixtureOpponent,
    Mmd,
    MovingAnchor,
    Mpo,
    MultiplicativeWeights,
    NashMd,
    NashMp,
    NashProx,
    OnlineIpo,
    OptimisticWeights,
    begin,
    follow,
    iterations_to,
    least_weight,
    queries_to,
    solve,
)
from rlcore.envs.games.tables import (
    cosine_reference,
    cyclic_table,
    perturbed_rock_paper_scissors,
    random_circles,
    random_policies,
    random_tables,
    sine_table,
)
from rlcore.functional.divergence import kl
from rlcore.functional.games import MatrixPreference, PreferenceGame, equilibrium

GAMES, N = 60, 8
TABLES = {"SIN": sine_table, "CYC": cyclic_table}


def random_games(beta: float, seed: int = 0) -> PreferenceGame:
    return PreferenceGame(MatrixPreference(random_tables(GAMES, N, seed)), random_policies(GAMES, N, seed + 1), beta)


def known(name: str, n: int, beta: float) -> PreferenceGame:
    return PreferenceGame.of(TABLES[name](n), beta, cosine_reference(n))


def close(a: Tensor, b: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("beta", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("method", [NashMp(), NashMp(None), NashMp(0.8), NashProx(0.05), NashProx(2.0)])
def test_bound_holds_from_any_policy(method: NashMp | NashProx, beta: float) -> None:
    """KL(pi* | .) falls by lambda / (beta + lambda) at least, in every game and from every policy."""
    game = random_games(beta)
    star, start = equilibrium(game), random_policies(GAMES, N, 9, spread=2.0)
    weight = least_weight(beta) if method.weight is None else method.weight
    before = kl(star, start)
    after = kl(star, method.step(game, Iterate(start, start)).log_policy)
    assert bool((after <= weight / (beta + weight) * before * (1.0 + 1e-9)).all())


@pytest.mark.parametrize("beta", [0.05, 0.5])
def test_one_step_identity(beta: float) -> None:
    game, weight = random_games(beta), 0.5
    star, last = equilibrium(game), random_policies(GAMES, N, 3)
    half = game.proximal(game.payoffs(last), last, weight)
    full = game.proximal(game.payoffs(half), last, weight)
    cross = ((game.payoffs(half) - game.payoffs(last)) * (full.exp() - half.exp())).sum(-1)
    right = (
        weight * kl(star, last)
        - beta * kl(half, star)
        + cross
        - weight * kl(half, last)
        - (beta + weight) * kl(full, half)
    )
    close((beta + weight) * kl(star, full), right, 1e-11)
    close(NashMp(weight).step(game, Iterate(last, last)).log_policy, full, 1e-13)


@pytest.mark.parametrize("weight", [0.1, 0.5])
def test_identity_of_the_proximal_point(weight: float) -> None:
    game = random_games(0.1)
    star, last = equilibrium(game), random_policies(GAMES, N, 3)
    after = NashProx(weight).step(game, Iterate(last, last)).log_policy
    close(after, game.proximal(game.payoffs(after), last, weight), 1e-11)
    right = weight * kl(star, last) - game.beta * kl(after, star) - weight * kl(after, last)
    close((game.beta + weight) * kl(star, after), right, 1e-11)


def test_small_steps_of_mirror_prox_are_proximal_points() -> None:
    """The extrapolation misses the implicit opponent by second order in 1 / lambda, hence the step by third."""
    game = random_games(0.1)
    last = random_policies(GAMES, N, 3)
    apart = [
        (NashMp(w).step(game, Iterate(last, last)).log_policy - NashProx(w).step(game, Iterate(last, last)).log_policy)
        .abs()
        .max()
        .item()
        for w in (10.0, 20.0, 40.0)
    ]
    assert [math.log2(a / b) for a, b in pairwise(apart)] == pytest.approx([3.0, 3.0], abs=0.1)


def states(method: Method, game: PreferenceGame, steps: int) -> Tensor:
    at, found = begin(game), []
    for _ in range(steps):
        at = method.step(game, at)
        found.append(at.log_policy)
    return torch.stack(found)


def test_equivalent_methods_walk_the_same_way() -> None:
    game = random_games(0.1)
    close(states(Egpo(1.0 / 0.6), game, 50), states(NashMp(0.5), game, 50), 1e-12)
    close(states(Inpo(0.1 + 1.0 / 0.3), game, 50), states(Mmd(0.3), game, 50), 1e-12)
    close(states(Comal(7), game, 50), states(Mpo(7), game, 50), 1e-11)
    close(states(MultiplicativeWeights(0.2), game, 20), states(NashMd(0.2), replace(game, beta=1e-15), 20), 1e-10)


def test_online_ipo_is_self_play_policy_gradient() -> None:
    game = random_games(0.2)
    logits = random_policies(GAMES, N, 4).requires_grad_()
    log_pi = torch.log_softmax(logits, -1)
    ratio = log_pi - game.log_reference
    h = ratio.unsqueeze(-1) - ratio.unsqueeze(-2)
    assert isinstance(game.preference, MatrixPreference)
    error = (h - (game.preference.table - 0.5) / game.beta).square()
    pairs = (log_pi.unsqueeze(-1) + log_pi.unsqueeze(-2)).exp().detach()
    (gradient,) = torch.autograd.grad((pairs * error).sum(), logits, retain_graph=True)
    (uphill,) = torch.autograd.grad(game.value(log_pi, log_pi.detach()).sum(), logits)
    close(gradient, -4.0 / game.beta * uphill, 1e-12)
    last = logits.detach()
    stepped = OnlineIpo(0.3).step(game, Iterate(last, last)).log_policy
    close(stepped, torch.log_softmax(last - 0.3 * gradient, -1), 1e-12)


KL = {  # game, beta, n: KL(pi* | pi_k) at k = 0, 5, 10, 25
    ("CYC", 0.01, 10): (6.293778e-2, 2.0849e-2, 9.9269e-3, 3.4465e-3),
    ("CYC", 0.1, 3): (1.349219e-1, 7.3338e-3, 3.0606e-4, 2.2374e-8),
    ("CYC", 1.0, 100): (1.247581e-6, 1.8892e-11, 3.0662e-16, None),
    ("SIN", 0.1, 100): (1.831998e-2, 9.9991e-4, 5.3409e-5, 8.1288e-9),
    ("SIN", 1.0, 3): (1.265435e-2, 1.5169e-7, 1.8150e-12, None),
}


@pytest.mark.parametrize("key", KL)
def test_published_divergences(key: tuple[str, float, int]) -> None:
    name, beta, n = key
    game = known(name, n, beta)
    star = equilibrium(game)
    _, seen = follow(game, NashMp(), 50, lambda at: kl(star, at.log_policy))
    for k, expected in zip((0, 5, 10, 25), KL[key], strict=True):
        if expected is not None:
            assert float(seen[k]) == pytest.approx(expected, rel=1e-4)
    bound = seen[0] * (1.0 + 2.0 * beta) ** -torch.arange(len(seen), dtype=torch.float64)
    assert bool((seen <= bound * (1.0 + 1e-12)).all())


def predicted_slope(game: PreferenceGame, weight: float) -> float:
    """ln KL per query near the equilibrium, from the eigenvalues i omega of the linearised game."""
    star = equilibrium(game).exp()
    assert isinstance(game.preference, MatrixPreference)
    root = star.sqrt()
    away = torch.eye(len(star), dtype=torch.float64) - torch.outer(root, root)
    skew = away @ (root.unsqueeze(1) * (game.preference.table - 0.5) * root) @ away
    values = torch.linalg.eigvals(skew)
    vectors = values[values.abs() > 1e-9] if len(star) == 3 else values  # of three, one is the direction of root
    total = float(game.beta) + weight
    factor = (weight + vectors * (weight + vectors) / total) / total
    return math.log(float(factor.abs().max()))


@pytest.mark.parametrize("name", TABLES)
def test_slope_is_that_of_the_linearised_game(name: str) -> None:
    game = known(name, 3, 0.1)
    star = equilibrium(game)
    spent, seen = follow(game, NashMp(), 400, lambda at: kl(star, at.log_policy), until=lambda d: bool(d < 1e-22))
    low = np.array([(q, math.log(d)) for q, d in zip(spent, seen.tolist(), strict=True) if 1e-22 < d < 1e-13])
    fitted = np.polyfit(low[:, 0], low[:, 1], 1)[0]
    assert fitted == pytest.approx(predicted_slope(game, 0.5), rel=5e-3)
    assert fitted == pytest.approx({"CYC": -0.31745, "SIN": -0.26038}[name], rel=0.01)


def test_queries_do_not_grow_with_the_number_of_actions() -> None:
    counts = []
    for n in (50, 200):
        game = PreferenceGame(MatrixPreference(random_tables(1, n, 0)[0]), random_policies(1, n, 1)[0], 0.1)
        star = equilibrium(game)
        start = float(kl(star, game.log_reference))
        counts.append(queries_to(game, NashMp(), lambda p, s=star: kl(s, p), (1e-10 * start,), 1000)[0][0])
    assert max(counts) <= 1.25 * min(counts)  # type: ignore[type-var, operator]


def test_iterations_that_always_suffice() -> None:
    for beta in (0.03, 0.3):
        game, star = random_games(beta), equilibrium(random_games(beta))
        steps = iterations_to(1e-8, beta)
        reached = kl(star, states(NashMp(), game, steps)[-1])
        assert float(reached.max()) <= 1e-8


def test_solve_certifies_each_game(monkeypatch: pytest.MonkeyPatch) -> None:
    game = random_games(0.1)
    star = equilibrium(game)
    monkeypatch.setattr("rlcore.agents.nash.method.CACHE", 7 * N * N * 8)  # several blocks, the last of them smaller
    found = solve(game, NashMp(None), 1e-10)
    assert bool((found.bound <= 1e-10).all())
    assert bool((kl(star, found.log_policy) + kl(found.log_policy, star) <= found.bound * (1.0 + 1e-6)).all())
    alone = solve(game.select(slice(3, 4)), NashMp(None), 1e-10)
    assert float(kl(star[3], alone.log_policy[0])) <= 1e-10
    assert solve(game, MultiplicativeWeights(), 1e-10, limit=200).bound.max() > 1e-3  # says so when it has not arrived


def test_solve_on_several_threads_is_solve_on_one(monkeypatch: pytest.MonkeyPatch) -> None:
    game, threads = random_games(0.2), torch.get_num_threads()
    monkeypatch.setattr("rlcore.agents.nash.method.CACHE", 7 * N * N * 8)
    try:
        found = []
        for count in (1, 3):
            torch.set_num_threads(count)
            found.append(solve(game, NashMp(None), 1e-12))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0].log_policy, found[1].log_policy)
    assert torch.equal(found[0].bound, found[1].bound)


def test_one_table_for_many_references() -> None:
    """Games that share their matrix are one product, in whatever blocks; each comes to its own equilibrium."""
    game = PreferenceGame(MatrixPreference(sine_table(12)), random_policies(2000, 12, 3), 0.1)
    found = solve(game, NashMp(None), 1e-10)
    some = [0, 999, 1999]
    few = PreferenceGame(game.preference, game.log_reference[some], 0.1)
    assert float(kl(equilibrium(few), found.log_policy[some]).max()) <= 1e-10


@pytest.mark.parametrize("beta", [0.2, torch.tensor([[0.2]]).double(), torch.full((30, 1), 0.2).double()])
@pytest.mark.parametrize("tables", [1, 30])
def test_blocks_of_games_that_share_something(
    monkeypatch: pytest.MonkeyPatch, beta: float | Tensor, tables: int
) -> None:
    monkeypatch.setattr("rlcore.agents.nash.method.CACHE", 7 * N * N * 8)
    game = PreferenceGame(MatrixPreference(random_tables(tables, N, 0)), random_policies(30, N, 1), beta)
    assert float(kl(equilibrium(game), solve(game, NashMp(None)).log_policy).max()) <= 1e-10


def test_solve_looks_soon_after_it_is_done() -> None:
    """With a small beta the fall quickens late: what it foretold early must not send solve far beyond."""
    game = PreferenceGame.of(random_tables(1, 2, 5)[0], 1e-2, random_policies(1, 2, 6)[0].exp())
    needed, _ = queries_to(game, NashMp(None), game.divergence_bound, (1e-10,), 20_000)
    assert needed[0] is not None
    assert solve(game, NashMp(None), 1e-10).queries < 1.5 * needed[0]


def test_solve_without_a_matrix() -> None:
    n = 20_000
    game = PreferenceGame(random_circles(n, 3, 0), torch.full((n,), -math.log(n), dtype=torch.float64), 0.05)
    found = solve(game, NashMp())
    assert float(found.bound) <= 1e-10
    assert float(kl(equilibrium(game), found.log_policy)) <= 1e-10


@pytest.mark.parametrize("method", [Mpo(25), Comal(25), OptimisticWeights(1.0)])
def test_unregularised_rivals_find_the_von_neumann_winner(method: Method) -> None:
    game = PreferenceGame.of(perturbed_rock_paper_scissors(), 0.3, cosine_reference(3))
    last = states(method, game, 1500)[-1]
    assert float(game.exploitability(last)) < 1e-3 * float(game.exploitability(game.log_reference))
    close(last.exp(), torch.tensor([1.0, 3.0, 3.0], dtype=torch.float64) / 7.0, 5e-3)


def test_moving_anchor_has_the_equilibrium_as_its_fixed_point() -> None:
    game = known("SIN", 10, 0.1)
    star = equilibrium(game)
    for averaging, slope in ((1.0, -0.1605), (0.3, -0.0712)):
        spent, seen = follow(
            game, MovingAnchor(averaging), 4000, lambda at: kl(star, at.log_policy), until=lambda d: bool(d < 1e-18)
        )
        low = np.array([(q, math.log(d)) for q, d in zip(spent, seen.tolist(), strict=True) if 1e-18 < d < 1e-10])
        assert np.polyfit(low[:, 0], low[:, 1], 1)[0] == pytest.approx(slope, rel=0.03)


BIAS = {0.125: 0.0060, 0.25: 0.0282, 0.5: 0.1487, 1.0: 1.150}


@pytest.mark.parametrize("mixture", BIAS)
def test_control_mixture_opponents_are_biased(mixture: float) -> None:
    """Negative control: a mixture of 1/2 must miss the equilibrium by exactly this much."""
    game = known("SIN", 10, 0.1)
    limit = states(MixtureOpponent(mixture, rate=0.3), game, 800)[-1]
    opponent = torch.log_softmax((1.0 - mixture) * limit + mixture * game.log_reference, -1)
    close(game.respond(game.payoffs(opponent)), limit, 1e-6)  # it has arrived, where its own equation holds
    expected = BIAS[mixture]
    assert float(kl(equilibrium(game), limit)) == pytest.approx(expected, abs=6e-5 if expected < 1.0 else 6e-4)


def test_control_multiplicative_weights_cycle() -> None:
    """Negative control: the last iterate moves away, and the average comes closer."""
    game = known("SIN", 10, 0.1)
    path = states(MultiplicativeWeights(0.2), game, 1500).exp()
    winner = equilibrium(replace(game, beta=1e-2))
    from_last = game.exploitability(path[-500:].log())
    from_average = game.exploitability(path.mean(0).log())
    assert float(from_last.max()) > 10.0 * float(from_average)
    assert float(kl(winner, path[-1].log())) > float(kl(winner, game.log_reference))
