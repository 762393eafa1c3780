"""Ten critics of two hidden layers as one batched network beside a loop over modules: updates per second by width."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rlcore.experiments.benchmark.machine import machine
from rlcore.experiments.benchmark.timing import Work, interleave, table
from rlcore.nn.ensemble import Ensemble, Layers
from rlcore.nn.steps import adam, step_of

INPUTS, MEMBERS, ROWS, RATE = 4, 10, 256, 3e-4


class Regression(nn.Module):
    """The mean squared error of all members."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers, generator = Layers((width, width)), torch.Generator().manual_seed(0)
        self.critics = Ensemble(1, MEMBERS, INPUTS, 1, layers, generator=generator)

    def loss(self, x: Tensor, y: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return (self.critics(x.unsqueeze(0)).squeeze(-1) - y).square().sum(1).mean(), ()


def data() -> tuple[Tensor, Tensor]:
    """Rows of noise."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(ROWS, INPUTS, generator=generator), torch.randn(ROWS, generator=generator)


def ours(width: int, updates: int, *, compiled: bool) -> tuple[Work, Regression]:
    """One step of Adam on all members at once."""
    owner = Regression(width)
    step = step_of(owner, "loss", adam(owner.parameters(), RATE), compiled=compiled)
    x, y = data()

    def work() -> int:
        for _ in range(updates):
            step(x, y)
        return updates

    return work, owner


def loop(width: int, updates: int, like: Regression) -> tuple[Work, list[nn.Sequential]]:
    """Ten modules with the same weights, and Adam's each, as published code has them."""
    members = []
    for e in range(MEMBERS):
        layers: list[nn.Module] = []
        for linear in (*like.critics.hidden, like.critics.head):
            weight = linear.get_parameter("weight")[e]
            layer = nn.Linear(*weight.shape)
            layer.weight.data.copy_(weight.T)
            layer.bias.data.copy_(linear.get_parameter("bias")[e, 0])
            layers += [layer, nn.ReLU()]
        members.append(nn.Sequential(*layers[:-1]))
    optimizers = [torch.optim.Adam(member.parameters(), RATE) for member in members]
    x, y = data()

    def work() -> int:
        for _ in range(updates):
            for member, optimizer in zip(members, optimizers, strict=True):
                optimizer.zero_grad()
                loss = (member(x).squeeze(-1) - y).square().mean()
                loss.backward()
                optimizer.step()
        return updates

    return work, members


def rates(width: int, updates: int = 5, rounds: int = 31, *, compiled: bool = True) -> dict[str, list[float]]:
    """Updates of all ten per core-second; one thread."""
    torch.set_num_threads(1)
    eager, owner = ours(width, updates, compiled=False)
    workloads = {"rlcore": eager}
    if compiled:
        workloads["rlcore, compiled"] = ours(width, updates, compiled=True)[0]
    workloads["loop of modules"] = loop(width, updates, copy.deepcopy(owner))[0]
    return interleave(workloads, rounds=rounds)


def measure(widths: Sequence[int] = (64, 256), rounds: int = 31) -> list[dict[str, Any]]:
    """Forward, backward and Adam; a member does 6 operations per weight and row."""
    rows = []
    for width in widths:
        weights = MEMBERS * (INPUTS * width + width * width + width)
        about: dict[str, Any] = {
            "what": f"10 critics, 2 x {width}",
            "batch": ROWS,
            "limit": machine().limit(operations=6.0 * ROWS * weights),
        }
        rows += table(rates(width, rounds=rounds), "rlcore, compiled", **about, versions=f"torch {torch.__version__}")
    return rows
