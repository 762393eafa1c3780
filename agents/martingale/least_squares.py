"""What the linear solvers of policy evaluation share: normal equations, and what a martingale subtracts per second."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rlcore.data import Trajectory
from rlcore.errors import NumericsError, ShapeError
from rlcore.functional.increments import Increments, per_step

Features = Callable[[Tensor], Tensor]  # [..., d] -> [..., p]

BLOCK_ROWS = 1 << 13  # rows per core worked on at once: their features, in float64, stay in its cache
GROWTH = 10.0  # by which a root mean square may grow over the second half of the paths
DEVICE_ROWS = 1 << 20  # the same for an accelerator


@dataclass(frozen=True)
class Running:
    """Unknown rates that the martingale subtracts: sum_j eta_j psi_j(x, a) per second, with test functions psi.

    psi = 1 is the ergodic problem, eta the average reward. psi with E_pi[psi(x, .)] = 0 makes the evaluation of a
    policy pi right under data of any other: eta . psi is then q, and no importance weights are needed.
    """

    rates: Callable[[Tensor, Tensor], Tensor]  # [..., d], [..., m] -> [..., r]
    count: int


def _ones(obs: Tensor, action: Tensor) -> Tensor:
    return torch.ones_like(obs[..., :1])


ERGODIC = Running(_ones, 1)


def centred(features: Callable[[Tensor, Tensor], Tensor], expected: Callable[[Tensor], Tensor], count: int) -> Running:
    """psi(x, a) = features(x, a) - E_pi[features(x, .)], the second given as a function of x."""
    return Running(lambda obs, action: features(obs, action) - expected(obs), count)


def inner(left: Tensor, right: Tensor) -> Tensor:  # [N, q], [N, p] -> [q, p]
    """left' right, one piece per core: BLAS does not divide a product so long and thin."""
    cores = 1 if left.is_cuda or torch.compiler.is_compiling() else torch.get_num_threads()
    if cores == 1 or len(left) % cores or len(left) < 1024 * cores:
        return left.T @ right
    pieces = (m.reshape(cores, -1, m.shape[-1]) for m in (left, right))
    return torch.bmm(next(pieces).transpose(1, 2), next(pieces)).sum(0)


class NormalEquations(nn.Module):
    """sum_k l_k (y_k + r_k' theta) = 0, accumulated in float64 and solved on demand."""

    gram: Tensor  # [q, p]
    target: Tensor  # [q]

    def __init__(self, equations: int, unknowns: int, ridge: float = 0.0) -> None:
        super().__init__()
        self.ridge = ridge
        self.register_buffer("gram", torch.zeros(equations, unknowns, dtype=torch.float64))
        self.register_buffer("target", torch.zeros(equations, dtype=torch.float64))

    def add(self, left: Tensor, right: Tensor, y: Tensor) -> None:  # [N, q], [N, p], [N]
        self.gram -= inner(left, right)
        self.target += left.T @ y

    def solve(self) -> tuple[Tensor, Tensor]:
        """theta [p] and the condition number of the matrix."""
        normal = self.gram + self.ridge * torch.eye(*self.gram.shape, dtype=torch.float64, device=self.gram.device)
        if not bool(normal.isfinite().all()):
            raise NumericsError(
                "the normal matrix is not finite; look for NaN in the data or features that overflow under it"
            )
        condition = torch.linalg.cond(normal)
        if not bool(condition < 1e14):
            raise NumericsError(
                f"the normal matrix is singular (condition {float(condition):.1e}); "
                "use fewer features, more data or a ridge"
            )
        return torch.linalg.solve(normal, self.target), condition


def blocks(batch: Trajectory) -> Iterator[Trajectory]:
    """The batch in pieces of whole paths, small enough for the cache."""
    steps, paths = batch.reward.shape
    cores = torch.get_num_threads()
    rows = DEVICE_ROWS if batch.reward.is_cuda else BLOCK_ROWS * cores
    width = max(1, rows // steps // cores) * cores
    if width >= paths:
        yield batch
        return
    for start in range(0, paths, width):
        yield paths_of(batch, slice(start, start + width))


def paths_of(batch: Trajectory, part: slice) -> Trajectory:
    """Some of the paths."""
    columns = (batch.obs[:, part], batch.action[:, part], batch.reward[:, part])
    return Trajectory(batch.t, *columns, batch.dt, batch.terminated[:, part])


def check_features(features: Features, count: int, batch: Trajectory) -> None:
    """Raise unless the features are as many as was said."""
    shape = tuple(features(batch.obs[0, :1]).shape)
    if shape != (1, count):
        raise ShapeError(
            f"features must give {count} numbers for each observation, got shape {list(shape)} for one; "
            "return [..., p] with p = n_features"
        )


def check_stable(batch: Trajectory) -> None:
    """Raise if the states run away along the paths, so that there is no long-run reward per second."""
    middle, last = (batch.obs[k].double().square().mean().sqrt() for k in (len(batch.obs) // 2, -1))
    if not bool(last <= GROWTH * middle + 1e-300):
        raise NumericsError(
            f"an average reward needs a policy that keeps the states bounded: their root mean square must settle, got "
            f"{float(middle):.3g} halfway and {float(last):.3g} at the end of the paths; evaluate a stabilising "
            "policy, or give a discount rate"
        )


def evaluated(features: Features, batch: Trajectory) -> tuple[Tensor, Features]:
    """The features of every observation in float64, and a function that gives them back without computing them anew."""
    phi = features(batch.obs).double()  # [K+1, B, p]
    return phi, lambda obs: phi if obs is batch.obs else features(obs).double()


def regressors(batch: Trajectory, features: Features, rule: Increments, running: Running | None) -> Tensor:
    """The derivative of every increment by (theta, eta): [K, B, p + r]."""
    change = rule.change(features, batch)
    if running is None:
        return change
    psi = running.rates(batch.obs[:-1], batch.action).double()
    return torch.cat([change, -psi * per_step(batch.dt, psi)], dim=-1)
