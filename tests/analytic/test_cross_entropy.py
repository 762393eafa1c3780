"""The cross-entropy method on scores whose best point is known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from rlcore.errors import ConfigError, ShapeError
from rlcore.functional.cross_entropy import SearchConfig, cross_entropy

BEST = torch.tensor([1.5, -2.0, 0.25], dtype=torch.float64)


def parabola(generation: int, candidate: Tensor) -> float:
    return -float((candidate - BEST).square().sum())


def search(config: SearchConfig, seed: int = 0, score: Any = parabola) -> list[tuple[Tensor, float]]:
    zero = torch.zeros(3, dtype=torch.float64)
    return list(cross_entropy(score, zero, zero + 2.0, config, generator=torch.Generator().manual_seed(seed)))


def test_finds_the_top_of_a_parabola() -> None:
    found = search(SearchConfig(generations=40, population=60, elite=10, floor=1e-4))
    assert torch.allclose(found[-1][0], BEST, atol=1e-2)
    assert found[-1][1] == pytest.approx(0.0, abs=1e-3)


def test_one_generation_goes_its_share_of_the_way_to_the_elite() -> None:
    """With a rate of 1 the mean is that of the elite's candidates, and its score that of theirs."""
    seen: list[Tensor] = []

    def noted(generation: int, candidate: Tensor) -> float:
        seen.append(candidate.clone())
        return parabola(generation, candidate)

    config = SearchConfig(generations=1, population=20, elite=4, rate=1.0)
    (mean, best), *_ = search(config, score=noted)
    elite = sorted(seen, key=lambda one: parabola(0, one))[-4:]
    assert torch.allclose(mean, torch.stack(elite).mean(0))
    assert best == pytest.approx(sum(parabola(0, one) for one in elite) / 4)
    (half, _), *_ = search(SearchConfig(generations=1, population=20, elite=4, rate=0.5))
    assert torch.allclose(half, 0.5 * mean)


def test_a_seed_is_a_search() -> None:
    config = SearchConfig(generations=3, population=8, elite=3)
    one, two, other = (search(config, seed) for seed in (1, 1, 2))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(one, two, strict=True))
    assert not torch.equal(one[-1][0], other[-1][0])


def test_the_generation_is_told_and_none_is_none() -> None:
    told: list[int] = []
    search(
        SearchConfig(generations=2, population=3, elite=2),
        score=lambda generation, _: float(told.append(generation) is not None),
    )
    assert told == [0, 0, 0, 1, 1, 1]
    assert search(SearchConfig(generations=0)) == []


@pytest.mark.parametrize("setting", [{"elite": 1}, {"elite": 9, "population": 8}, {"generations": -1}, {"rate": 0.0}])
def test_bad_settings(setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        search(SearchConfig(**setting))
    with pytest.raises(ShapeError):
        next(cross_entropy(parabola, BEST, BEST[:2], generator=torch.Generator()))
