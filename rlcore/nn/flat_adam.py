"""Adam for S independent runs at once, on one flat vector of parameters per run.

    m += (1 - b1)(g - m),  v += (1 - b2)(g^2 - v),  p -= rate (m / (1 - b1^k)) / (sqrt(v / (1 - b2^k)) + eps)

One vector [S, P] takes a dozen operations per step, however many layers there are. A run can rest while the others go
on: its parameters, moments and count of steps then stay as they are, and nobody has to look which runs those are.
Source: Kingma and Ba, "Adam", ICLR 2015, algorithm 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from rlcore.errors import ShapeError
from rlcore.nn.graphs import Compiled, made
from rlcore.parallel import world

B1, B2, EPS = 0.9, 0.999, 1e-8
Loss = Callable[..., tuple[Tensor, tuple[Tensor, ...]]]


class Descent(NamedTuple):
    """Where S runs are on their way down; a step changes it in place."""

    flat: Tensor  # [S, P] parameters
    mean: Tensor  # [S, P] m
    square: Tensor  # [S, P] v
    steps: Tensor  # [S] k
    begun: Tensor  # [2, S] 1 - b1^k and 1 - b2^k

    def of(self, runs: Tensor) -> Descent:  # int64 [s]
        """Some of the runs alone, a copy."""
        return Descent(self.flat[runs], self.mean[runs], self.square[runs], self.steps[runs], self.begun[:, runs])

    def put(self, runs: Tensor, part: Descent) -> None:
        """Write where these runs are now."""
        for mine, new in zip(self[:4], part[:4], strict=True):
            mine[runs] = new
        self.begun[:, runs] = part.begun


class Pace(NamedTuple):
    """How steps are taken."""

    rate: Tensor  # [] the step size
    clip: float = math.inf
    """Longer rows of a gradient are shortened to it."""
    limit: float = math.inf
    """A run whose watched number exceeds it rests, in this step and in those after it."""


class FlatAdam(nn.Module):
    """Adam's moments for a module whose parameters lead with [S, ...] or [S k, ...], run by run.

    `loss` names a method of the module from tensors to ([S] losses, other tensors [S] worth seeing). Among several
    processes all of these and the gradient are means over the processes.
    """

    mean: Tensor  # [S, P]
    square: Tensor  # [S, P]
    steps: Tensor  # [S]

    def __init__(self, module: nn.Module, loss: str, seeds: int, *, compiled: Compiled = False) -> None:
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
        self.slope: Callable[..., tuple[Tensor, ...]] = made(self.gradient_of, (), compiled)
        self.go: Callable[..., Tensor] = made(self.move, ("at",), compiled)
        self.taken: Callable[..., tuple[Tensor, ...]] = made(self.take, ("at",), compiled)

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
        """Parameters by name, views of the vectors, of all runs or of some."""
        parts = torch.split(flat, self.sizes, 1)
        return {f"owner.{n}": x.reshape(-1, *s[1:]) for n, x, s in zip(self.names, parts, self.shapes, strict=True)}

    def begin(self, flat: Tensor | None = None) -> Descent:
        """From the module's parameters, or these: to be read once for many steps, and stored after the last."""
        begun = torch.stack([-torch.expm1(self.steps * math.log(b)) for b in (B1, B2)])  # without cancellation
        return Descent(self.flat() if flat is None else flat, self.mean, self.square, self.steps, begun)

    def step(self, at: Descent, pace: Pace, active: Tensor, *args: Tensor) -> tuple[Tensor, ...]:
        """`take` from anywhere; compiled it is one graph, among several processes two."""
        if self.world.alone:
            return self.taken(at, pace, active, args)
        return self.step_over(at, pace, active, [args])

    def step_over(
        self, at: Descent, pace: Pace, active: Tensor, parts: Sequence[tuple[Tensor, ...]]
    ) -> tuple[Tensor, ...]:
        """The same step from equal parts of its rows, one after the other: small ones stay in a processor's cache.

        Among several processes the gradient is exchanged between the two graphs: none can hold what waits for others.
        """
        found = list(self.slope(at.flat, parts[0]))
        for args in parts[1:]:
            torch._foreach_add_(found, self.slope(at.flat, args))
        if len(parts) > 1:
            torch._foreach_div_(found, float(len(parts)))
        self.world.average_(found)
        gradient, losses, *seen = found
        active = self.go(at, pace, active, gradient, seen[0] if seen else losses)
        return (active, losses, *seen)

    def take(self, at: Descent, pace: Pace, active: Tensor, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """One step in place where active [S]; -> (active, losses [S], *seen). What is watched is the first seen [S]."""
        gradient, losses, *seen = self.gradient_of(at.flat, args)
        active = self.move(at, pace, active, gradient, seen[0] if seen else losses)
        return (active, losses, *seen)

    def gradient_of(self, flat: Tensor, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The gradient [S, P], the losses [S] and what else the loss shows."""
        if self.compiled:
            gradient, (_, (losses, seen)) = torch.func.grad_and_value(self.total, has_aux=True)(flat, *args)
            return (gradient, losses, *seen)
        with torch.enable_grad():
            leaf = flat.detach().requires_grad_()
            total, (losses, seen) = self.total(leaf, *args)
            (gradient,) = torch.autograd.grad(total, leaf)
        return (gradient, losses.detach(), *(x.detach() for x in seen))

    def move(self, at: Descent, pace: Pace, active: Tensor, gradient: Tensor, watched: Tensor) -> Tensor:
        """Adam's step in place along gradients [S, P], where active [S] and `watched` [S] is within the limit."""
        if pace.limit < math.inf:
            active = active * (watched <= pace.limit)
        move = active.unsqueeze(1)
        if pace.clip < math.inf:
            gradient = gradient * (pace.clip / (gradient.norm(dim=1, keepdim=True) + 1e-6)).clamp(max=1.0)
        at.steps.add_(active)
        for begun, b in zip(at.begun, (B1, B2), strict=True):
            begun.add_((1.0 - b) * active * (1.0 - begun))
        at.mean.add_((1.0 - B1) * move * (gradient - at.mean))
        at.square.add_((1.0 - B2) * move * (gradient * gradient - at.square))
        first, second = (begun.clamp(min=1e-8).unsqueeze(1) for begun in at.begun)
        size = (at.square / second).sqrt() + EPS
        at.flat.sub_(move * pace.rate / first * at.mean / size)
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
