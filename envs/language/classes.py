"""Preferences by classes of texts, whose equilibrium is that of a game of a few classes.

    P(y > y') = M[c(y), c(y')],   c(y) = (how often the first letter occurs) mod 3,   class i beats i + 1 with 0.9

If q* is the equilibrium of (M, m), m the masses of the classes under mu, then pi*(y) = q*(c(y)) mu(y) / m(c(y)).
"""

from __future__ import annotations

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


class ClassJudge:
    """The probability that one text is preferred to another, from their tokens."""

    def __init__(self, letter: int, table: Tensor | None = None) -> None:
        """`letter` is the symbol that is counted."""
        self.letter, self.table = letter, circle_of_classes() if table is None else table

    def classes(self, texts: Completions) -> Tensor:  # -> [N]
        """c(y)."""
        return ((texts.tokens == self.letter) & texts.mask).sum(-1) % len(self.table)

    def __call__(self, first: Completions, second: Completions) -> Tensor:  # -> [N]
        return self.table.to(first.tokens.device)[self.classes(first), self.classes(second)]

    def masses(self, texts: Completions) -> Tensor:  # -> [classes]
        """Shares of the classes, by counting."""
        return torch.bincount(self.classes(texts), minlength=len(self.table)).double() / len(texts)


def class_game(judge: ClassJudge, texts: Completions, log_reference: Tensor, beta: float) -> PreferenceGame:
    """The game over all texts of one prompt, enumerated, with their log-probabilities [n]; they must sum to 1."""
    check_positive("beta", beta)
    return PreferenceGame(ClassPreference(judge.table, judge.classes(texts)), log_reference.double(), beta)
