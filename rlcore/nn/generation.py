"""Texts from causal models: generation with a memory per model, mixtures token by token, and their log-probabilities.

    log pi(y | x) = sum over t of log pi(y_t | x, y_<t),   up to and with the end of text, or to the longest length

A prompt is padded on its left and a completion on its right. Texts that reach the longest length without an end are
outcomes like any other, so that the probabilities of all outcomes sum to 1.
Letters: N rows, P tokens of prompts, T of completions, V symbols.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from rlcore.checks import check_positive
from rlcore.data.texts import Completions
from rlcore.errors import ConfigError


class CausalModel(Protocol):
    """Next-token logits; what it has read lies in a memory of its own."""

    def start(self) -> Any:
        """An empty memory."""

    def read(self, tokens: Tensor, mask: Tensor, memory: Any = None, last: bool = False) -> Tensor:
        """Logits [B, L, V] after tokens [B, L]; mask [B, M + L] covers those in the memory, which grows.

        `last` asks for those after the last token alone, [B, 1, V].
        """


class Readout:
    """The policy softmax(logits / temperature) over the symbols that may be said.

    Sampled and scored alike, so that samples stay on policy at any temperature. `barred` symbols, such as padding, have
    probability 0.
    """

    def __init__(self, model: CausalModel, temperature: float = 1.0, barred: Sequence[int] = ()) -> None:
        check_positive("temperature", temperature)
        self.model, self.temperature, self.barred = model, temperature, list(barred)

    def start(self) -> Any:
        return self.model.start()

    def read(self, tokens: Tensor, mask: Tensor, memory: Any = None, last: bool = False) -> Tensor:
        logits = self.model.read(tokens, mask, memory, last) / self.temperature
        if not self.barred:
            return logits
        return logits.index_fill(-1, torch.tensor(self.barred, device=logits.device), -math.inf)


class TokenMixture:
    """pi(. | prefix)^(1 - a) mu(. | prefix)^a / Z(prefix): the geometric mixture of every next token.

    Not that of whole texts, whose normaliser does not depend on the prefix. Each of the two reads into its own memory.
    Source: Munos et al., "Nash learning from human feedback", ICML 2024, section 7.
    """

    def __init__(self, policy: CausalModel, reference: CausalModel, share: float) -> None:
        if not 0.0 <= share <= 1.0:
            raise ConfigError(f"the share of the reference in a mixture must lie in [0, 1], got {share}")
        self.policy, self.reference, self.share = policy, reference, share

    def start(self) -> tuple[Any, Any]:
        return self.policy.start(), self.reference.start()

    def read(self, tokens: Tensor, mask: Tensor, memory: Any = None, last: bool = False) -> Tensor:
        own, other = (None, None) if memory is None else memory
        policy = self.policy.read(tokens, mask, own, last)
        return mixed(policy, self.reference.read(tokens, mask, other, last), self.share)


class PartlyMixed:
    """`TokenMixture` for all rows but the first `own`, which are the policy's: both kinds of text in one batch.

    The policy is called once for each token, not once for its own texts and once for those of the mixture.
    """

    def __init__(self, policy: CausalModel, reference: CausalModel, share: float, own: int) -> None:
        self.policy, self.reference, self.share, self.own = policy, reference, share, own
        TokenMixture(policy, reference, share)  # refuses a bad share

    def start(self) -> tuple[Any, Any]:
        return self.policy.start(), self.reference.start()

    def read(self, tokens: Tensor, mask: Tensor, memory: Any = None, last: bool = False) -> Tensor:
        own, other = (None, None) if memory is None else memory
        policy = self.policy.read(tokens, mask, own, last)
        reference = self.reference.read(tokens[self.own :], mask[self.own :], other, last)
        return torch.cat([policy[: self.own], mixed(policy[self.own :], reference, self.share)])


def mixed(policy: Tensor, reference: Tensor, share: float) -> Tensor:
    """(1 - share) policy + share reference, where 0 times minus infinity is 0."""
    if share in (0.0, 1.0):
        return reference if share else policy
    return (1.0 - share) * policy + share * reference


class Symbols(NamedTuple):
    """The two symbols that generation has to know."""

    pad: int
    end: int


def draw(logits: Tensor, uniform: Tensor) -> Tensor:  # [N, V], [N] in [0, 1) -> [N]
    """The symbol at which the distribution function passes the uniform number; impossible ones are never drawn."""
    rising = torch.softmax(logits.double(), -1).cumsum(-1)
    found = torch.searchsorted(rising, (uniform.double().unsqueeze(1) * rising[:, -1:]), right=True).squeeze(1)
    return found.clamp(max=logits.shape[1] - 1)


@torch.no_grad()
def generate(
    model: CausalModel, prompt: Tensor, prompt_mask: Tensor, uniform: Tensor | None, length: int, symbols: Symbols
) -> Completions:  # [N, P], [N, P], [N, T]
    """One completion for each prompt, of at most `length` tokens; a row depends on its own uniform numbers only.

    `uniform` None takes the likeliest symbol. One call of the model for each token, each reading one token.
    """
    rows, memory = len(prompt), model.start()
    tokens = prompt.new_full((rows, length), symbols.pad)
    real = torch.zeros(rows, length, dtype=torch.bool, device=prompt.device)
    mask, alive = prompt_mask, torch.ones(rows, dtype=torch.bool, device=prompt.device)
    logits = model.read(prompt, mask, memory, True)
    for t in range(length):
        found = logits[:, -1].argmax(-1) if uniform is None else draw(logits[:, -1], uniform[:, t])
        tokens[:, t] = found = torch.where(alive, found, symbols.pad)
        real[:, t] = alive
        mask = torch.cat([mask, alive.unsqueeze(1)], 1)
        alive = alive & (found != symbols.end)
        if t + 1 == length or not bool(alive.any()):
            break
        logits = model.read(found.unsqueeze(1), mask, memory, True)
    return Completions(prompt, prompt_mask, tokens, real)


def token_logits(model: CausalModel, texts: Completions) -> Tensor:  # -> [N, T, V]
    """Logits before every token of the completions, by one pass over the whole texts."""
    known = texts.prompt.shape[1]
    tokens = torch.cat([texts.prompt, texts.tokens[:, :-1]], 1)
    mask = torch.cat([texts.prompt_mask, texts.mask[:, :-1]], 1)
    return model.read(tokens, mask)[:, known - 1 :]


@torch.no_grad()
def stepwise_logits(model: CausalModel, texts: Completions) -> Tensor:  # -> [N, T, V]
    """The same as generation sees them, token by token with the model's memory: what `token_logits` is held against."""
    memory, mask = model.start(), texts.prompt_mask
    found = [model.read(texts.prompt, mask, memory, True)]
    for t in range(texts.tokens.shape[1] - 1):
        mask = torch.cat([mask, texts.mask[:, t : t + 1]], 1)
        found.append(model.read(texts.tokens[:, t : t + 1], mask, memory, True))
    return torch.cat(found, 1)


