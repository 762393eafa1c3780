"""The cross-entropy method: search for parameters of which nothing is known but a score.

Each generation draws a population from N(mean, diag(spread^2)), keeps the elite with the best scores, and moves mean
and spread most of the way to theirs; a floor keeps the spread from dying before the mean has arrived.
Source: de Boer et al., "A tutorial on the cross-entropy method", Annals of Operations Research 134 (2005).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from rlcore.checks import check_shape
from rlcore.errors import ConfigError


@dataclass(frozen=True)
class SearchConfig:
    """Settings of the search."""

    generations: int = 20
    """How often a population is drawn; 0 leaves the mean where it starts."""
    population: int = 40
    """Candidates of a generation."""
    elite: int = 8
    """The best of them, which the next generation is drawn around."""
    rate: float = 0.8
    """Share of the way that mean and spread go to those of the elite."""
    floor: float = 0.02
    """Least spread, in units of that at the start."""


def cross_entropy(
    score: Callable[[int, Tensor], float],
    mean: Tensor,
    spread: Tensor,
    config: SearchConfig = SearchConfig(),
    *,
    generator: torch.Generator,
) -> Iterator[tuple[Tensor, float]]:
    """After each generation: the mean [n], and the mean score of its elite; higher is better.

    `score` is given the number of the generation, so that all its candidates can meet the same chances, and one
    candidate [n].
    """
    check_shape("spread", spread, tuple(mean.shape))
    if not 1 < config.elite <= config.population or config.generations < 0:
        raise ConfigError(
            f"need 1 < elite <= population and generations >= 0, got {config.elite}, {config.population} and "
            f"{config.generations}"
        )
    if not 0.0 < config.rate <= 1.0 or config.floor < 0.0:
        raise ConfigError(f"need 0 < rate <= 1 and floor >= 0, got {config.rate} and {config.floor}")
    least = config.floor * spread
    for generation in range(config.generations):
        drawn = torch.randn(config.population, len(mean), generator=generator, dtype=mean.dtype)
        candidates = mean + spread * drawn  # [P, n]
        scores = torch.tensor([score(generation, one) for one in candidates], dtype=torch.float64)
        best = scores.argsort(descending=True, stable=True)[: config.elite]
        mean = mean.lerp(candidates[best].mean(0), config.rate)
        spread = spread.lerp(candidates[best].std(0, correction=0), config.rate).maximum(least)
        yield mean, float(scores[best].mean())
