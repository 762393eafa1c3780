"""Judges of pairs of texts: hard ones name the winner, soft ones give the probability that the first is preferred.

A judge sees prompts and pairs of completions and answers for each pair: 0 or 1, the place of the winner, or a number in
[0, 1]; -1 or NaN say that it failed on that pair. `Referee` asks it, in both orders, and checks what it says.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from rlcore.checks import check_positive
from rlcore.errors import ConfigError

Pairs = Sequence[tuple[str, str]]
Columns = Mapping[str, Sequence[Any]]
"""Further columns of the data set, one value for each prompt."""
Reward = Callable[..., Sequence[float]]
"""f(prompts, completions, **columns) -> one number for each completion."""


class Judge(ABC):
    """What both kinds share."""

    symmetric: bool = False
    """Whether the order of a pair cannot matter, so that one order is enough."""

    @abstractmethod
    def judge(
        self, prompts: Sequence[str], completions: Pairs, shuffle_order: bool = True, columns: Columns | None = None
    ) -> Sequence[float]:
        """One answer for each pair. `shuffle_order` asks a judge that prefers a place to draw the order by itself."""


class PairwiseJudge(Judge):
    """Answers 0 if the first completion wins, 1 if the second does, -1 if it failed."""


class SoftPairwiseJudge(Judge):
    """Answers the probability that the first completion is preferred, NaN or -1 if it failed."""


class CallableJudge(SoftPairwiseJudge):
    """A function of (prompt, first, second) that gives the probability that the first is preferred."""

    def __init__(self, function: Callable[[str, str, str], float], *, symmetric: bool = False) -> None:
        """`symmetric` promises f(x, y, y') = 1 - f(x, y', y)."""
        self.function, self.symmetric = function, symmetric

    def judge(
        self, prompts: Sequence[str], completions: Pairs, shuffle_order: bool = True, columns: Columns | None = None
    ) -> list[float]:
        return [float(self.function(x, *pair)) for x, pair in zip(prompts, completions, strict=True)]


class RewardJudge(SoftPairwiseJudge):
    """sigma((r(y) - r(y')) / scale), r the weighted sum of reward functions: transitive by construction."""

    symmetric = True

    def __init__(
        self, functions: Reward | Sequence[Reward], weights: Sequence[float] | None = None, scale: float = 1.0
    ) -> None:
        self.functions = [functions] if callable(functions) else list(functions)
        self.weights = [1.0] * len(self.functions) if weights is None else list(weights)
        check_positive("scale", scale)
        self.scale = scale
        if not self.functions or len(self.weights) != len(self.functions):
            raise ConfigError(f"need a weight for each reward, got {len(self.functions)} and {len(self.weights)}")

    def rewards(self, prompts: Sequence[str], texts: Sequence[str], columns: Columns) -> list[float]:
        """The weighted sum for each text."""
        total = [0.0] * len(texts)
        for function, weight in zip(self.functions, self.weights, strict=True):
            found = list(function(prompts=list(prompts), completions=list(texts), **columns))
            if len(found) != len(texts):
                raise ConfigError(f"a reward function gave {len(found)} numbers for {len(texts)} completions")
            total = [t + weight * float(r) for t, r in zip(total, found, strict=True)]
        return total

    def judge(
        self, prompts: Sequence[str], completions: Pairs, shuffle_order: bool = True, columns: Columns | None = None
    ) -> list[float]:
        given = columns or {}
        first, second = (self.rewards(prompts, [pair[k] for pair in completions], given) for k in range(2))
        return [sigmoid((a - b) / self.scale) for a, b in zip(first, second, strict=True)]


class RankJudge(SoftPairwiseJudge):
    """A function of (prompt, completions) that gives their ranks, 0 the best; equal ranks are a tie."""

    def __init__(self, ranks: Callable[[str, Sequence[str]], Sequence[int]]) -> None:
        self.ranks = ranks

    def judge(
        self, prompts: Sequence[str], completions: Pairs, shuffle_order: bool = True, columns: Columns | None = None
    ) -> list[float]:
        found = []
        for prompt, pair in zip(prompts, completions, strict=True):
            first, second = self.ranks(prompt, list(pair))
            found.append(0.5 if first == second else float(first < second))
        return found


class ClassifierJudge(SoftPairwiseJudge):
    """A sequence-pair classifier of Hugging Face that reads (prompt + first, prompt + second).

    One label: sigma(logit) is the probability of the first. More: the softmax's share of `first_label`.
    """

    def __init__(self, model: Any, tokeniser: Any, *, first_label: int = 0, rows: int = 64) -> None:
        """`rows` pairs are read at a time."""
        self.model, self.tokeniser, self.first_label, self.rows = model.eval(), tokeniser, first_label, rows

    @torch.no_grad()
    def judge(
        self, prompts: Sequence[str], completions: Pairs, shuffle_order: bool = True, columns: Columns | None = None
    ) -> list[float]:
        found: list[float] = []
        for k in range(0, len(prompts), self.rows):
            both = list(zip(prompts[k : k + self.rows], completions[k : k + self.rows], strict=True))
            texts = [[x + pair[side] for x, pair in both] for side in range(2)]
            encoded = self.tokeniser(*texts, padding=True, truncation=True, return_tensors="pt")
            device = next(self.model.parameters()).device
            logits = self.model(**{name: value.to(device) for name, value in encoded.items()}).logits.float()
            chance = logits[:, 0].sigmoid() if logits.shape[1] == 1 else logits.softmax(-1)[:, self.first_label]
            found += chance.tolist()
        return found


def sigmoid(x: float) -> float:
    """1 / (1 + e^-x)."""
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0.0 else math.exp(x) / (1.0 + math.exp(x))
