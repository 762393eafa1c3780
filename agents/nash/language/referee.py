"""Who asks the judge: both orders of every pair, failures apart from answers, and answers that mean something."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rlcore.agents.nash.language.judges import Judge, Pairs, PairwiseJudge
from rlcore.data.texts import Completions, Tokeniser, texts_of
from rlcore.errors import ConfigError, DataError


@dataclass(frozen=True)
class Verdicts:
    """What the judge said of N pairs."""

    wins: Tensor  # [N] probability that the first is preferred, NaN where the judge failed
    queries: int
    """Pairs that were asked, each order for itself."""
    asymmetry: float
    """Mean |p(y, y') + p(y', y) - 1| over pairs asked in both orders: 0 for a judge that no place impresses."""


class Referee(ABC):
    """Judges candidates against their rivals; row i of both answers the same prompt."""

    @abstractmethod
    def __call__(self, prompts: Sequence[Mapping[str, Any]], first: Completions, second: Completions) -> Verdicts:
        """One verdict for each row; `prompts` are rows of the data set, with `prompt` as text."""


class TokenReferee(Referee):
    """A preference between tokens: function(first, second) -> [N] in [0, 1]; `hard` flips its coins."""

    def __init__(
        self, function: Callable[[Completions, Completions], Tensor], hard: torch.Generator | None = None
    ) -> None:
        self.function, self.hard = function, hard

    def __call__(self, prompts: Sequence[Mapping[str, Any]], first: Completions, second: Completions) -> Verdicts:
        wins = self.function(first, second)
        if self.hard is not None:
            wins = (torch.rand(wins.shape, generator=self.hard, dtype=wins.dtype).to(wins.device) < wins).to(wins)
        return Verdicts(wins, len(first), 0.0)


class TextReferee(Referee):
    """A judge of texts: p = (p(y, y') + 1 - p(y', y)) / 2. Two equal texts tie without being asked."""

    def __init__(self, judge: Judge, tokeniser: Tokeniser, *, both_orders: bool = True) -> None:
        """Without `both_orders` the judge is asked once, and told to shuffle by itself."""
        if not isinstance(judge, Judge):
            raise ConfigError(
                f"judge must be a PairwiseJudge, a SoftPairwiseJudge or an adapter such as RewardJudge, got a "
                f"{type(judge).__name__}; wrap a function in CallableJudge"
            )
        self.judge, self.tokeniser, self.both = judge, tokeniser, both_orders and not judge.symmetric

    def __call__(self, prompts: Sequence[Mapping[str, Any]], first: Completions, second: Completions) -> Verdicts:
        pairs = list(zip(texts_of(first, self.tokeniser), texts_of(second, self.tokeniser), strict=True))
        asked = [k for k, (y, other) in enumerate(pairs) if y != other]
        wins = [0.5] * len(pairs)
        if not asked:
            return Verdicts(torch.tensor(wins), 0, 0.0)
        rows, chosen = [prompts[k] for k in asked], [pairs[k] for k in asked]
        found, queries, off = self.ask(rows, chosen), len(asked), 0.0
        if self.both:
            mirrored = self.ask(rows, [(other, y) for y, other in chosen])
            apart = [abs(p + q - 1.0) for p, q in zip(found, mirrored, strict=True) if not math.isnan(p + q)]
            off = sum(apart) / max(len(apart), 1)
            found, queries = [0.5 * (p + 1.0 - q) for p, q in zip(found, mirrored, strict=True)], 2 * queries
        for k, p in zip(asked, found, strict=True):
            wins[k] = p
        if all(map(math.isnan, found)):
            raise DataError(f"the judge failed on all {len(asked)} pairs of a batch; look into its log, or use another")
        return Verdicts(torch.tensor(wins), queries, off)

    def ask(self, rows: Sequence[Mapping[str, Any]], pairs: Pairs) -> list[float]:
        """Probabilities that the first of each pair is preferred, NaN where the judge failed."""
        name = type(self.judge).__name__
        columns = {key: [row[key] for row in rows] for key in rows[0] if key != "prompt"}
        try:
            said = list(self.judge.judge([str(row["prompt"]) for row in rows], pairs, not self.both, columns))
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).partition("\n")[0]
            raise DataError(
                f"{name} raised on a batch of {len(pairs)} pairs: {reason}; -1 says that it failed"
            ) from error
        if len(said) != len(pairs):
            raise DataError(f"{name} must give one answer for each of {len(pairs)} pairs, got {len(said)}")
        hard = isinstance(self.judge, PairwiseJudge)
        allowed = "0, 1 or -1" if hard else "a probability, or -1"
        found = []
        for k, answer in enumerate(said):
            p = float(answer)
            if math.isnan(p) or p == -1.0:
                found.append(math.nan)
            elif 0.0 <= p <= 1.0 and (not hard or p in (0.0, 1.0)):
                found.append(1.0 - p if hard else p)
            else:
                raise DataError(f"{name} must answer {allowed}, got {answer!r} for pair {k}: {pairs[k]!r:.80}")
        return found
