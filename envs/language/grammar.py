"""A synthetic language: letters that follow one another as a Markov chain, and texts that end at random."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlcore.checks import check_integer
from rlcore.data.texts import Completions, Vocabulary
from rlcore.errors import ConfigError

ALPHABET = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class GrammarConfig:
    """Which language."""

    letters: int = 3
    """Letters, the first ones of the alphabet."""
    longest: int = 5
    """Letters of a completion at most; a text that reaches it has no end."""
    ends: float = 0.2
    """Probability to end before each further letter, in [0, 1)."""
    spread: float = 1.0
    """Standard deviation of the logits of the next letter, in nats."""
    seed: int = 0
    """Of the logits."""


class Grammar:
    """P(end) = ends, P(next letter | last) = (1 - ends) softmax(spread z[last]), from the prompt's last letter on.

    The prompts are the single letters. All probabilities and the entropy are known.
    """

    def __init__(self, config: GrammarConfig = GrammarConfig()) -> None:
        check_integer("letters, longest", config.letters, config.longest)
        if not (2 <= config.letters <= len(ALPHABET) and config.longest >= 1 and 0.0 <= config.ends < 1.0):
            raise ConfigError(f"need 2 to 26 letters, longest >= 1 and 0 <= ends < 1, got {config}")
        self.config, self.vocabulary = config, Vocabulary(ALPHABET[: config.letters])
        z = torch.randn(config.letters, config.letters, dtype=torch.float64,
                        generator=torch.Generator().manual_seed(config.seed))  # fmt: skip
        letters = (1.0 - config.ends) * torch.softmax(config.spread * z, -1)
        end = torch.full((config.letters, 1), config.ends, dtype=torch.float64)
        nothing = torch.zeros(config.letters, 1, dtype=torch.float64)
        self.table = torch.cat([nothing, end, letters], 1)  # [letters, V]: pad, end, letters
        self.prompts = list(self.vocabulary.characters)

    def sample(self, prompt: Tensor, generator: torch.Generator) -> Completions:  # [N] symbols -> N rows
        """Texts of the language after prompts of one letter."""
        n, length, words = len(prompt), self.config.longest, self.vocabulary
        tokens = torch.full((n, length), words.pad)
        mask, last, alive = torch.zeros(n, length, dtype=torch.bool), prompt, torch.ones(n, dtype=torch.bool)
        for t in range(length):
            chance = self.table[(last - 2).clamp(min=0)]
            found = torch.multinomial(chance, 1, generator=generator).squeeze(1)
            tokens[:, t] = last = torch.where(alive, found, words.pad)
            mask[:, t] = alive
            alive = alive & (found != words.end)
        return Completions(prompt.unsqueeze(1), torch.ones(n, 1, dtype=torch.bool), tokens, mask)

    def log_probs(self, texts: Completions) -> Tensor:  # -> [N]
        """log P(text | prompt)."""
        before = torch.cat([texts.prompt[:, -1:], texts.tokens[:, :-1]], 1)
        chance = self.table[(before - 2).clamp(min=0)].gather(-1, texts.tokens.unsqueeze(-1)).squeeze(-1)
        return torch.where(texts.mask, chance, 1.0).log().sum(-1)

    def entropy(self) -> Tensor:  # -> [letters]
        """Of the completions of each prompt, in nats: H_t(last) = H(next) + sum over letters P(next) H_{t-1}(next)."""
        own = torch.special.entr(self.table).sum(-1)
        total = torch.zeros_like(own)
        for _ in range(self.config.longest):
            total = own + self.table[:, 2:] @ total
        return total
