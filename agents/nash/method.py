"""What the tabular methods share: an iterate, a step, and drivers that count queries.

A query is one evaluation of P pi for a policy: the price of a method, whatever its steps look like.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from rlcore.checks import check_integer, check_positive
from rlcore.errors import ConfigError
from rlcore.functional.games import PreferenceGame

CACHE = 1 << 20
"""Bytes of preferences that `solve` works on at a time, so that they stay in the cache of a core."""
SHARE = 0.75
"""Of the queries that the fall of the bound foretells, before `solve` looks again; at most a third of those spent."""


class Iterate(NamedTuple):
    """Where a method stands: log-policies [..., n], and what it is anchored at, if it has such a thing."""

    log_policy: Tensor
    anchor: Tensor
    step: int = 0
    queries: int = 0


class Method(Protocol):
    """A rule that leads from one iterate to the next."""

    def step(self, game: PreferenceGame, at: Iterate) -> Iterate: ...


def begin(game: PreferenceGame) -> Iterate:
    """pi_0 = mu, the start of every method; one row per game."""
    start = game.log_reference.expand_as(game.payoffs(game.log_reference)).contiguous()
    return Iterate(start, start)


def mirror_step(
    policy: Tensor, reference: Tensor, payoffs: Tensor, keep: float | Tensor, pull: float | Tensor, rate: float | Tensor
) -> Tensor:  # [..., n] -> [..., n]
    """log of pi^keep mu^pull exp(rate payoffs) / Z: in this form every method of this package takes its steps."""
    return torch.log_softmax(keep * policy + pull * reference + rate * payoffs, -1)


@torch.no_grad()
def follow(
    game: PreferenceGame,
    method: Method,
    queries: int,
    watch: Callable[[Iterate], Tensor],
    *,
    until: Callable[[Tensor], bool] = lambda watched: False,
) -> tuple[list[int], Tensor]:
    """Queries spent and what `watch` says, from mu on after every step: [k + 1] and [k + 1, ...].

    Ends when the next step would exceed `queries`, or when `until` is satisfied with what was watched.
    """
    check_integer("queries", queries)
    at = begin(game)
    spent, seen = [0], [watch(at)]
    while not until(seen[-1]):
        following = method.step(game, at)
        if following.queries > queries:
            break
        at = following
        spent.append(at.queries)
        seen.append(watch(at))
    return spent, torch.stack(seen)


def queries_to(
    game: PreferenceGame, method: Method, measure: Callable[[Tensor], Tensor], levels: Sequence[float], limit: int
) -> tuple[list[int | None], float]:
    """Queries after which measure(log_policy) first is at most each level, None if not within `limit`; its last value.

    `measure` gives one number, such as the divergence to a known equilibrium.
    """
    lowest = min(levels)
    spent, seen = follow(game, method, limit, lambda at: measure(at.log_policy), until=lambda d: bool(d <= lowest))
    values = seen.tolist()
    found = [next((q for q, v in zip(spent, values, strict=True) if v <= level), None) for level in levels]
    return found, values[-1]


@dataclass(frozen=True)
class Solution:
    """Policies, and how far each can be from its equilibrium."""

    log_policy: Tensor  # [..., n]
    bound: Tensor  # [...] at least KL(pi* | pi) + KL(pi | pi*)
    queries: int
    """Spent on the slowest game, those of the bound included."""


def solve(
    game: PreferenceGame, method: Method, tolerance: float = 1e-10, *, limit: int = 100_000, every: int = 8
) -> Solution:
    """Go on until every game is certified to be within `tolerance` of its equilibrium, or `limit` queries are spent.

    The certificate needs no equilibrium (`PreferenceGame.divergence_bound`) and costs a query, at least `every` queries
    apart. Games side by side are taken in blocks whose matrices fit a core's cache, each until it is done, by as many
    threads as torch has; on a GPU all at once.
    """
    check_positive("tolerance", tolerance)
    check_integer("limit, every", limit, every)
    if min(limit, every) < 1:
        raise ConfigError(f"limit and every must be at least 1, got {limit} and {every}")
    log_mu = game.log_reference
    if log_mu.dim() != 2 or log_mu.device.type != "cpu":
        return solve_together(game, method, tolerance, limit, every)
    block = max(1, CACHE // max(game.preference.bytes_per_game, log_mu.shape[1] * log_mu.element_size()))
    parts = [slice(low, low + block) for low in range(0, len(log_mu), block)]

    def part(games: slice) -> Solution:
        return solve_together(game.select(games), method, tolerance, limit, every)

    found = in_threads(part, parts)
    policies, bounds = torch.cat([p.log_policy for p in found]), torch.cat([p.bound for p in found])
    return Solution(policies, bounds, max(p.queries for p in found))


def in_threads(work: Callable[[slice], Solution], parts: Sequence[slice]) -> list[Solution]:
    """The work on every part, on as many Python threads as torch may use, each of which then uses one."""
    threads = torch.get_num_threads()
    if min(threads, len(parts)) < 2:
        return [work(part) for part in parts]
    try:
        with ThreadPoolExecutor(min(threads, len(parts)), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(work, parts))
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
def solve_together(game: PreferenceGame, method: Method, tolerance: float, limit: int, every: int) -> Solution:
    """All games of one block, as long as the slowest of them needs."""
    at, looks, due = begin(game), 0, every
    before, before_at = math.inf, 0
    while True:
        while at.queries < min(due, limit):
            at = method.step(game, at)
        bound = game.divergence_bound(at.log_policy)
        looks, worst = looks + 1, float(bound.max())
        if at.queries >= limit or not worst > tolerance:
            return Solution(at.log_policy, bound, at.queries + looks)
        ahead = 0.0
        if worst < before < math.inf:
            ahead = math.log(worst / tolerance) / math.log(before / worst) * (at.queries - before_at)
        due = at.queries + max(every, int(min(SHARE * ahead, at.queries / 3)))
        before, before_at = worst, at.queries
