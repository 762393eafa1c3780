"""A converse problem of any size, drawn from a seed: the nonlinear companion of `MatrixLqr`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rlcore.checks import check_integer
from rlcore.envs.affine.control_affine import AffineConfig, ControlAffine
from rlcore.envs.affine.converse import converse
from rlcore.envs.affine.problem import AffineProblem, Matrix
from rlcore.errors import ConfigError


@dataclass(frozen=True)
class ConverseHjbConfig(AffineConfig):
    """Settings of `ConverseHjb`: those of `AffineConfig`, size and seed."""

    state_dim: int = 4
    """n."""
    action_dim: int = 2
    """m."""
    problem_seed: int = 0
    """Which problem of the family `random_converse`."""
    substeps: int = 12


def random_converse(state_dim: int, action_dim: int, seed: int) -> AffineProblem:
    """A problem drawn from `seed` whose V* is no polynomial and whose dynamics are Lipschitz at any size.

    |G| = 1, 1/4 <= S <= 3/4 and R >= 1, so that without control the state grows slowly where it grows.
    """
    check_integer("state_dim, action_dim, seed", state_dim, action_dim, seed)
    if min(state_dim, action_dim) < 1 or seed < 0:
        raise ConfigError(
            f"need state_dim, action_dim >= 1 and seed >= 0, got {state_dim}, {action_dim} and {seed}; give other ones"
        )
    n, m, generator = state_dim, action_dim, torch.Generator().manual_seed(seed)

    def normal(rows: int, columns: int) -> Tensor:
        drawn = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
        return drawn / math.sqrt(columns)

    root, turn, gain = normal(n, n), normal(n, n), normal(n, m)
    weight, fold, wave = 0.5 * (torch.eye(n, dtype=torch.float64) + root @ root.T), normal(n, n), normal(m, n)
    axes = torch.linalg.qr(normal(n, n)).Q
    damping = axes @ torch.diag(torch.linspace(0.25, 0.75, n, dtype=torch.float64)) @ axes.T
    P, W, H = (Matrix(part.tolist()) for part in (weight, fold, wave))
    G = Matrix((gain / torch.linalg.matrix_norm(gain, 2)).tolist())

    def value(x: Tensor) -> Tensor:  # sqrt(1 + s^2) - 1 without loss near 0
        s = x @ W.like(x).T
        return 0.5 * ((x @ P.like(x)) * x).sum(-1) + (s**2 / (1.0 + (1.0 + s**2).sqrt())).sum(-1)

    def slope(x: Tensor) -> Tensor:
        s = x @ W.like(x).T
        return x @ P.like(x) + (s / (1.0 + s**2).sqrt()) @ W.like(x)

    def input_gain(x: Tensor) -> Tensor:
        return G.like(x) * (1.0 + 0.5 * torch.sin(x @ H.like(x).T)).unsqueeze(-2)

    price = torch.diag(torch.linspace(1.0, 2.0, m, dtype=torch.float64))
    return converse(
        value,
        input_gain,
        price.tolist(),
        (turn - turn.T).tolist(),
        (0.5 * (damping + damping.T)).tolist(),
        state_dim=n,
        value_gradient=slope,
    )


class ConverseHjb(ControlAffine):
    """A nonlinear system of any size with an optimal value that no polynomial equals, drawn from a seed.

    ## Dynamics
    dx = (f + g u) dt with g = G diag(1 + sin(H x) / 2) and f = (J - S + g R^-1 g' / 4) grad V*; G, H, J and S are
    random, R = diag(1, ..., 2)

    ## Observation and action
    | num      | observation | low  | high | unit |     | num      | action | low | high | unit |
    |----------|-------------|------|------|------|-----|----------|--------|-----|------|------|
    | 0..n - 1 | x           | -inf | inf  | none |     | 0..m - 1 | u      | -3  | 3    | none |

    The action bounds are declared, not enforced.

    ## Reward
    -(grad V*' S grad V* + u'R u) per second.

    ## Start and end
    x_0 uniform in [-1, 1]^n. Never terminates; truncated after 10 s.

    ## Closed form
    V* = x'P x / 2 + sum_i (sqrt(1 + s_i^2) - 1) with s = W x, u* = -R^-1 g' grad V* / 2.

    Source: converse construction, Nevistic and Primbs, 1996.
    """

    config: ConverseHjbConfig

    def __init__(
        self,
        config: ConverseHjbConfig = ConverseHjbConfig(),
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        problem = random_converse(config.state_dim, config.action_dim, config.problem_seed)
        super().__init__(problem, config, name="rlcore/ConverseHjb-v0", dtype=dtype, device=device)
