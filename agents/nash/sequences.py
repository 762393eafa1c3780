"""Policies over enumerated sequences that are written by a network, token by token: what `NashContextual` may train."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlcore.errors import ShapeError
from rlcore.functional.games import SequenceTree


class SequenceNetwork(nn.Module):
    """log pi(y | x) - log mu(y | x) of all N sequences, with pi(token | prefix, x) like mu exp(network(x, prefix)).

    `network` scores the next token from context and prefix, [..., d + T V] -> [..., V + 1], and is asked about all I
    prefixes of all d contexts in one pass; contexts [N, d] mark one of them. Autoregressive policies are all policies
    over the tree, so that nothing is lost against a table, and mu is met where the network is 0.
    """

    seen: Tensor  # [d, I, d + T V]
    log_reference: Tensor  # [d, I, V + 1]

    def __init__(self, tree: SequenceTree, network: nn.Module, log_reference: Tensor) -> None:
        super().__init__()
        if log_reference.shape[-2:] != (tree.inner, tree.tokens) or log_reference.dim() != 3:
            raise ShapeError(
                f"log_reference must be [contexts, {tree.inner}, {tree.tokens}], got {list(log_reference.shape)}"
            )
        self.tree, self.network = tree, network
        contexts, prefixes = (
            torch.eye(len(log_reference)).to(log_reference),
            tree.one_hot()[: tree.inner].to(log_reference),
        )
        wide = contexts.unsqueeze(1).expand(-1, tree.inner, -1), prefixes.expand(len(contexts), -1, -1)
        self.register_buffer("seen", torch.cat(wide, -1), persistent=False)
        self.register_buffer("log_reference", log_reference, persistent=False)

    def log_tokens(self) -> Tensor:  # -> [d, I, V + 1]
        """log pi(token | prefix, x) in every context, normalised."""
        return torch.log_softmax(self.log_reference + self.network(self.seen), -1)

    def forward(self, context: Tensor) -> Tensor:  # [N, d] -> [N, sequences]
        ratios = self.tree.sequences(self.log_tokens()) - self.tree.sequences(self.log_reference)
        return ratios[context.argmax(-1)]


class TokenTable(nn.Module):
    """A score for every context, prefix and token, all 0 at first: the whole freedom that a policy has."""

    def __init__(self, contexts: int, tree: SequenceTree, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(contexts, tree.inner, tree.tokens, dtype=dtype))

    def forward(self, seen: Tensor) -> Tensor:  # [d, I, d + T V] -> [d, I, V + 1]
        return self.scores