def token_log_probs(model: CausalModel, texts: Completions) -> Tensor:  # -> [N, T]
    """log pi(y_t | x, y_<t) in single precision at least, zero on padding."""
    logits = token_logits(model, texts)
    wide = logits if logits.dtype == torch.float64 else logits.float()
    chosen = wide.gather(-1, texts.tokens.unsqueeze(-1)).squeeze(-1) - wide.logsumexp(-1)
    return torch.where(texts.mask, chosen, 0.0)


def text_log_probs(model: CausalModel, texts: Completions, rows: int | None = None) -> Tensor:  # -> [N]
    """log pi(y | x) of whole completions; `rows` at a time bounds the memory."""
    parts = [texts] if rows is None else [texts[k : k + rows] for k in range(0, len(texts.tokens), rows)]
    return torch.cat([token_log_probs(model, part).sum(-1) for part in parts])


def every_completion(
    prompt: Tensor, length: int, letters: Sequence[int], symbols: Symbols
) -> Completions:  # [P] -> n rows
    """All outcomes of generation from one prompt: texts that end, and those of the longest length that do not."""
    if length < 1 or symbols.end in letters or symbols.pad in letters or len(letters) ** length > 1 << 20:
        raise ConfigError(
            f"enumeration needs length >= 1, letters without pad and end, and at most 2^20 texts, got length {length} "
            f"and {len(letters)} letters"
        )
    found: list[Tensor] = []
    alphabet = torch.tensor(list(letters), device=prompt.device)
    for t in range(length + 1):
        words = torch.cartesian_prod(*[alphabet] * t).view(-1, t) if t else alphabet.new_zeros(1, 0)
        rest = words.new_full((len(words), length - t), symbols.pad)
        rest[:, :1] = symbols.end
        found.append(torch.cat([words, rest], 1))
    tokens = torch.cat(found)
    n = len(tokens)
    first_end = torch.where(tokens == symbols.end, 1, 0).cumsum(-1)
    mask = (first_end == 0) | ((first_end == 1) & (tokens == symbols.end))
    return Completions(prompt.expand(n, -1), torch.ones(n, len(prompt), dtype=torch.bool, device=prompt.device),
                       tokens, mask)  # fmt: skip
