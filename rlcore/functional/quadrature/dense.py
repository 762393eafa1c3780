"""Bayesian quadrature with any kernel by a dense Cholesky factor: the textbook form, O(N^3) and badly conditioned.

    w = K^-1 z,   Var = c - z'K^-1 z

It is the oracle on few nodes and the rival in benchmarks. The condition of K grows as N^(2 nu + 1) (l / T)^(2 nu), so
from a dozen nodes on a smooth kernel needs a jitter on the diagonal, and the jitter, not the kernel, sets the error.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlcore.errors import NumericsError
from rlcore.functional.quadrature.kernels import Kernel
from rlcore.functional.quadrature.nodes import End, Quadrature, check_nodes


def dense_quadrature(
    kernel: Kernel, times: Tensor, start: End = None, end: End = None, *, noise: float = 0.0
) -> Quadrature:
    """The posterior of the integral under a zero-mean prior; `noise` is the variance added to the diagonal of K.

    Raises `NumericsError` where K is not positive definite in the dtype given.
    """
    first, last = check_nodes(times, start, end)
    covariance = kernel.covariance(times.unsqueeze(-1), times.unsqueeze(-2))
    covariance = covariance + noise * torch.eye(times.shape[-1], dtype=times.dtype, device=times.device)
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if bool((failed > 0).any()):
        raise NumericsError(
            "the kernel matrix is not positive definite to rounding; use the state-space rules Matern and "
            "IntegratedWiener, which form no such matrix, or give a noise"
        )
    z = kernel.embedding(times, first, last)
    half = torch.linalg.solve_triangular(factor, z.unsqueeze(-1), upper=False)
    weights = torch.linalg.solve_triangular(factor.mT, half, upper=True).squeeze(-1)
    variance = kernel.total(first, last).squeeze(-1) - half.squeeze(-1).square().sum(-1)

    def squares(values: Tensor) -> Tensor:
        white: Tensor = torch.linalg.solve_triangular(factor, values.unsqueeze(-1), upper=False)
        return white.square().sum((-2, -1))

    determinant = 2.0 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return Quadrature(times, weights, variance, squares, times.shape[-1], determinant)
