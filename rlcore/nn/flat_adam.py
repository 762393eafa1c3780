"""Adam for S independent runs at once, on one flat vector of parameters per run.

    m += (1 - b1)(g - m),  v += (1 - b2)(g^2 - v),  p -= rate (m / (1 - b1^k)) / (sqrt(v / (1 - b2^k)) + eps)

One vector [S, P] takes a dozen operations per step, however many layers there are. A run can rest while the others go
on: its parameters, moments and count of steps then stay as they are, and nobody has to look which runs those are.
Source: Kingma and Ba, "Adam", ICLR 2015, algorithm 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from rlcore.errors import ShapeError
from rlcore.parallel import world

B1, B2, EPS = 0.9, 0.999, 1e-8
Loss = Callable[..., tuple[Tensor, tuple[Tensor, ...]]]


class FlatAdam(nn.Module):
    """Adam's moments for a module whose parameters lead with [S, ...] or [S k, ...], run by run.

    `loss` names a method of the module from tensors to ([S] losses, other tensors [S] worth seeing). Among several
    processes all of these and the gradient are means over the processes.
    """

    mean: Tensor  # [S, P]
    square: Tensor  # [S, P]
    steps: Tensor  # [S]

    def __init__(self, module: nn.Module, loss: str, seeds: int, *, compiled: bool = False) -> None:
        super().__init__()
        self.world = world()
        self.names = [name for name, _ in module.named_parameters()]
        self.shapes = [p.shape for p in module.parameters()]
        for name, shape in zip(self.names, self.shapes, strict=True):
            if not shape or shape[0] % seeds:
                raise ShapeError(f"{name} must lead with a multiple of {seeds} seeds, got {list(shape)}")
        self.sizes, self.seeds, self.compiled = [shape.numel() // seeds for shape in self.shapes], seeds, compiled
        self.method = [Bound(module, loss)]  # in a list, so that the module is not a part of this one
        for name in ("mean", "square"):
            self.register_buffer(name, torch.zeros(seeds, sum(self.sizes)))
        self.register_buffer("steps", torch.zeros(seeds))
        self.step: Callable[..., tuple[Tensor, ...]] = self.take
        self.slope: Callable[..., tuple[Tensor, ...]] = self.gradient_of
        self.go: Callable[..., Tensor] = self.move
        if compiled and world().alone:
            self.step = torch.compile(self.take, fullgraph=True, dynamic=False)
        elif compiled:  # the gradient is exchanged between two graphs: none can hold what waits for other processes
            self.slope = torch.compile(self.gradient_of, fullgraph=True, dynamic=False)
            self.go = torch.compile(self.move, fullgraph=True, dynamic=False)

    @torch.no_grad()
    def flat(self) -> Tensor:  # -> [S, P]
        """The module's parameters as one vector per run, a copy."""
        parameters = self.method[0].owner.parameters()
        return torch.cat([p.detach().reshape(self.seeds, -1) for p in parameters], 1)

    @torch.no_grad()
    def store(self, flat: Tensor) -> None:
        """Write such vectors back into the module."""
        for p, part in zip(self.method[0].owner.parameters(), torch.split(flat, self.sizes, 1), strict=True):
            p.copy_(part.reshape(p.shape))

    def named(self, flat: Tensor) -> dict[str, Tensor]:
        """Parameters by name, views of the vectors."""
        parts = torch.split(flat, self.sizes, 1)
        return {f"owner.{n}": x.reshape(s) for n, x, s in zip(self.names, parts, self.shapes, strict=True)}

    def take(
        self, flat: Tensor, rate: Tensor, clip: float, active: Tensor, limit: float, *args: Any
    ) -> tuple[Tensor, ...]:
        """One step in place on flat [S, P] where active [S]; -> (active, losses [S], *seen).

        A run whose first seen tensor [S] exceeds `limit` rests in this step and in those after it. Rows of the gradient
        longer than `clip` are shortened to it.
        """
        gradient, losses, *seen = self.slope(flat, *args)
        if not self.world.alone:
            self.world.average_([gradient, losses, *seen])
        active = self.go(flat, gradient, rate, clip, active, limit, seen[0] if seen else losses)
        return (active, losses, *seen)

    def gradient_of(self, flat: Tensor, *args: Any) -> tuple[Tensor, ...]:
        """The gradient [S, P], the losses [S] and what else the loss shows."""
        if self.compiled:
            gradient, (_, (losses, seen)) = torch.func.grad_and_value(self.total, has_aux=True)(flat, *args)
            return (gradient, losses, *seen)
        with torch.enable_grad():
            leaf = flat.detach().requires_grad_()
            total, (losses, seen) = self.total(leaf, *args)
            (gradient,) = torch.autograd.grad(total, leaf)
        return (gradient, losses.detach(), *(x.detach() for x in seen))

    def move(
        self, flat: Tensor, gradient: Tensor, rate: Tensor, clip: float, active: Tensor, limit: float, watched: Tensor
    ) -> Tensor:
        """Adam's step in place along gradients [S, P], where active [S] and `watched` [S] is within the limit."""
        if limit < math.inf:
            active = active * (watched <= limit)
        move = active.unsqueeze(1)
        if clip < math.inf:
            gradient = gradient * (clip / (gradient.norm(dim=1, keepdim=True) + 1e-6)).clamp(max=1.0)
        self.steps.add_(active)
        self.mean.lerp_(gradient, (1.0 - B1) * move)
        self.square.lerp_(gradient * gradient, (1.0 - B2) * move)
        k = self.steps.clamp(min=1.0).unsqueeze(1)
        begun, begun_square = (-torch.expm1(k * math.log(b)) for b in (B1, B2))  # 1 - b^k without cancellation
        size = (self.square / begun_square).sqrt() + EPS
        flat.sub_(move * rate / begun * self.mean / size)
        return active

    def total(self, flat: Tensor, *args: Any) -> tuple[Tensor, tuple[Tensor, tuple[Tensor, ...]]]:
        """The sum of the runs' losses, whose gradient is each run's own."""
        losses, seen = functional_call(self.method[0], self.named(flat), args)
        return losses.sum(), (losses, seen)


class Bound(nn.Module):
    """A method of a module as a module, so that its parameters can be given from outside."""

    def __init__(self, owner: nn.Module, name: str) -> None:
        super().__init__()
        self.owner, self.name = owner, name

    def forward(self, *args: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
        return getattr(self.owner, self.name)(*args)  # type: ignore[no-any-return]
