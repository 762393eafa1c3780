"""Texts as tensors: prompts padded on the left, completions padded on the right, and a vocabulary of letters.

Letters: N texts, P tokens of prompts, T tokens of completions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol

import torch
from torch import Tensor

from rlcore.data.batches import TensorBatch
from rlcore.errors import DataError, ShapeError


class Tokeniser(Protocol):
    """Text to numbers and back."""

    pad: int
    """The symbol that fills rows up."""
    end: int
    """The symbol that ends a text."""

    def encode(self, text: str) -> list[int]:
        """Symbols of a text, without an end."""

    def decode(self, symbols: Sequence[int]) -> str:
        """The text of symbols, without padding and end."""


class Vocabulary:
    """One symbol for each character: padding 0, end of text 1, and the characters from 2 on.

    >>> Vocabulary("abc").encode("cab")
    [4, 2, 3]
    """

    pad, end = 0, 1

    def __init__(self, characters: str) -> None:
        if not characters or len(set(characters)) != len(characters):
            raise DataError(f"a vocabulary needs characters that differ, got {characters!r}")
        self.characters = characters
        self.number = {character: 2 + k for k, character in enumerate(characters)}

    def __len__(self) -> int:
        return 2 + len(self.characters)

    @property
    def letters(self) -> list[int]:
        """The symbols of the characters."""
        return list(range(2, len(self)))

    def encode(self, text: str) -> list[int]:
        """Symbols of a text, without an end."""
        unknown = sorted(set(text) - set(self.characters))
        if unknown:
            raise DataError(f"text has {unknown[0]!r}, which is none of {self.characters!r}; add it to the vocabulary")
        return [self.number[character] for character in text]

    def decode(self, symbols: Sequence[int]) -> str:
        """The text of symbols, without padding and end."""
        return "".join(self.characters[s - 2] for s in symbols if s >= 2)


@dataclass(frozen=True)
class Completions(TensorBatch):
    """Prompts with a completion each."""

    prompt: Tensor  # [N, P] padded on the left
    prompt_mask: Tensor  # bool [N, P] true where a token is real
    tokens: Tensor  # [N, T] padded on the right
    mask: Tensor  # bool [N, T] true up to the end of text, with it

    def __post_init__(self) -> None:
        if self.prompt.shape != self.prompt_mask.shape or self.tokens.shape != self.mask.shape:
            raise ShapeError(
                f"masks must have the shapes of prompts {list(self.prompt.shape)} and tokens {list(self.tokens.shape)},"
                f" got {list(self.prompt_mask.shape)} and {list(self.mask.shape)}"
            )

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: Tensor | slice) -> Completions:
        return self.map(lambda x: x[index])

    def trimmed(self) -> Completions:
        """Without the columns that are padding in every row."""
        first, longest = int(self.prompt_mask.any(0).long().argmax()), max(1, int(self.mask.sum(-1).max()))
        return Completions(self.prompt[:, first:], self.prompt_mask[:, first:],
                           self.tokens[:, :longest], self.mask[:, :longest])  # fmt: skip


@dataclass(frozen=True)
class JudgedTexts:
    """Candidates of N prompts, K for each, and the text of an opponent that all K were judged against."""

    candidates: Completions  # [N K], those of a prompt side by side
    rivals: Completions  # [N]
    wins: Tensor  # [N, K] probability, or 0 or 1, that a candidate is preferred; NaN where the judge failed
    queries: int = 0
    """Questions to the judge."""
    asymmetry: float = 0.0
    """How far the judge's answers to both orders of a pair are from agreement."""

    def __len__(self) -> int:
        return len(self.wins)

    def __getitem__(self, rows: Tensor) -> JudgedTexts:
        """Some of the prompts, by number."""
        each = self.wins.shape[1]
        every = (rows.unsqueeze(1) * each + torch.arange(each, device=rows.device)).flatten()
        return replace(self, candidates=self.candidates[every], rivals=self.rivals[rows], wins=self.wins[rows])


def joined(first: Completions, second: Completions) -> Completions:
    """The rows of both."""
    return Completions(*(torch.cat([getattr(first, f.name), getattr(second, f.name)]) for f in fields(Completions)))


def pad_left(rows: Sequence[Sequence[int]], pad: int, longest: int | None = None) -> tuple[Tensor, Tensor]:
    """Prompts as tokens and mask [N, P]; of a prompt beyond `longest` tokens the last ones are kept."""
    kept = [list(row) if longest is None else list(row)[-longest:] for row in rows]
    if not kept or not all(kept):
        raise DataError("a prompt needs at least one token, got an empty one; begin it with some symbol")
    width = max(map(len, kept))
    tokens = torch.tensor([[pad] * (width - len(row)) + row for row in kept])
    mask = torch.tensor([[False] * (width - len(row)) + [True] * len(row) for row in kept])
    return tokens, mask


def pad_right(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Completions as tokens and mask [N, T]."""
    width = max(1, *map(len, rows))
    tokens = torch.tensor([list(row) + [pad] * (width - len(row)) for row in rows])
    mask = torch.tensor([[True] * len(row) + [False] * (width - len(row)) for row in rows])
    return tokens, mask


def texts_of(texts: Completions, tokeniser: Tokeniser) -> list[str]:
    """The completions as strings."""
    return [
        tokeniser.decode([s for s, real in zip(row, kept, strict=True) if real])
        for row, kept in zip(texts.tokens.tolist(), texts.mask.tolist(), strict=True)
    ]
