"""Prompts, texts of the policy and its opponent, and what the judge says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rlcore.agents.nash.language.agent import NashLanguage
from rlcore.agents.nash.language.referee import Referee, Verdicts
from rlcore.checks import check_integer
from rlcore.data.texts import Completions, JudgedTexts, pad_left
from rlcore.errors import ConfigError, DataError
from rlcore.nn.generation import CausalModel, generate
from rlcore.simulation.policy import Policy
from rlcore.training.sources import Source


class Prompts:
    """Rows of a data set with `prompt` as text, and their tokens."""

    def __init__(
        self, rows: Sequence[Mapping[str, Any]], tokens: Sequence[Sequence[int]], pad: int, longest: int | None = None
    ) -> None:
        if not rows or len(rows) != len(tokens):
            raise DataError(f"need at least one prompt and tokens of each, got {len(rows)} and {len(tokens)}")
        self.rows, self.tokens, self.pad, self.longest = rows, tokens, pad, longest

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, numbers: Sequence[int]) -> tuple[list[Mapping[str, Any]], Tensor, Tensor]:
        """Rows, tokens and mask of some prompts."""
        return [self.rows[k] for k in numbers], *pad_left([self.tokens[k] for k in numbers], self.pad, self.longest)


class TextDuels(Source[JudgedTexts]):
    """Batches of `rows` prompts, each once in every pass over the data; one question to the judge is one step."""

    def __init__(
        self,
        prompts: Prompts,
        referee: Referee,
        rows: int,
        *,
        generator: torch.Generator,
        device: str | torch.device = "cpu",
    ) -> None:
        check_integer("rows", rows)
        if rows < 1:
            raise ConfigError(f"need at least one prompt in a batch, got {rows}")
        self.prompts, self.referee, self.rows, self.generator = prompts, referee, rows, generator
        self.device = torch.device(device)
        self.waiting: list[int] = []  # prompts that this pass has still to see

    def next(self, policy: Policy) -> JudgedTexts:
        if not isinstance(policy, NashLanguage):
            raise ConfigError(f"duels of texts need a NashLanguage agent, got a {type(policy).__name__}")
        while len(self.waiting) < self.rows:
            self.waiting += torch.randperm(len(self.prompts), generator=self.generator).tolist()
        numbers, self.waiting = self.waiting[: self.rows], self.waiting[self.rows :]
        rows, prompt, mask = self.prompts.take(numbers)
        prompt, mask = prompt.to(self.device), mask.to(self.device)
        each = policy.config.candidates
        many = [x.repeat_interleave(each, 0) for x in (prompt, mask)]
        both = policy.together(len(many[0]))
        if both is None:
            candidates = self.write(policy, policy.candidate(), many[0], many[1])
            rivals = self.write(policy, policy.opponent(), prompt, mask)
        else:
            texts = self.write(policy, both, torch.cat([many[0], prompt]), torch.cat([many[1], mask]))
            candidates, rivals = texts[: len(many[0])], texts[len(many[0]) :]
        verdicts = compare(self.referee, rows, candidates, rivals)
        self.count(verdicts.queries, 0.0)
        wins = verdicts.wins.to(self.device, torch.float32).view(self.rows, each)
        return JudgedTexts(candidates, rivals, wins, verdicts.queries, verdicts.asymmetry)

    def write(self, policy: NashLanguage, model: CausalModel, prompt: Tensor, mask: Tensor) -> Completions:
        """A completion for each prompt."""
        length = policy.config.max_new_tokens
        uniform = torch.rand(len(prompt), length, generator=self.generator).to(self.device)
        with policy.precision(self.device):
            return generate(model, prompt, mask, uniform, length, policy.symbols)

    def state_dict(self) -> dict[str, Any]:
        found = super().state_dict() | {"generator": self.generator.get_state(), "waiting": list(self.waiting)}
        coins = getattr(self.referee, "hard", None)
        return found | ({} if coins is None else {"coins": coins.get_state()})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.generator.set_state(state["generator"].cpu())
        self.waiting = [int(k) for k in state["waiting"]]
        if "coins" in state:
            self.referee.hard.set_state(state["coins"].cpu())  # type: ignore[attr-defined]


def compare(
    referee: Referee, rows: Sequence[Mapping[str, Any]], candidates: Completions, rivals: Completions
) -> Verdicts:
    """Every candidate against the rival of its prompt: verdicts of N K rows."""
    each = len(candidates) // len(rivals)
    numbers = torch.arange(len(rivals), device=rivals.tokens.device).repeat_interleave(each)
    return referee([rows[k] for k in numbers.tolist()], candidates, rivals[numbers])
