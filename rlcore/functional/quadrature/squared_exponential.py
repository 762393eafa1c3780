"""Bayesian quadrature with the squared-exponential kernel, by least squares in its features.

    exp(-(s - t)^2 / 2 l^2) = sum_k phi_k(s) phi_k(t),   phi_k(t) = exp(-x^2 / 2) x^k / sqrt(k!),   x = (t - middle) / l
    w = argmin |sum_i w_i phi(t_i) - int phi|^2 + noise |w|^2,   Var = the minimum

The kernel matrix, whose condition grows faster than exponentially with N, is never formed, and as l grows the solution
tends to the closed Newton-Cotes rule: with ten digits on 13 even nodes, eight on 17, five on 21. This kernel has no
finite state space, so the cost is O(N^3).

Source: Fasshauer and McCourt, SIAM Journal on Scientific Computing 34, 2012, for the flat limit by QR.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from rlcore.errors import ConfigError, NumericsError
from rlcore.functional.quadrature.nodes import Quadrature

STEEPEST = 1e4
"""Most of sum |w| / T: beyond it neither the weights nor their sum have digits to spare, as from 33 even nodes on."""
SMALLEST = 1e-8
"""Least size of the last feature that the nodes resolve where the mean is free: its complement mixes the columns, so
that the variance loses digits as one over this size. Measured: off by 5e-4 of itself at most, and by 3e-3 at 1e-9."""
LARGEST = 400
"""Most features: windows beyond some 20 length scales need more than a power series can give."""


def squared_exponential(
    length_scale: Tensor, times: Tensor, start: Tensor, end: Tensor, observed: Tensor | None, noise: float, degrees: int
) -> Quadrature:
    """The posterior of the integral; the mean is a polynomial with `degrees` diffuse coefficients, 0 for a zero mean.

    `length_scale` [...], nodes [..., N], ends [..., 1]; `observed` is bool [..., N] or None. It works in float64
    whatever the nodes are: in single precision a free mean would leave no digit of the variance.
    """
    nodes, times, start, end = times, times.double(), start.double(), end.double()
    count, middle, half = times.shape[-1], 0.5 * (start + end), 0.5 * (end - start)
    scale = length_scale.double().unsqueeze(-1)
    seen = torch.ones_like(times, dtype=torch.bool) if observed is None else observed
    reach = half / scale
    terms = feature_count(float(reach.max()), count)
    smallest = float(reach.min()) ** (count - 1) / math.sqrt(math.factorial(count - 1))  # of what the nodes resolve
    if degrees > 0 and smallest + math.sqrt(noise) < SMALLEST:
        raise NumericsError(
            f"{count} nodes on a window of {2.0 * float(reach.min()):.3g} length scales leave no digits beside a "
            "polynomial mean; take mean_degree=None, fewer nodes or a shorter length scale, or IntegratedWiener"
        )
    points, shares = (torch.as_tensor(part).to(times) for part in np.polynomial.legendre.leggauss(terms + 16))
    target = half * (features(reach * points, terms, degrees) * shares.unsqueeze(-1)).sum(-2)  # [..., terms]
    rows = (features((times - middle) / scale, terms, degrees) * seen.unsqueeze(-1)).mT  # [..., terms, N]
    error = torch.where(seen, times.new_tensor(math.sqrt(noise)), 1.0)  # a value that is not seen is noise
    rows = torch.cat([rows, torch.diag_embed(error).expand(*rows.shape[:-2], count, count)], -2)
    target = torch.nn.functional.pad(target, (0, count))
    fixing, free, fixed = polynomial_mean((times - middle) / half, seen, half, degrees)
    weights = (fixing @ fixed).squeeze(-1)
    left = target - (rows @ weights.unsqueeze(-1)).squeeze(-1)
    basis, upper = torch.linalg.qr(rows @ free)
    inside = basis.mT @ left.unsqueeze(-1)
    weights = weights + (free @ torch.linalg.solve_triangular(upper, inside, upper=True)).squeeze(-1)
    if bool((weights.detach().abs().sum(-1) > STEEPEST * (end - start).squeeze(-1)).any()):
        raise NumericsError(
            f"the squared-exponential weights of {count} nodes alternate so steeply that rounding would drown the "
            "integral; take fewer nodes, or Matern(4, length_scale)"
        )
    residual = left - (basis @ inside).squeeze(-1)
    residual = residual - (basis @ (basis.mT @ residual.unsqueeze(-1))).squeeze(-1)  # what rounding left inside

    def squares(values: Tensor) -> Tensor:
        kept = free.mT @ torch.where(seen, values.double(), 0.0).unsqueeze(-1)
        white: Tensor = torch.linalg.solve_triangular(upper.mT, kept, upper=False)
        return white.square().sum((-2, -1)).to(values)

    determinant = 2.0 * upper.diagonal(dim1=-2, dim2=-1).abs().log().sum(-1)
    return Quadrature(
        nodes,
        torch.where(seen, weights, 0.0).to(nodes),
        residual.square().sum(-1).to(nodes),
        squares,
        seen.sum(-1) - degrees,
        determinant.to(nodes),
        observed,
    )


def polynomial_mean(x: Tensor, seen: Tensor, half: Tensor, degrees: int) -> tuple[Tensor, Tensor, Tensor]:
    """Weights that integrate every polynomial up to a degree: `fixing @ fixed`, and `free`, which may be added to them.

    `x` [..., N] runs from -1 to 1 over windows of half width [..., 1].
    """
    powers = torch.arange(degrees, dtype=x.dtype, device=x.device)
    columns = (x.unsqueeze(-1) ** powers) * seen.unsqueeze(-1)
    Q, R = torch.linalg.qr(columns, mode="complete")
    moments = half * (1.0 + (-1.0) ** powers) / (powers + 1.0)
    upper = R[..., :degrees, :]
    fixed = torch.linalg.solve_triangular(upper.mT, moments.expand(*upper.shape[:-1]).unsqueeze(-1), upper=False)
    return Q[..., :degrees], Q[..., degrees:], fixed


def features(x: Tensor, terms: int, degrees: int = 0) -> Tensor:  # [..., N] -> [..., N, terms]
    """exp(-x^2 / 2) x^k / sqrt(k!) for k below `terms`, less the powers of x below `degrees`.

    Weights that integrate those powers exactly do not notice; subtracted later they would take the digits with them.
    """
    roots = torch.arange(1, terms, dtype=x.dtype, device=x.device).sqrt()
    ratios = torch.cat([torch.exp(-0.5 * x**2).unsqueeze(-1), x.unsqueeze(-1) / roots], -1)
    found = ratios.cumprod(-1)
    for k in range(degrees):
        found[..., k] = exponential_tail(-0.5 * x**2, (degrees - k + 1) // 2) * x**k / math.sqrt(math.factorial(k))
    return found


def exponential_tail(s: Tensor, first: int, terms: int = 24) -> Tensor:
    """The exponential series of s <= 0 from the power `first` on."""
    powers = [s**j / float(math.factorial(j)) for j in range(first + terms)]
    return torch.where(s > -1.0, sum(powers[first:]), s.exp() - sum(powers[:first]))


def feature_count(reach: float, nodes: int) -> int:
    """Features until the rest is below rounding beside the last that the nodes resolve; `reach` is the largest |x|."""
    size = last = 1.0
    for k in range(1, LARGEST):
        size *= reach / math.sqrt(k)
        if k < nodes:
            last = size
        elif k > nodes + 2 and size < 1e-18 * min(last, 1.0) and k > reach**2:
            return k
    raise ConfigError(
        f"the window spans {2.0 * reach:.3g} length scales, too many for the squared-exponential kernel's series; "
        "take a longer length scale or Matern(4, length_scale)"
    )
