"""The rewriting by columns gives what the operations give, for every kind of number."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from rlcore.experiments.acceptance.modes import without_machine_code
from rlcore.simulation.graphs import compile_by_columns

ROWS = 6
X = torch.linspace(-2.0, 2.0, ROWS * 4, dtype=torch.float64).reshape(4, ROWS).T.contiguous()


def with_column(x: Tensor, column: int, value: Tensor) -> Tensor:
    found = x.clone()
    found[:, column] = value
    return found


FOLDS: dict[str, Callable[[Tensor], Tensor]] = {
    "a count of truths": lambda x: (x > 0.0).sum(-1),
    "a count that is kept": lambda x: (x > 0.0).sum(1, keepdim=True),
    "a sum of whole numbers": lambda x: x.round().to(torch.int32).sum(-1),
    "a sum": lambda x: x.sum(-1),
    "whether any": lambda x: (x > 1.0).any(-1),
    "whether any number": lambda x: x.round().to(torch.int64).any(-1),
    "whether all": lambda x: (x > -1.0).all(-1),
    "the largest": lambda x: x.amax(-1),
    "the place of the largest": lambda x: x.argmax(-1),
    "a mean": lambda x: x.mean(1),
    "sums from the left": lambda x: x.cumsum(-1),
    "a column set anew": lambda x: with_column(x, 2, x[:, 0] - 1.0),
    "a square of columns": lambda x: (x.unsqueeze(1) * x.unsqueeze(2)).sum((1, 2)),
}


@pytest.mark.parametrize("name", FOLDS)
def test_a_fold_is_the_same(name: str) -> None:
    def backend(module: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
        return compile_by_columns(module, inputs, ROWS, [], lambda seen: None)

    with without_machine_code():
        found = torch.compile(FOLDS[name], backend=backend, fullgraph=True, dynamic=False)(X)  # type: ignore[call-overload]
    expected = FOLDS[name](X)
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-14)
