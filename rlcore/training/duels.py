"""Duels: candidates of a policy, judged against one action of its opponent, in contexts drawn at random."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from rlcore.data import Comparisons
from rlcore.errors import ConfigError, ShapeError
from rlcore.simulation.policy import Policy
from rlcore.training.sources import Source


class DuelSource(Source[Comparisons]):
    """Comparisons [N]: first [N, K] drawn from the policy, second [N] from the opponent, preferred [N, K] 0 or 1.

    `table` [C, A, A] holds the probabilities that the first action is preferred in each context, which the policy sees
    as one of C and answers with log-probabilities [N, A]. One comparison counts as one step.
    """

    def __init__(
        self,
        table: Tensor,
        opponent: Callable[[Tensor], Tensor],
        rows: int,
        *,
        generator: torch.Generator,
        candidates: int = 2,
        exact: bool = False,
    ) -> None:
        """`exact` gives all actions as candidates, with their true probabilities to win against the opponent."""
        if table.dim() != 3 or table.shape[1] != table.shape[2]:
            raise ShapeError(f"table must be [contexts, actions, actions], got {list(table.shape)}")
        if rows < 1 or candidates < 2:
            raise ConfigError(f"need rows >= 1 and candidates >= 2, got {rows} and {candidates}")
        self.table, self.opponent, self.rows = table, opponent, rows
        self.generator, self.candidates, self.exact = generator, candidates, exact

    @torch.no_grad()
    def next(self, policy: Policy) -> Comparisons:
        contexts, actions, _ = self.table.shape
        if self.exact:
            here = torch.arange(contexts)
            seen = one_hot(here, contexts).to(self.table)
            every = torch.arange(actions).expand(contexts, -1)
            payoffs = (self.table @ self.opponent(seen).exp().unsqueeze(-1)).squeeze(-1)
            return Comparisons(seen, every, self.opponent(seen), payoffs)
        here = torch.randint(contexts, (self.rows,), generator=self.generator)
        seen = one_hot(here, contexts).to(self.table)
        first = torch.multinomial(policy.act(seen).exp(), self.candidates, replacement=True, generator=self.generator)
        second = torch.multinomial(self.opponent(seen).exp(), 1, generator=self.generator)
        chance = self.table[here.unsqueeze(1), first, second]
        wins = torch.rand(chance.shape, dtype=chance.dtype, generator=self.generator) < chance
        self.count(self.rows * self.candidates, 0.0)
        return Comparisons(seen, first, second.squeeze(1), wins.to(self.table))

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.generator.set_state(state["generator"].cpu())
