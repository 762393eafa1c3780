"""The two sums over rows that CLSTD solves from, block by block: as plain operations, or as one compiled pass.

    gram = - sum_k xi_k (d delta_k / d theta)',   target = sum_k xi_k r_k

Plain operations write features, test functions and increments to memory one after the other, and a matrix product as
thin as [10, N] by [N, 10] runs at a tenth of the machine. Compiled, one loop makes the features and another sums all
the products, in vector registers: three times quicker for few features. For many, BLAS takes over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rlcore.agents.martingale.least_squares import Features, Running, blocks, evaluated, inner, paths_of, regressors
from rlcore.agents.martingale.tails import largest_and_sum
from rlcore.data import Trajectory
from rlcore.errors import ConfigError
from rlcore.functional.increments import Increments
from rlcore.functional.test_functions import Instrument

THIN = 24  # unknowns up to which a compiled sum beats BLAS
WATCH_EVERY = 8  # blocks of which one is watched: the squares would cost a third of the rest
LANES = 16  # paths side by side: whole vectors then belong to one time step
COMPILED_ROWS = 1 << 15  # rows per core of a compiled block: enough to amortise the call


class Method(NamedTuple):
    """What the increments are made of, and what they are multiplied by."""

    features: Features
    rule: Increments
    test: Instrument
    running: Running | None


class Sums(NamedTuple):
    """What a block adds to the normal equations."""

    gram: Tensor  # [q, q]
    target: Tensor  # [q]
    rows: int  # of the two below; 0 where they were not looked at
    largest: Tensor  # [q] max_k xi_k^2
    total: Tensor  # [q] sum_k xi_k^2


def test_functions(method: Method, phi: Tensor, batch: Trajectory, whole: bool) -> Tensor:  # [K, B, p] -> [K, B, q]
    """xi of every step, 0 where the rule has no increment; `whole`: it has them all."""
    xi = method.test.forward(phi, batch)
    if method.running is not None:
        xi = torch.cat([xi, method.running.rates(batch.obs[:-1], batch.action).double()], dim=-1)
    return xi if whole else xi * method.rule.usable(batch).unsqueeze(-1)


def block_sums(method: Method, batch: Trajectory, *, whole: bool, watch: bool) -> Sums:
    """One block; `watch` looks at the squares of the test functions too."""
    phi, features = evaluated(method.features, batch)
    xi = test_functions(method, phi[:-1], batch, whole).flatten(0, 1)
    change = regressors(batch, features, method.rule, method.running).flatten(0, 1)
    earned = method.rule.earned(batch).double().flatten()
    if torch.compiler.is_compiling() and whole and xi.shape[1] <= THIN:
        gram, target = fused_inner(xi.T, change.T), (xi.T * earned).sum(-1)
    else:
        gram, target = inner(xi, change), xi.T @ earned
    rows, seen = (len(xi), largest_and_sum(xi)) if watch else (0, (target, target))
    return Sums(-gram, target, rows, *seen)


def fused_inner(left: Tensor, right: Tensor) -> Tensor:  # [q, N], [q, N] -> [q, q]
    """left right' as plain sums, which the compiler makes one loop over the rows: a tile of products for each load."""
    q = len(left)
    tile = next((size for size in (2, 3, 5) if q % size == 0), 1)
    sums = [[(left[i::tile].unsqueeze(1) * right[j::tile]).sum(-1) for j in range(tile)] for i in range(tile)]
    return torch.stack([torch.stack(row, dim=-1) for row in sums], dim=1).reshape(q, q)


Columns = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]  # of a trajectory, in their order


def traced(method: Method, whole: bool, watch: bool, columns: Columns) -> Sums:
    """`block_sums` as a function of tensors."""
    return block_sums(method, Trajectory(*columns), whole=whole, watch=watch)


@cache
def compiled() -> Callable[..., Any]:
    """`traced`, compiled once for each method and shape."""
    return torch.compile(traced, fullgraph=True, dynamic=False)


def compiled_sums(method: Method, batch: Trajectory) -> Iterator[Sums]:
    """Blocks of one shape in one compiled pass each, and what is left by plain operations."""
    steps, paths = batch.reward.shape
    most = max(1, COMPILED_ROWS * torch.get_num_threads() // (steps * LANES)) * LANES
    width = min(most, max(1, paths // LANES) * LANES)
    whole, last = every_step(method, batch), paths - paths % width
    rule = replace(method.rule, endless=not bool(batch.terminated.any()))
    method = method._replace(rule=rule)
    for start in range(0, last, width):
        watch = start // width % WATCH_EVERY == 0
        yield run_compiled(method, paths_of(batch, slice(start, start + width)), whole=whole, watch=watch)
    if last < paths:
        yield from plain_sums(method, paths_of(batch, slice(last, paths)))


def every_step(method: Method, batch: Trajectory) -> bool:
    """Whether the rule has an increment for every step."""
    return bool(method.rule.usable(batch).all())


def run_compiled(method: Method, part: Trajectory, *, whole: bool, watch: bool) -> Sums:
    """The compiled pass over one block; its limit of variants serves a program with many methods."""
    columns = (part.t, part.obs, part.action, part.reward, part.dt, part.terminated)
    try:
        with torch._dynamo.config.patch(recompile_limit=64):
            sums: Sums = compiled()(method, whole, watch, columns)
    except torch._dynamo.exc.TorchDynamoException as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(f"features and test functions must compile, got {reason}; or set compiled=False") from error
    return sums


def plain_sums(method: Method, batch: Trajectory) -> Iterator[Sums]:
    """Blocks that stay in the cache, by plain operations."""
    whole = every_step(method, batch)
    for number, part in enumerate(blocks(batch)):
        yield block_sums(method, part, whole=whole, watch=number % WATCH_EVERY == 0)
