"""Counter-based noise: known answers of Philox, and what makes a path its own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rlcore.simulation.noise import MASK, Stream, normals, philox, step_noise

ROWS = torch.arange(4096)


def draw(
    row: Tensor = ROWS, *, seed: int = 0, stream: Stream = Stream.PROCESS, start: int = 0, count: int = 64
) -> Tensor:
    return normals(seed, row, stream, start, count, torch.float64)  # [count, B]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        (0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (MASK, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ],
)
def test_philox_known_answers(word: int, expected: tuple[int, ...]) -> None:
    """Vectors of the Random123 distribution (Salmon et al., 2011)."""
    counter = torch.full((4, 1), word, dtype=torch.int64)
    got = philox((counter[0], counter[1], counter[2], counter[3]), (word, word))
    assert tuple(int(value) for value in got) == expected


def test_philox_known_answer_of_mixed_words() -> None:
    """The third vector of the distribution: counter and key are digits of pi."""
    counter = torch.tensor([[0x243F6A88], [0x85A308D3], [0x13198A2E], [0x03707344]])
    got = philox((counter[0], counter[1], counter[2], counter[3]), (0xA4093822, 0x299F31D0))
    assert tuple(int(value) for value in got) == (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)


def test_a_row_does_not_depend_on_its_batch() -> None:
    alone = torch.cat([draw(ROWS[k : k + 1]) for k in range(5)], dim=1)
    assert torch.equal(alone, draw(ROWS[:5]))
    assert torch.equal(draw(ROWS.flip(0)).flip(1), draw())


@pytest.mark.parametrize("split", [1, 3, 4, 6, 63])
def test_a_sequence_does_not_depend_on_its_chunks(split: int) -> None:
    chunks = [draw(start=start, count=min(split, 64 - start)) for start in range(0, 64, split)]
    assert torch.equal(torch.cat(chunks), draw())


def test_a_sequence_may_be_read_far_away() -> None:
    far = 2**35
    row = torch.tensor([3, 2**40])
    assert torch.equal(draw(row, start=far - 2, count=8)[2:], draw(row, start=far, count=6))
    assert not torch.equal(draw(row, start=far, count=4), draw(row, start=0, count=4))


def test_step_noise_is_the_sequence_in_order() -> None:
    noise = step_noise(7, ROWS[:3], Stream.ACTION, 5, 4, 3, torch.float64)  # [4, 3 rows, 3]
    sequence = draw(ROWS[:3], seed=7, stream=Stream.ACTION, start=15, count=12)
    assert torch.equal(noise, sequence.view(4, 3, 3).transpose(1, 2))


def test_moments_of_a_standard_normal() -> None:
    z = draw(count=256)
    n = z.numel()
    for power, mean, variance in ((1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)):
        assert abs(float((z**power).mean()) - mean) < 5.0 * (variance / n) ** 0.5


def test_tails_are_finite_in_both_precisions() -> None:
    for dtype in (torch.float32, torch.float64):
        assert bool(torch.isfinite(normals(0, ROWS, Stream.PROCESS, 0, 256, dtype)).all())


@pytest.mark.parametrize(
    "other",
    [
        draw(seed=1),
        draw(seed=2**32),
        draw(stream=Stream.ACTION),
        draw(stream=Stream.INITIAL),
        draw(ROWS + len(ROWS)),
        draw(ROWS + 2**32),
        draw(start=64),
    ],
    ids=["seed", "high seed", "action", "initial", "rows", "high rows", "later"],
)
def test_streams_are_independent(other: Tensor) -> None:
    z = draw()
    correlation = float((z * other).mean())
    assert abs(correlation) < 5.0 / z.numel() ** 0.5


def test_neighbours_are_uncorrelated() -> None:
    z = draw()
    for lag in (1, 2, 3, 4):
        assert abs(float((z[lag:] * z[:-lag]).mean())) < 5.0 / z[lag:].numel() ** 0.5
    assert abs(float((z[:, 1:] * z[:, :-1]).mean())) < 5.0 / z[:, 1:].numel() ** 0.5
