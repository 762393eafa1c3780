"""Duels: candidates of a policy, judged against one action of its opponent, in contexts drawn at random."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from rlcore.data import Comparisons
from rlcore.errors import ConfigError, ShapeError
from rlcore.functional.games import MatrixPreference, Preference
from rlcore.simulation.policy import Policy
from rlcore.training.sources import Source


class DuelSource(Source[Comparisons]):
    """Comparisons [N]: first [N, K] drawn from the policy, second [N] from the opponent, preferred [N, K] 0 or 1.

    The policy and its opponent see a context as a 1 at one of C places, and answer with log-probabilities [N, A]. One
    comparison counts as one step.
    """

    def __init__(
        self,
        judge: Tensor | Preference,
        opponent: Callable[[Tensor], Tensor],
        rows: int,
        *,
        generator: torch.Generator,
        contexts: int | None = None,
        candidates: int = 2,
        exact: bool = False,
    ) -> None:
        """`judge`: a table [C, A, A] of chances that the first wins, or a preference that holds in `contexts` contexts.

        `exact` gives all actions as candidates, with their true probabilities to win against the opponent.
        """
        if isinstance(judge, Tensor):
            if judge.dim() != 3 or judge.shape[1] != judge.shape[2]:
                raise ShapeError(f"table must be [contexts, actions, actions], got {list(judge.shape)}")
            contexts, judge = len(judge), MatrixPreference(judge)
        if contexts is None or contexts < 1:
            raise ConfigError(f"say in how many contexts this judge holds, contexts >= 1, got {contexts}")
        if rows < 1 or candidates < 2:
            raise ConfigError(f"need rows >= 1 and candidates >= 2, got {rows} and {candidates}")
        self.judge, self.contexts, self.opponent, self.rows = judge, contexts, opponent, rows
        self.generator, self.candidates, self.exact = generator, candidates, exact

    @torch.no_grad()
    def next(self, policy: Policy) -> Comparisons:
        if self.exact:
            seen = torch.eye(self.contexts, dtype=self.judge.dtype)
            every = torch.arange(self.judge.actions).expand(self.contexts, -1)
            rival = self.opponent(seen)
            return Comparisons(seen, every, rival, self.judge(rival.exp()))
        here = torch.randint(self.contexts, (self.rows,), generator=self.generator)
        seen = one_hot(here, self.contexts).to(self.judge.dtype)
        first = torch.multinomial(policy.act(seen).exp(), self.candidates, replacement=True, generator=self.generator)
        second = torch.multinomial(self.opponent(seen).exp(), 1, generator=self.generator)
        chance = self.judge.chance(here, first, second)
        wins = torch.rand(chance.shape, dtype=chance.dtype, generator=self.generator) < chance
        self.count(self.rows * self.candidates, 0.0)
        return Comparisons(seen, first, second.squeeze(1), wins.to(chance))

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.generator.set_state(state["generator"].cpu())
