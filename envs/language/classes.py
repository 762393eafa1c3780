"""Preferences by classes of texts, whose equilibrium is that of a game of a few classes.

    P(y > y') = M[c(y), c(y')],   class i beats i + 1 with 0.9, around a circle

with c(y) how often a letter occurs, mod 3, or the letter that a text ends with. If q* is the equilibrium of (M, m), m
the masses of the classes under mu, then pi*(y) = q*(c(y)) mu(y) / m(c(y)).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from rlcore.checks import check_positive
from rlcore.data.texts import Completions
from rlcore.errors import ConfigError
from rlcore.functional.games import ClassPreference, PreferenceGame

CLASSES = 3


def circle_of_classes(wins: float = 0.9, classes: int = CLASSES) -> Tensor:  # -> [classes, classes]
    """Each class beats the next around the circle with probability `wins`; the others tie."""
    if not 0.0 <= wins <= 1.0 or classes < 3:
        raise ConfigError(f"need wins in [0, 1] and at least 3 classes, got {wins} and {classes}")
    table = torch.full((classes, classes), 0.5, dtype=torch.float64)
    here = torch.arange(classes)
    table[here, (here + 1) % classes], table[(here + 1) % classes, here] = wins, 1.0 - wins
    return table


class ClassJudge(ABC):
    """The probability that one text is preferred to another, from their tokens."""

    table: Tensor
    """M [classes, classes]."""

    @abstractmethod
    def classes(self, texts: Completions) -> Tensor:  # -> [N]
        """c(y)."""

    def __call__(self, first: Completions, second: Completions) -> Tensor:  # -> [N]
        return self.table.to(first.tokens.device)[self.classes(first), self.classes(second)]

    def masses(self, texts: Completions, weight: Tensor | None = None) -> Tensor:  # [N], [N] -> [classes]
        """Shares of the classes, by counting, or by the probabilities of enumerated texts."""
        each = torch.full((len(texts),), 1.0 / len(texts)) if weight is None else weight
        found = torch.zeros(len(self.table), dtype=torch.float64, device=each.device)
        return found.index_add_(0, self.classes(texts), each.double())


class CountJudge(ClassJudge):
    """c(y) = (how often a letter occurs) mod 3: a policy has to count in order to choose its class."""

    def __init__(self, letter: int, table: Tensor | None = None) -> None:
        """`letter` is the symbol that is counted."""
        self.letter, self.table = letter, circle_of_classes() if table is None else table

    def classes(self, texts: Completions) -> Tensor:
        return ((texts.tokens == self.letter) & texts.mask).sum(-1) % len(self.table)


class LastLetterJudge(ClassJudge):
    """c(y) = the letter that a text ends with, the prompt's if it is empty."""

    def __init__(self, letters: Sequence[int], end: int, wins: float = 0.9) -> None:
        """As many classes as letters; `end` is the symbol that ends a text."""
        self.letters, self.end, self.table = torch.tensor(list(letters)), end, circle_of_classes(wins, len(letters))

    def classes(self, texts: Completions) -> Tensor:
        whole = torch.cat([texts.prompt[:, -1:], texts.tokens], 1)
        said = torch.cat([torch.ones_like(texts.mask[:, :1]), texts.mask & (texts.tokens != self.end)], 1)
        last = whole.gather(1, said.sum(-1, keepdim=True) - 1)  # [N, 1]
        return (last == self.letters.to(last.device)).long().argmax(-1)


def class_game(judge: ClassJudge, texts: Completions, log_reference: Tensor, beta: float) -> PreferenceGame:
    """The game over all texts of one prompt, enumerated, with their log-probabilities [n]; they must sum to 1."""
    check_positive("beta", beta)
    return PreferenceGame(ClassPreference(judge.table, judge.classes(texts)), log_reference.double(), beta)
