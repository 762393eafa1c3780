"""Preferences between actions: a matrix, or one of low rank or by classes that is never formed.

    P[i, j] = probability that action i is preferred to action j,   P + P^T = 1,   P = 1/2 + W J W^T,

with features W [n, r] of the actions and a skew core J [r, r]. All that a game asks for is P pi, and, for its exact
equilibrium, what the r moments W^T pi do to each other. For a matrix W is the identity and r = n.
Letters: n actions, r features; leading dimensions [...] are games side by side.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

import torch
from torch import Tensor

from rlcore.checks import check_finite
from rlcore.errors import ConfigError, ShapeError

SYMMETRY = 1e-5
"""How far P + P^T may be from 1: float32 tables pass, and a judge that prefers a position does not."""
LOOKED_AT = 1 << 20
"""Entries of a table that are checked at once, so that a check needs no second table."""


class Preference(ABC):
    """Who wins against whom, known by its products with policies."""

    actions: int
    dtype: torch.dtype
    """Of the policies that it is asked about."""
    games: tuple[int, ...] = ()
    """Leading dimensions: games side by side, each with a preference of its own; () if one serves all."""
    bytes_per_game: int = 0
    """What each of the games side by side reads for a query that the others do not."""

    def __call__(self, policy: Tensor) -> Tensor:  # [..., n] -> [..., n]
        """P pi: the probability of each action to win against the policy."""
        return 0.5 + self.lift(self.reduce(policy))

    @abstractmethod
    def reduce(self, policy: Tensor) -> Tensor:  # [..., n] -> [..., r]
        """The moments W^T pi."""

    @abstractmethod
    def lift(self, moments: Tensor) -> Tensor:  # [..., r] -> [..., n]
        """W J z, the payoffs of opponents whose moments are z, less 1/2."""

    @abstractmethod
    def sensitivity(self, policy: Tensor) -> Tensor:  # [..., n] -> [..., r, r]
        """W^T (diag pi - pi pi^T) W J: how the moments of a softmax policy answer the moments of its opponent."""

    @abstractmethod
    def chance(self, game: Tensor, first: Tensor, second: Tensor) -> Tensor:  # [N], [N, K], [N, K] -> [N, K]
        """P[first, second] of single pairs; `game` says in which of the games side by side, if there are some."""

    @abstractmethod
    def select(self, games: slice) -> Self:
        """Some of the games that lie side by side."""


class MatrixPreference(Preference):
    """P itself, [..., n, n]; one table may serve policies [..., n] side by side."""

    def __init__(self, table: Tensor, *, check: bool = True) -> None:
        if check:
            check_table(table)
        self.table = table
        self.actions, self.dtype, self.games = table.shape[-1], table.dtype, tuple(table.shape[:-2])
        self.bytes_per_game = table.element_size() * self.actions**2 if several(self.games) else 0

    def __call__(self, policy: Tensor) -> Tensor:
        if self.table.dim() == 2:
            return policy @ self.table.mT
        return 1.0 - self.against(policy)

    def against(self, policy: Tensor) -> Tensor:  # [..., n] -> [..., n]
        """pi^T P = 1 - P pi: rows from the left, in the order in which they lie, is the quickest of all products."""
        row = policy.unsqueeze(-2)
        if row.dim() == 3 and row.shape[0] == self.table.shape[0]:
            return torch.bmm(row, self.table).squeeze(-2)
        return (row @ self.table).squeeze(-2)

    def reduce(self, policy: Tensor) -> Tensor:
        return policy

    def lift(self, moments: Tensor) -> Tensor:
        half = 0.5 * moments.sum(-1, keepdim=True)
        return moments @ self.table.mT - half if self.table.dim() == 2 else half - self.against(moments)

    def sensitivity(self, policy: Tensor) -> Tensor:
        centred = self.table - (policy.unsqueeze(-2) @ self.table)  # the 1/2 of P cancels between the two
        return policy.unsqueeze(-1) * centred

    def chance(self, game: Tensor, first: Tensor, second: Tensor) -> Tensor:
        return self.table[first, second] if self.table.dim() == 2 else self.table[game.unsqueeze(-1), first, second]

    def select(self, games: slice) -> MatrixPreference:
        return MatrixPreference(self.table[games], check=False) if several(self.games) else self


class LowRankPreference(Preference):
    """P = 1/2 + F S^T - S F^T with F, S [..., n, r / 2]: rank r beside the 1/2, in memory O(n r).

    An action that is strong in the k-th column of F beats those that are strong in the k-th of S: each pair of columns
    is a plane in which the actions beat each other in a circle.
    """

    def __init__(self, first: Tensor, second: Tensor) -> None:
        if first.shape != second.shape or first.dim() < 2:
            raise ShapeError(
                f"first and second must both be [..., n, r], got {list(first.shape)} and {list(second.shape)}"
            )
        check_finite("first", first)
        check_finite("second", second)
        largest = float((first.square() + second.square()).sum(-1).max())
        if largest > 0.5 + SYMMETRY:  # |F_i . S_j - S_i . F_j| <= |(F, S)_i| |(F, S)_j|
            raise ConfigError(
                f"|first|^2 + |second|^2 must be at most 1/2 for every action, so that P stays in [0, 1], "
                f"got {largest:.4g}; multiply both by {(0.5 / largest) ** 0.5:.4g}"
            )
        self.first, self.second = first, second
        self.actions, self.dtype, self.games = first.shape[-2], first.dtype, tuple(first.shape[:-2])
        self.bytes_per_game = 2 * first.element_size() * first[0].numel() if several(self.games) else 0

    def reduce(self, policy: Tensor) -> Tensor:
        return torch.cat([times(policy, self.first), times(policy, self.second)], -1)

    def lift(self, moments: Tensor) -> Tensor:
        first, second = moments.chunk(2, -1)
        return times(second, self.first.mT) - times(first, self.second.mT)

    def sensitivity(self, policy: Tensor) -> Tensor:
        features = torch.cat([self.first, self.second], -1)  # [..., n, r]
        mean = self.reduce(policy)
        covariance = features.mT @ (policy.unsqueeze(-1) * features) - mean.unsqueeze(-1) * mean.unsqueeze(-2)
        first, second = covariance.chunk(2, -1)
        return torch.cat([-second, first], -1)

    def chance(self, game: Tensor, first: Tensor, second: Tensor) -> Tensor:
        def of(features: Tensor, actions: Tensor) -> Tensor:  # -> [N, K, r / 2]
            return features[actions] if features.dim() == 2 else features[game.unsqueeze(-1), actions]

        wins = of(self.first, first) * of(self.second, second) - of(self.second, first) * of(self.first, second)
        return 0.5 + wins.sum(-1)

    def select(self, games: slice) -> LowRankPreference:
        return LowRankPreference(self.first[games], self.second[games]) if several(self.games) else self


class ClassPreference(Preference):
    """P[i, j] = table[c(i), c(j)]: only the classes of the actions count; table [r, r], classes [n] in 0 .. r - 1."""

    def __init__(self, table: Tensor, classes: Tensor) -> None:
        check_table(table)
        if table.dim() != 2 or classes.dim() != 1 or classes.is_floating_point():
            raise ShapeError(
                f"need a table [r, r] and whole classes [n], got {list(table.shape)} and {list(classes.shape)}, "
                f"{classes.dtype}"
            )
        if int(classes.min()) < 0 or int(classes.max()) >= len(table):
            raise ConfigError(f"classes must lie in 0 .. {len(table) - 1}, got {classes.min()} .. {classes.max()}")
        self.table, self.classes = table, classes
        self.core = table - 0.5
        self.actions, self.dtype = len(classes), table.dtype

    def reduce(self, policy: Tensor) -> Tensor:
        masses = policy.new_zeros(*policy.shape[:-1], len(self.table))
        return masses.index_add_(-1, self.classes, policy)

    def lift(self, moments: Tensor) -> Tensor:
        return (moments @ self.core.mT)[..., self.classes]

    def sensitivity(self, policy: Tensor) -> Tensor:
        masses = self.reduce(policy)
        return masses.unsqueeze(-1) * (self.core - masses.unsqueeze(-2) @ self.core)

    def chance(self, game: Tensor, first: Tensor, second: Tensor) -> Tensor:
        return self.table[self.classes[first], self.classes[second]]

    def select(self, games: slice) -> ClassPreference:
        return self


def several(games: tuple[int, ...]) -> bool:
    """Whether there is a preference for each game, rather than one for all."""
    return bool(games) and games[0] > 1


def times(row: Tensor, matrix: Tensor) -> Tensor:  # [..., n], [..., n, r] -> [..., r]
    """row @ matrix for every game; one matrix may serve many rows."""
    return row @ matrix if matrix.dim() == 2 else (row.unsqueeze(-2) @ matrix).squeeze(-2)


def check_table(table: Tensor) -> None:
    """Raise unless these are preferences [..., n, n] with P + P^T = 1 in [0, 1]."""
    if table.dim() < 2 or table.shape[-1] != table.shape[-2] or not table.is_floating_point():
        raise ShapeError(f"preferences must be [..., n, n] in floating point, got {list(table.shape)}, {table.dtype}")
    check_finite("preferences", table)
    rows = max(1, LOOKED_AT * table.shape[-1] // max(1, table.numel()))
    for low in range(0, table.shape[-1], rows):
        off = (table[..., low : low + rows, :] + table[..., low : low + rows].mT - 1.0).abs()
        if float(off.max()) > SYMMETRY:
            *_, i, j = torch.nonzero(off == off.max())[0].tolist()
            raise ConfigError(
                f"preferences need P + P^T = 1, got a sum that is off by {float(off.max()):.3g} for actions {low + i} "
                f"and {j}; symmetrise with (P + 1 - P^T) / 2"
            )
    least, most = float(table.min()), float(table.max())
    if least < -SYMMETRY or most > 1.0 + SYMMETRY:
        raise ConfigError(f"preferences must be probabilities in [0, 1], got values from {least:.4g} to {most:.4g}")
