"""Tables: divergences and slopes to the digit, bounds, identities, queries beside the rivals."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from rlcore.agents.nash import (
    Egpo,
    Iterate,
    MixtureOpponent,
    MovingAnchor,
    MultiplicativeWeights,
    NashMp,
    NashProx,
    begin,
    follow,
    queries_to,
)
from rlcore.envs.games.tables import perturbed_rock_paper_scissors, random_policies, random_tables
from rlcore.experiments.acceptance.nash.figures import (
    KL,
    LEVELS,
    LIMIT,
    QUERIES,
    Key,
    known_game,
    path,
    rivals,
    slope_per_query,
)
from rlcore.functional.divergence import kl
from rlcore.functional.games import MatrixPreference, PreferenceGame, equilibrium
from rlcore.reporting.acceptance import Measurement, at_least, at_most, each_within, row

SYSTEM = "nash"


def divergence_to(star: Tensor) -> Callable[[Tensor], Tensor]:
    """KL(pi* | pi) as a function of log pi."""
    return lambda log_policy: kl(star, log_policy)


@lru_cache
def known_path(key: Key) -> tuple[list[int], Tensor]:
    """Nash-MP with lambda = 1/2 on one of the games of the table."""
    name, beta, n = key
    return path(known_game(name, beta, n), NashMp(), 4000)


SMALL, LARGE = [[key for key in KL if (key[2] > 100) is large] for large in (False, True)]


def worst_divergence(keys: list[Key]) -> float:
    """The largest relative difference of KL after 0, 5, 10 and 25 iterations to the table."""
    worst = 0.0
    for key in keys:
        seen = known_path(key)[1]
        for k, value in zip((0, 5, 10, 25), KL[key][:4], strict=True):
            worst = worst if value is None else max(worst, abs(float(seen[k]) / value - 1.0))
    return worst


def worst_slope(keys: list[Key]) -> float:
    """The largest relative difference of slopes to the table."""
    return max(abs(slope_per_query(*known_path(key)) / KL[key][4] - 1.0) for key in keys)


def worst_bound(keys: list[Key]) -> float:
    """The largest KL_k / ((1 + 2 beta)^-k KL_0), k >= 1."""
    worst = 0.0
    for key in keys:
        seen = known_path(key)[1]
        bound = seen[0] * (1.0 + 2.0 * key[1]) ** -torch.arange(len(seen), dtype=torch.float64)
        worst = max(worst, float((seen[1:] / bound[1:]).max()))
    return worst


@row(SYSTEM, "tabular-kl", "Nash-MP on 18 games: KL after 0, 5, 10 and 25 iterations, 66 figures", "4 digits")
def tabular_kl() -> Measurement:
    return at_most(worst_divergence(SMALL), 1e-4)


@row(SYSTEM, "tabular-slopes", "Nash-MP on 18 games: slope of ln KL per query, relative to the table's", "1 %")
def tabular_slopes() -> Measurement:
    return at_most(worst_slope(SMALL), 0.01)


@row(SYSTEM, "tabular-bound", "KL <= (1 + 2 beta)^-k KL_0 at every k of 18 games", "largest ratio <= 1")
def tabular_bound() -> Measurement:
    return at_most(worst_bound(SMALL), 1.0)


@row(SYSTEM, "tabular-kl-1000", "the same figures of 6 games of 1000 actions", "4 digits", slow=True)
def tabular_kl_large() -> Measurement:
    return at_most(worst_divergence(LARGE), 1e-4)


@row(SYSTEM, "tabular-slopes-1000", "the same slopes of 6 games of 1000 actions", "1 %", slow=True)
def tabular_slopes_large() -> Measurement:
    return at_most(worst_slope(LARGE), 0.01)


@row(SYSTEM, "tabular-bound-1000", "the same bound in 6 games of 1000 actions", "largest ratio <= 1", slow=True)
def tabular_bound_large() -> Measurement:
    return at_most(worst_bound(LARGE), 1.0)


def random_games(beta: float, games: int = 500, n: int = 10) -> tuple[PreferenceGame, Tensor]:
    """Random games, and a policy for each that nobody chose."""
    tables, mu = random_tables(games, n, 0), random_policies(games, n, 1)
    return PreferenceGame(MatrixPreference(tables), mu, beta), random_policies(games, n, 2, spread=2.0)


@row(SYSTEM, "one-step", "the bound of one step from any policy, 3 x 500 games, lambda 1/2 and least", "ratio <= 1")
def one_step() -> Measurement:
    worst = 0.0
    for beta in (0.01, 0.1, 1.0):
        game, start = random_games(beta)
        star = equilibrium(game)
        for method, factor in (
            (NashMp(), 1.0 / (1.0 + 2.0 * beta)),
            (NashMp(None), (math.sqrt(1.0 + beta**2) - beta) ** 2),
            (NashProx(0.5), 1.0 / (1.0 + 2.0 * beta)),
        ):
            after = kl(star, method.step(game, Iterate(start, start)).log_policy)
            worst = max(worst, float((after / (factor * kl(star, start))).max()))
    return at_most(worst, 1.0)


@row(SYSTEM, "one-step-identity", "the identity of one step of mirror prox, 500 games, relative", "1e-9")
def one_step_identity() -> Measurement:
    game, last = random_games(0.1)
    star, weight, beta = equilibrium(game), 0.5, 0.1
    half = game.proximal(game.payoffs(last), last, weight)
    full = NashMp(weight).step(game, Iterate(last, last)).log_policy
    cross = ((game.payoffs(half) - game.payoffs(last)) * (full.exp() - half.exp())).sum(-1)
    right = weight * kl(star, last) - beta * kl(half, star) + cross
    right = right - weight * kl(half, last) - (beta + weight) * kl(full, half)
    left = (beta + weight) * kl(star, full)
    return at_most(float(((left - right) / left).abs().max()), 1e-9)


@row(SYSTEM, "published-qre", "logit equilibrium of perturbed rock, paper, scissors at beta 0.1 (ssokota/mmd)", "1e-8")
def published_qre() -> Measurement:
    found = equilibrium(PreferenceGame.of(perturbed_rock_paper_scissors(), 0.1)).exp()
    published = torch.tensor([0.17347803, 0.48630324, 0.34021873], dtype=torch.float64)
    return at_most(float((found - published).abs().max()), 1e-8)


@row(SYSTEM, "rivals-queries", "queries to KL 1e-4, 1e-8, 1e-16 of six methods on five games", "± 2", slow=True)
def rivals_queries() -> Measurement:
    worst, wrong = 0, []
    for (name, beta), table in QUERIES.items():
        game = known_game(name, beta, 10)
        star = equilibrium(game)
        for method, expected in table.items():
            found, _ = queries_to(game, rivals(beta)[method], divergence_to(star), LEVELS, LIMIT)
            for got, wanted in zip(found, expected, strict=True):
                if (got is None) != (wanted is None):
                    wrong.append(f"{method} on {name} at {beta}: {got} instead of {wanted}")
                elif got is not None and wanted is not None:
                    worst = max(worst, abs(got - wanted))
    return Measurement("<= 2 apart", "; ".join(wrong) or float(worst), not wrong and worst <= 2)


@row(SYSTEM, "rivals-egpo", "Nash-MP with lambda 1/2 is EGPO with 1 / (beta + 1/2): log-policies, 60 steps", "1e-12")
def rivals_egpo() -> Measurement:
    game, _ = random_games(0.1, games=50)
    ours, theirs, worst = begin(game), begin(game), 0.0
    for _ in range(60):
        ours, theirs = NashMp().step(game, ours), Egpo(1.0 / 0.6).step(game, theirs)
        worst = max(worst, float((ours.log_policy - theirs.log_policy).abs().max()))
    return at_most(worst, 1e-12)


@row(SYSTEM, "n-independence", "queries to 1e-10 KL_0 on random games, n = 1000 beside 100, beta 0.1", "25 %")
def n_independence() -> Measurement:
    counts = []
    for n in (100, 1000):
        game = PreferenceGame(MatrixPreference(random_tables(1, n, 0)[0]), random_policies(1, n, 1)[0], 0.1)
        star = equilibrium(game)
        level = 1e-10 * float(kl(star, game.log_reference))
        found, _ = queries_to(game, NashMp(), divergence_to(star), (level,), 4000)
        counts.append(found[0] or 4000)
    return at_most(max(counts) / min(counts), 1.25)


def saved(beta: float) -> float:
    """The smallest share of queries that the least weight saves, over both games, to 1e-16."""
    shares = []
    for name in ("SIN", "CYC"):
        game = known_game(name, beta, 10)
        star = equilibrium(game)
        half, least = (
            queries_to(game, NashMp(weight), divergence_to(star), (1e-16,), LIMIT)[0][0] or LIMIT
            for weight in (0.5, None)
        )
        shares.append(1.0 - least / half)
    return min(shares)


@row(SYSTEM, "least-weight-0.1", "queries that the least proved lambda saves beside 1/2, beta 0.1", ">= 8 %")
def least_weight_small() -> Measurement:
    return at_least(saved(0.1), 0.08)


@row(SYSTEM, "least-weight-1", "queries that the least proved lambda saves beside 1/2, beta 1", ">= 30 %")
def least_weight_large() -> Measurement:
    return at_least(saved(1.0), 0.30)


@row(SYSTEM, "gap", "gap: closed form, decomposition, doubled by the duality gap; 500 games", "1e-10")
def gap() -> Measurement:
    game, policy = random_games(0.1)
    star, best = equilibrium(game), game.best_response(policy)
    found = game.gap(policy)
    soft = 0.1 * torch.logsumexp(game.log_reference + game.payoffs(policy) / 0.1, -1)
    off = [
        found - (soft + 0.1 * kl(policy, game.log_reference) - 0.5),
        found - 0.1 * (kl(policy, star) + kl(star, best)),
        2.0 * found - (game.value(best, policy) - game.value(policy, best)),
    ]
    return at_most(max(float(part.abs().max()) for part in off), 1e-10)


@row(
    SYSTEM, "certificate", "the bound without pi* >= KL both ways, near the equilibrium and far; 3 x 500 games", "<= 1"
)
def certificate() -> Measurement:
    worst = 0.0
    for beta in (0.01, 0.1, 1.0):
        game, policy = random_games(beta)
        star = equilibrium(game)
        for share in (1.0, 0.1, 1e-3):
            near = torch.log_softmax((1.0 - share) * star + share * policy, -1)
            worst = max(worst, float(((kl(star, near) + kl(near, star)) / game.divergence_bound(near)).max()))
    return at_most(worst, 1.0)


@row(SYSTEM, "openspiel", "exploitability beside OpenSpiel's on 20 games of 10 actions", "1e-12", needs="pyspiel")
def openspiel() -> Measurement:
    import numpy as np
    import pyspiel
    from open_spiel.python import policy as policies
    from open_spiel.python.algorithms import exploitability

    tables, logs, off = random_tables(20, 10, 0), random_policies(20, 10, 1), 0.0
    for table, log_policy in zip(tables, logs, strict=True):
        payoff = (table - 0.5).numpy()
        game = pyspiel.convert_to_turn_based(pyspiel.create_matrix_game(payoff, -payoff))
        both = policies.TabularPolicy(game)
        both.action_probability_array[:] = np.asarray(log_policy.exp())
        ours = PreferenceGame.of(table, 0.1).exploitability(log_policy)
        off = max(off, abs(float(ours) - exploitability.exploitability(game, both)))
    return at_most(off, 1e-12)


@row(SYSTEM, "moving-anchor", "single loop on SIN(10), beta 0.1: its own slopes at kappa 0.1, 0.03, 0.01", "± 0.0005")
def moving_anchor() -> Measurement:
    game = known_game("SIN", 0.1, 10)
    slopes = [slope_per_query(*path(game, MovingAnchor(kappa), 20_000)) for kappa in (0.1, 0.03, 0.01)]
    return each_within(slopes, (-0.029, -0.0096, -0.0033), (5e-4, 5e-4, 5e-4))


@row(
    SYSTEM,
    "control-mixture",
    "a mixture opponent stops at its biased limit: SIN(10), beta 0.1, a 1/8 to 1",
    "2 %",
)
def control_mixture() -> Measurement:
    game = known_game("SIN", 0.1, 10)
    star, found = equilibrium(game), []
    for mixture in (0.125, 0.25, 0.5, 1.0):
        _, seen = follow(game, MixtureOpponent(mixture, 0.3), 800, lambda at: kl(star, at.log_policy))
        found.append(float(seen[-1]))
    expected = (0.0060, 0.0282, 0.1487, 1.150)
    return each_within(found, expected, [0.02 * value for value in expected])


@row(SYSTEM, "control-cycle", "multiplicative weights cycle: KL(pi* | pi) after 4000 queries, SIN(10), beta 0.1", "2 %")
def control_cycle() -> Measurement:
    game = known_game("SIN", 0.1, 10)
    star = equilibrium(game)
    _, seen = follow(game, MultiplicativeWeights(0.1), 4000, lambda at: kl(star, at.log_policy))
    found = float(seen[-1])
    return Measurement(2.05, found, abs(found / 2.05 - 1.0) <= 0.02)
