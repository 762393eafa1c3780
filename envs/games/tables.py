"""Preference tables with known properties, for studies and tests: [n, n] or [games, n, n], P + P^T = 1, float64."""

from __future__ import annotations

import torch
from torch import Tensor

from rlcore.functional.games import LowRankPreference

DOUBLE = torch.float64


def cosine_reference(actions: int) -> Tensor:  # -> [n]
    """mu_i proportional to exp(cos i), i in radians: uneven, and without randomness."""
    return torch.softmax(torch.arange(actions, dtype=DOUBLE).cos(), -1)


def sine_table(actions: int) -> Tensor:  # -> [n, n]
    """P_ij = 1/2 + sin((i - j)(1 + 0.37 (i + j))) / 2: of full rank and without structure, yet deterministic."""
    i = torch.arange(actions, dtype=DOUBLE)
    difference, total = i.unsqueeze(1) - i, i.unsqueeze(1) + i
    return 0.5 + 0.5 * torch.sin(difference * (1.0 + 0.37 * total))


def cyclic_table(actions: int, wins: float = 1.0) -> Tensor:  # -> [n, n]
    """Action i beats the (n - 1) // 2 that follow it in a circle, with probability `wins`; opposite ones tie."""
    i = torch.arange(actions)
    ahead = (i - i.unsqueeze(1)) % actions  # how far j is ahead of i
    half = (actions - 1) // 2
    beats, loses = (ahead >= 1) & (ahead <= half), ahead >= actions - half
    return 0.5 + (wins - 0.5) * (beats.to(DOUBLE) - loses.to(DOUBLE))


def random_tables(games: int, actions: int, seed: int) -> Tensor:  # -> [games, n, n]
    """Each pair of actions has a probability of its own, uniform in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    upper = torch.rand(games, actions, actions, dtype=DOUBLE, generator=generator).triu(1)
    return upper + (1.0 - upper.mT).tril(-1) + 0.5 * torch.eye(actions, dtype=DOUBLE)


def random_policies(games: int, actions: int, seed: int, spread: float = 1.0) -> Tensor:  # -> [games, n] log
    """log-probabilities of softmax(spread times standard normals)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.log_softmax(spread * torch.randn(games, actions, dtype=DOUBLE, generator=generator), -1)


def perturbed_rock_paper_scissors() -> Tensor:  # -> [3, 3]
    """(M + 3) / 6 for the payoffs M = ((0, -3, 3), (3, 0, -1), (-3, 1, 0)) of Sokota et al., ICLR 2023."""
    payoffs = torch.tensor([[0.0, -3.0, 3.0], [3.0, 0.0, -1.0], [-3.0, 1.0, 0.0]], dtype=DOUBLE)
    return (payoffs + 3.0) / 6.0


def random_circles(actions: int, planes: int, seed: int) -> LowRankPreference:
    """A preference of rank 2 `planes` over any number of actions, which beat each other in random circles."""
    generator = torch.Generator().manual_seed(seed)
    both = torch.randn(actions, 2 * planes, dtype=DOUBLE, generator=generator)
    both *= 0.5**0.5 / both.norm(dim=-1, keepdim=True)
    return LowRankPreference(both[:, :planes].contiguous(), both[:, planes:].contiguous())
