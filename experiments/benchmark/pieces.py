"""Normals, draws from a replay, log-densities and advantages, by size, beside what one would write without them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from stable_baselines3.common.buffers import ReplayBuffer as Sb3Replay
from torch import Tensor

from rlcore.data import ReplayBuffer, Transitions
from rlcore.experiments.benchmark.machine import machine
from rlcore.experiments.benchmark.timing import Work, interleave, table
from rlcore.functional.returns import traced_sum
from rlcore.nn.heads import DiagonalGaussian
from rlcore.simulation.drawn import draw
from rlcore.simulation.noise import Stream, blocks, normals

NORMALS, ACTIONS, OBSERVATIONS = 4, 6, 3
STORED, AT_ONCE = 100_000, 16
"""Rows in the replay, and batches drawn at once where several are."""
STEPS, DT, TRACE = 128, 0.05, 1.0
"""Of the advantages: steps, and seconds of a step and of the trace."""


class Piece(NamedTuple):
    """One hot path."""

    what: str
    unit: str
    works: Callable[[int, bool], dict[str, Work]]
    """Workloads of a size, compiled or not; the first is the one that all are compared with."""
    sizes: Sequence[int]
    moved: float
    """Bytes read and written at the least for one unit."""


def measure(rounds: int = 9, *, compiled: bool = True) -> list[dict[str, Any]]:
    """Rates by size; one thread."""
    torch.set_num_threads(1)
    return [row for piece in PIECES for size in piece.sizes for row in rows(piece, size, rounds, compiled=compiled)]


def rows(piece: Piece, size: int, rounds: int, *, compiled: bool = True) -> list[dict[str, Any]]:
    """One size of a piece."""
    works = piece.works(size, compiled)
    about: dict[str, Any] = {
        "what": piece.what,
        "batch": size,
        "limit": machine().limit(moved=piece.moved),
        "unit": piece.unit,
    }
    return table(interleave(works, rounds=rounds, least=0.02), next(iter(works)), **about)


def named(ours: dict[str, Work], peers: dict[str, Work]) -> dict[str, Work]:
    """The quickest of ours first, which is the last given."""
    return dict(reversed(ours.items())) | peers


def drawing(size: int, compiled: bool) -> dict[str, Work]:
    """Four normals for each row: a pure function of row and step, beside a generator that has a state."""
    row, generator, step = torch.arange(size), torch.Generator().manual_seed(0), 0

    def ours(one: Any) -> Work:
        def work() -> int:
            nonlocal step
            normals(0, row, Stream.PROCESS, NORMALS * step, NORMALS, torch.float32, one)
            step += 1
            return NORMALS * size

        return work

    def stateful() -> int:
        torch.randn(NORMALS, size, generator=generator)
        return NORMALS * size

    found = {"rlcore": ours(blocks)}
    if compiled:
        found["rlcore, compiled"] = ours(draw)
    return named(found, {"torch.randn": stateful})


def experience(rows: int) -> Transitions:
    """Rows of noise."""
    generator = torch.Generator().manual_seed(0)
    obs, action, reward = (torch.randn(rows, n, generator=generator) for n in (OBSERVATIONS, 1, 1))
    flat = reward.squeeze(1)
    return Transitions(obs, action, flat, torch.full_like(flat, 0.99), obs + 0.1, torch.full_like(flat, DT))


def replaying(size: int, compiled: bool) -> dict[str, Work]:
    """Rows drawn with replacement: ours, five tensors indexed, Stable-Baselines3's buffer, a list of tuples.

    A source that draws more than once between two feeds draws several batches at once, as one may do by indexing too.
    """
    import gymnasium

    data, buffer, generator = experience(STORED), ReplayBuffer(STORED), torch.Generator().manual_seed(0)
    buffer.add(data)
    box = gymnasium.spaces.Box(-9.0, 9.0, (OBSERVATIONS,)), gymnasium.spaces.Box(-9.0, 9.0, (1,))
    theirs = Sb3Replay(STORED, *box, device="cpu", handle_timeout_termination=False)
    arrays = [x.numpy() for x in (data.obs, data.next_obs, data.action, data.reward)]
    theirs.observations[:, 0], theirs.next_observations[:, 0], theirs.actions[:, 0], theirs.rewards[:, 0] = arrays
    theirs.full = True
    columns = data.obs, data.action, data.reward, data.discount, data.next_obs
    tuples = list(zip(*columns, strict=True))

    def ours() -> int:
        buffer.sample(size, generator=generator)
        return size

    def ours_at_once() -> int:
        buffer.samples(AT_ONCE, size, generator=generator)
        return AT_ONCE * size

    def five() -> int:
        index = torch.randint(STORED, (size,), generator=generator)
        _ = [x[index] for x in columns]
        return size

    def five_at_once() -> int:
        index = torch.randint(STORED, (AT_ONCE, size), generator=generator)
        _ = [x[index].unbind(0) for x in columns]
        return AT_ONCE * size

    def sb3() -> int:
        theirs.sample(size)
        return size

    def listed() -> int:
        chosen = [tuples[k] for k in torch.randint(STORED, (size,), generator=generator).tolist()]
        _ = [torch.stack(x) for x in zip(*chosen, strict=True)]
        return size

    found = {f"rlcore, {AT_ONCE} batches at once": ours_at_once, "rlcore": ours}
    peers = {"five tensors": five, f"five tensors, {AT_ONCE} batches at once": five_at_once}
    return found | peers | {"sb3 ReplayBuffer": sb3, "list of tuples": listed}


def densities(size: int, compiled: bool) -> dict[str, Work]:
    """An action of six components and its log-density, from given moments; everyone draws by torch's generator."""
    head, generator = DiagonalGaussian(ACTIONS, -1.0, 1.0), torch.Generator().manual_seed(0)
    mean = torch.randn(size, ACTIONS, generator=generator)
    law = torch.cat([mean, torch.zeros_like(mean)], -1)

    def pair(law: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        action = head.act(law, noise)
        return action, head.log_prob(law, action)

    def ours(function: Callable[..., Any]) -> Work:
        def work() -> int:
            function(law, torch.randn(size, ACTIONS))
            return size

        return work

    def theirs(validate: bool) -> Work:
        def work() -> int:
            normal = torch.distributions.Normal(mean, torch.ones_like(mean), validate_args=validate)
            normal.log_prob(normal.rsample()).sum(-1)  # type: ignore[no-untyped-call]
            return size

        return work

    found = {"rlcore": ours(pair)}
    if compiled:
        found["rlcore, compiled"] = ours(torch.compile(pair, fullgraph=True, dynamic=False))
    return named(found, {"Normal": theirs(True), "Normal, unchecked": theirs(False)})


def advantages(size: int, compiled: bool) -> dict[str, Work]:
    """Generalised advantages of 128 steps of each path; rows of paths are the unit."""
    generator = torch.Generator().manual_seed(0)
    delta = torch.randn(STEPS, size, generator=generator)
    discount, dt = torch.full_like(delta, 0.99), torch.full_like(delta, DT)
    last = torch.rand(delta.shape, generator=generator) < 1.0 / 200.0
    fade, arrays = math.exp(-DT / TRACE), (delta.numpy(), discount.numpy(), last.numpy())

    def ours(function: Callable[..., Any]) -> Work:
        def work() -> int:
            function(delta, discount, dt, last, TRACE)
            return delta.numel()

        return work

    def indexed() -> int:
        loop(delta, discount, last, fade, torch.zeros_like)
        return delta.numel()

    def numpy() -> int:
        loop(*arrays, fade, np.zeros_like)
        return delta.numel()

    found = {"rlcore": ours(traced_sum)}
    if compiled:
        found["rlcore, compiled"] = ours(torch.compile(traced_sum, fullgraph=True, dynamic=False))
    return named(found, {"loop over steps": indexed, "NumPy, loop over steps": numpy})


def loop(delta: Any, discount: Any, last: Any, fade: float, zeros: Callable[[Any], Any]) -> Any:
    """The recurrence as one writes it, row by row, for tensors or arrays."""
    found, ahead = zeros(delta), zeros(delta[0])
    for k in range(STEPS - 1, -1, -1):
        ahead = delta[k] + fade * discount[k] * ~last[k] * ahead
        found[k] = ahead
    return found


PIECES = (
    Piece("normals, 4 of each row", "normals", drawing, (64, 1024, 16384), 4.0),
    Piece("draws from a replay", "rows", replaying, (64, 256, 4096), 80.0),
    Piece("Gaussian sample and log-density, 6-dim", "rows", densities, (256, 4096, 65536), 100.0),
    Piece("advantages of 128 steps", "rows", advantages, (64, 1024, 8192), 17.0),
)
"""Bytes: a normal is written; a row of ten numbers is read and written; mean, noise and action of six and one density;
what is earned, discount, dt, end and the advantage."""
