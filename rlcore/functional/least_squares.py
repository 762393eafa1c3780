"""Linear least squares in batches by QR with scaled columns, and how far its answer can be trusted.

    w = argmin |Theta w - Xi|_2,   Theta = Q R D  with D the norms of the columns,   w = D^-1 R^-1 Q'Xi = Theta^+ Xi

Scaling the columns brings the condition within a factor sqrt(p) of the best that any scaling reaches, so monomials of
very different size cost no digits. QR alone serves on every device; normal equations would square the condition.
Source: van der Sluis, Numerische Mathematik 14, 1969, for the scaling; Bjorck, Numerical Methods for Least Squares
Problems, 1996, section 1.3, for the perturbation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from rlcore.errors import ConfigError, NumericsError, ShapeError


@dataclass(frozen=True, eq=False)
class LeastSquares:
    """The solution of a batch of problems, and its quality; nothing here waits for the device before `check`."""

    solution: Tensor
    """w [..., p]."""
    residual: Tensor
    """Xi - Theta w [..., W]."""
    orthogonal: Tensor
    """Q [..., W, p]."""
    triangle: Tensor
    """R [..., p, p]."""
    scale: Tensor
    """D, the norms of the columns [..., p]; 1 for a column of zeros."""

    @cached_property
    def pseudo_inverse(self) -> Tensor:
        """Theta^+ [..., p, W]; |Theta^+| e bounds the error of w, component by component, for errors |dXi| <= e."""
        unscaled: Tensor = torch.linalg.solve_triangular(self.triangle, self.orthogonal.mT, upper=True)
        return unscaled / self.scale.unsqueeze(-1)

    @cached_property
    def scaled_singular_values(self) -> Tensor:
        """Those of Theta D^-1, whose columns have unit length, in falling order [..., p]; nan where not finite."""
        return singular_values(self.triangle)

    @cached_property
    def singular_values(self) -> Tensor:
        """Those of Theta itself, in falling order [..., p]."""
        return singular_values(self.triangle * self.scale.unsqueeze(-2))

    @property
    def smallest_singular_value(self) -> Tensor:
        """Of Theta [...]; the reciprocal of |Theta^+|_2."""
        return self.singular_values[..., -1]

    @property
    def condition(self) -> Tensor:
        """Of Theta in the 2-norm [...]; inf where the rank is lost."""
        values = self.singular_values
        return torch.where(self.full_rank, values[..., 0] / values[..., -1], torch.inf)

    @cached_property
    def rank(self) -> Tensor:
        """Of Theta D^-1, to rounding [...]."""
        values = self.scaled_singular_values
        rows, columns = self.orthogonal.shape[-2:]
        small = max(rows, columns) * torch.finfo(values.dtype).eps
        return (values > small * values[..., :1]).sum(-1)

    @property
    def full_rank(self) -> Tensor:
        """Whether the columns are independent, bool [...]."""
        return self.rank == self.solution.shape[-1]

    def check(self) -> LeastSquares:
        """Itself, or a `NumericsError` that names the first row of the batch whose rank is lost."""
        lost = ~self.full_rank.reshape(-1)
        if bool(lost.any()):
            row, p = int(lost.nonzero()[0]), self.solution.shape[-1]
            where = f" in row {row} of the batch" if lost.numel() > 1 else ""
            raise NumericsError(rank_loss(int(self.rank.reshape(-1)[row]), p) + where)
        return self


def least_squares(matrix: Tensor, target: Tensor) -> LeastSquares:  # [..., W, p], [..., W]
    """Solve every problem of the batch; leading dimensions broadcast.

    Raises `ConfigError` for fewer rows than columns. A loss of rank is told by `rank` and raised by `check`.
    """
    if not matrix.is_floating_point() or matrix.dtype != target.dtype:
        raise ShapeError(f"matrix and target must be of one floating dtype, got {matrix.dtype} and {target.dtype}")
    if matrix.ndim < 2 or target.ndim < 1 or target.shape[-1] != matrix.shape[-2] or not fits(matrix, target):
        raise ShapeError(f"need a matrix [..., W, p] and a target [..., W], got {list(matrix.shape)} and "
                         f"{list(target.shape)}")  # fmt: skip
    rows, columns = matrix.shape[-2:]
    if rows < columns:
        raise ConfigError(
            f"need at least as many windows as features, got {rows} windows for {columns} features; gather more "
            "windows or take a smaller basis"
        )
    norms = matrix.square().sum(-2).sqrt()
    scale = torch.where(norms > 0.0, norms, 1.0)
    orthogonal, triangle = torch.linalg.qr(matrix / scale.unsqueeze(-2))
    inside = orthogonal.mT @ target.unsqueeze(-1)
    solution = torch.linalg.solve_triangular(triangle, inside, upper=True).squeeze(-1) / scale
    residual = target - (matrix @ solution.unsqueeze(-1)).squeeze(-1)
    return LeastSquares(solution, residual, orthogonal, triangle, scale)


def fits(matrix: Tensor, target: Tensor) -> bool:  # [..., W, p], [..., W]
    """Whether the leading dimensions broadcast."""
    pairs = zip(matrix.shape[-3::-1], target.shape[-2::-1], strict=False)
    return all(1 in (a, b) or a == b for a, b in pairs)


def singular_values(matrix: Tensor) -> Tensor:  # [..., p, p] -> [..., p]
    """In falling order; nan, instead of an error, for a matrix that is not finite."""
    finite = torch.isfinite(matrix).all(-1).all(-1)[..., None, None]
    values: Tensor = torch.linalg.svdvals(torch.where(finite, matrix, 0.0))
    return torch.where(finite.squeeze(-1), values, torch.nan)


def rank_loss(rank: int, features: int) -> str:
    """What to say when the windows do not tell the features apart."""
    return (
        f"the windows must tell all {features} features apart, but their differences have rank {rank}; start from more "
        "states, take longer windows, or drop features that depend on others"
    )
