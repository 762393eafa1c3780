"""All sequences of at most T letters as one tree: policies over tokens and over whole sequences, into each other.

Every prefix is a sequence too, the one that ends there. Both are numbered alike, level by level: the empty one is 0,
and prefix p followed by letter a is p V + 1 + a. Letters: V letters, T the longest length, N sequences, I prefixes that
can go on (those shorter than T), V + 1 tokens: the letters and, last, the end. A sequence of T letters ends by itself.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlcore.checks import check_integer
from rlcore.errors import ConfigError

MOST = 1 << 20
"""Sequences that may be enumerated."""


class SequenceTree:
    """The sequences of up to `length` out of `letters` letters."""

    def __init__(self, letters: int, length: int) -> None:
        check_integer("letters, length", letters, length)
        if letters < 1 or length < 1:
            raise ConfigError(f"need letters >= 1 and length >= 1, got {letters} and {length}")
        levels, first = [0, 1], 1
        for _ in range(length):
            first *= letters
            levels.append(levels[-1] + first)
            if levels[-1] > MOST:
                raise ConfigError(
                    f"{letters} letters up to length {length} make more than {MOST} sequences; take fewer of either"
                )
        self.letters, self.length = letters, length
        self.levels = levels  # the sequences of k letters are levels[k] .. levels[k + 1] - 1
        self.count, self.inner, self.tokens = levels[-1], levels[-2], letters + 1

    def spelled(self) -> Tensor:  # -> [N, T]
        """The letters of every sequence, -1 beyond its end."""
        found = torch.full((self.count, self.length), -1)
        for k in range(1, self.length + 1):
            here = torch.arange(self.levels[k], self.levels[k + 1])
            parent = (here - 1) // self.letters
            found[here] = found[parent]
            found[here, k - 1] = (here - 1) % self.letters
        return found

    def one_hot(self) -> Tensor:  # -> [N, T V] in float32
        """What a network sees of each prefix: one 1 for every letter in its place."""
        spelled = self.spelled()
        return (spelled.unsqueeze(-1) == torch.arange(self.letters)).flatten(1).float()

    def numbered(self, one_hot: Tensor) -> Tensor:  # [..., T V] -> [...]
        """Which prefix this is, as an integer: the inverse of `one_hot`."""
        letters = one_hot.reshape(*one_hot.shape[:-1], self.length, self.letters)
        place = torch.zeros(one_hot.shape[:-1], dtype=torch.long, device=one_hot.device)
        for here in letters.unbind(-2):
            place = torch.where(here.sum(-1) > 0.0, place * self.letters + 1 + here.argmax(-1), place)
        return place

    def sequences(self, log_tokens: Tensor) -> Tensor:  # [..., I, V + 1] -> [..., N]
        """log pi(y), the sum of log pi(token | prefix) along y; normalised tokens make it normalised."""
        reached = [log_tokens.new_zeros(*log_tokens.shape[:-2], 1)]
        for k in range(self.length):
            onward = log_tokens[..., self.levels[k] : self.levels[k + 1], :-1]
            reached.append((reached[k].unsqueeze(-1) + onward).flatten(-2))
        ends = torch.cat([log_tokens[..., -1], torch.zeros_like(reached[-1])], -1)
        return torch.cat(reached, -1) + ends

    def conditionals(self, log_sequences: Tensor) -> Tensor:  # [..., N] -> [..., I, V + 1]
        """log pi(token | prefix) of a policy over sequences: the mass below a child, as a share of its prefix's."""
        ends = [log_sequences[..., low:high] for low, high in zip(self.levels, self.levels[1:], strict=False)]
        below, found = ends[-1], []
        for k in range(self.length - 1, -1, -1):
            children = below.reshape(*below.shape[:-1], -1, self.letters)
            joint = torch.cat([children, ends[k].unsqueeze(-1)], -1)
            below = joint.logsumexp(-1)
            found.append(joint - below.unsqueeze(-1))
        return torch.cat(found[::-1], -2)
