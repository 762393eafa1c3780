"""What the tabular methods share: an iterate, a step, and drivers that count queries.

A query is one evaluation of P pi for a policy: the price of a method, whatever its steps look like.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from rlcore.checks import check_integer, check_positive
from rlcore.errors import ConfigError
from rlcore.functional.games import PreferenceGame

CACHE = 1 << 20
"""Bytes of preferences that `solve` works on at a time, so that they stay in the cache of a core."""


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


@torch.no_grad()
def solve(
    game: PreferenceGame, method: Method, tolerance: float = 1e-10, *, limit: int = 100_000, every: int = 8
) -> Solution:
    """Go on until every game is certified to be within `tolerance` of its equilibrium, or `limit` queries are spent.

    The certificate needs no equilibrium (`PreferenceGame.divergence_bound`) and costs one query every `every` of them.
    Games side by side are taken in blocks whose matrices fit a core's cache, each until it is done.
    """
    check_positive("tolerance", tolerance)
    check_integer("limit, every", limit, every)
    if min(limit, every) < 1:
        raise ConfigError(f"limit and every must be at least 1, got {limit} and {every}")
    if game.log_reference.dim() != 2:
        return solve_together(game, method, tolerance, limit, every)
    bytes_each = game.preference.actions**2 * game.log_reference.element_size()
    block = max(1, CACHE * torch.get_num_threads() // bytes_each)
    parts = [
        solve_together(game.select(slice(low, low + block)), method, tolerance, limit, every)
        for low in range(0, len(game.log_reference), block)
    ]
    policies, bounds = torch.cat([p.log_policy for p in parts]), torch.cat([p.bound for p in parts])
    return Solution(policies, bounds, max(p.queries for p in parts))


def solve_together(game: PreferenceGame, method: Method, tolerance: float, limit: int, every: int) -> Solution:
    """All games of one block, as long as the slowest of them needs."""
    at, looks, due = begin(game), 0, every
    while True:
        while at.queries < due:
            at = method.step(game, at)
        bound = game.divergence_bound(at.log_policy)
        looks += 1
        if at.queries >= limit or not bool((bound > tolerance).any()):
            return Solution(at.log_policy, bound, at.queries + looks)
        due = at.queries + every
