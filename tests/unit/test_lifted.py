"""Numbers as data: the same results, and the same text for other numbers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch._inductor.decomposition import select_decomp_table
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from rlcore.simulation.lifted import lift, with_numbers


def settled(x: Tensor, a: float, b: float, c: float) -> Tensor:
    """Every kind of operation that is lifted, and a power, which is not."""
    y = ((a * x + b) / c - 0.7).clamp(-2.0 * c, c) + torch.sub(x, x * x, alpha=b)
    return torch.where((y > a) | (y <= -b), y**3 + 1.0, torch.full_like(y, c)) - (2.5 - y)


def lifted(
    dtype: torch.dtype, numbers: tuple[float, float, float], alike: list[int]
) -> tuple[str, list[Tensor], Tensor]:
    """Text, numbers and the value at some x."""
    with FakeTensorMode():
        fake = torch.empty(64, dtype=dtype)
        graph = make_fx(lambda x: settled(x, *numbers), select_decomp_table())(fake)
    module, found = lift(graph, alike)
    x = torch.linspace(-3.0, 3.0, 64, dtype=dtype)
    return module.code, found, with_numbers(lambda args: module(*args), found)([x])


def at(dtype: torch.dtype, numbers: tuple[float, float, float]) -> Tensor:
    return settled(torch.linspace(-3.0, 3.0, 64, dtype=dtype), *numbers)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_and_text_stay(dtype: torch.dtype) -> None:
    alike: list[int] = []
    texts = set()
    for numbers in ((0.1, 0.2, 0.3), (0.3, 1.3, 0.9), (0.7, 0.7, 2.5)):  # in the last one, numbers happen to be equal
        text, _, value = lifted(dtype, numbers, alike)
        texts.add(text)
        torch.testing.assert_close(value, at(dtype, numbers), rtol=1e-5 if dtype == torch.float32 else 1e-13, atol=1e-5)
    assert len(texts) == 1
    assert "0.2" not in text


def test_numbers_that_were_one_and_are_not_any_more() -> None:
    alike: list[int] = []
    text, few, _ = lifted(torch.float64, (0.4, 0.4, 0.3), alike)
    other, more, value = lifted(torch.float64, (0.4, 0.5, 0.3), alike)
    assert other != text
    assert len(more[1]) > len(few[1])
    torch.testing.assert_close(value, at(torch.float64, (0.4, 0.5, 0.3)), rtol=1e-15, atol=1e-14)
    again, _, value = lifted(torch.float64, (0.4, 0.4, 0.3), alike)
    assert again == other
    torch.testing.assert_close(value, at(torch.float64, (0.4, 0.4, 0.3)), rtol=1e-15, atol=1e-14)


def test_zero_and_what_is_not_finite_stay_in_the_text() -> None:
    text, numbers, value = lifted(torch.float64, (0.0, float("inf"), 0.3), [])
    assert "inf" in text
    assert bool(numbers[1].isfinite().all())
    torch.testing.assert_close(value, at(torch.float64, (0.0, float("inf"), 0.3)), rtol=0.0, atol=0.0, equal_nan=True)
