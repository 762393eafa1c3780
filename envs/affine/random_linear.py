"""Random linear-quadratic regulators in batches, stable without control, as matrices."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rlcore.checks import check_positive
from rlcore.errors import ConfigError


class LinearProblems(NamedTuple):
    """dx = (A x + B u) dt with cost rate x'Q x + u'R u, one problem in each row."""

    A: Tensor  # [P, n, n], per second
    B: Tensor  # [P, n, m], per second
    Q: Tensor  # [P, n, n]
    R: Tensor  # [P, m, m]


def random_stable(
    count: int,
    state_dim: int,
    action_dim: int,
    seed: int,
    *,
    slowest: tuple[float, float] = (0.3, 1.0),
    device: str | torch.device = "cpu",
) -> LinearProblems:
    """`count` problems whose slowest mode decays at a rate uniform in `slowest` [1/s]; float64.

    A has Gaussian entries of variance 1 / n and is shifted along the unit matrix, B is Gaussian of variance 1 / n, Q
    and R are (I + G G' / n) / 2 with Gaussian G. Drawn on the CPU, so the problems do not depend on the device.
    """
    check_positive("slowest", slowest[0], "1/s")
    if min(count, state_dim, action_dim) < 1 or not slowest[0] <= slowest[1]:
        raise ConfigError(
            f"need sizes >= 1 and an interval of rates, got {count}, {state_dim}, {action_dim}, {slowest}"
        )
    generator = torch.Generator().manual_seed(seed)

    def normal(rows: int, columns: int) -> Tensor:
        return torch.randn(count, rows, columns, generator=generator, dtype=torch.float64)

    def weight(size: int) -> Tensor:
        root = normal(size, size)
        return 0.5 * (torch.eye(size, dtype=torch.float64) + root @ root.mT / size)

    free, n = normal(state_dim, state_dim) / state_dim**0.5, state_dim
    rate = slowest[0] + (slowest[1] - slowest[0]) * torch.rand(count, generator=generator, dtype=torch.float64)
    shift = torch.linalg.eigvals(free).real.amax(-1) + rate  # [P]
    A = free - shift[:, None, None] * torch.eye(n, dtype=torch.float64)
    parts = (A, normal(n, action_dim) / n**0.5, weight(n), weight(action_dim))
    return LinearProblems(*(part.to(device) for part in parts))
