"""Steps of Adam on a loss: eager, or one compiled graph of loss, gradient, moments and parameters together.

    m += (1 - b1)(g - m),  v += (1 - b2)(g^2 - v),  p -= rate (m / (1 - b1^k)) / (sqrt(v / (1 - b2^k)) + eps)

Small networks spend most of an eager step between their operations; one graph does not. Both keep Adam's state where
`torch.optim` does, so that a checkpoint of one serves the other; they agree to rounding, not bit for bit.
Source: Kingma and Ba, "Adam", ICLR 2015, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value
from torch.optim import Adam, Optimizer

from rlcore.nn.graphs import Compiled, Graph, is_recorded
from rlcore.parallel import world

Seen = tuple[Tensor, ...]
Named = dict[str, Tensor]


class Loss(Protocol):
    """A loss [] and what else is worth seeing, from tensors."""

    def __call__(self, *args: Any) -> tuple[Tensor, Seen]: ...


class Moments(NamedTuple):
    """Adam's state of some parameters, in their order; a step changes it in place."""

    steps: list[Tensor]  # [] each
    means: list[Tensor]
    squares: list[Tensor]


class Following(NamedTuple):
    """A slow copy that goes `rate` of the way after each step."""

    slow: nn.Module
    fast: nn.Module
    rate: float


def adam(parameters: Iterable[nn.Parameter], rate: float) -> Adam:
    """Adam with one call for all parameters."""
    return Adam(list(parameters), lr=rate, fused=True)


def descend(optimizer: Optimizer, loss: Tensor) -> None:
    """One step of the optimiser; only its own parameters get a gradient."""
    own = [p for group in optimizer.param_groups for p in group["params"]]
    optimizer.zero_grad()
    loss.backward(inputs=own)  # type: ignore[no-untyped-call]
    world().average_([p.grad for p in own if p.grad is not None])
    optimizer.step()


@torch.no_grad()
def follow(slow: nn.Module, fast: nn.Module, rate: float) -> None:
    """slow += rate (fast - slow), for all parameters at once."""
    torch._foreach_lerp_(list(slow.parameters()), list(fast.parameters()), rate)


def step_of(
    owner: nn.Module,
    loss: str,
    optimizer: Adam,
    following: Following | None = None,
    *,
    compiled: Compiled,
    key: object = None,
) -> Callable[..., Seen]:
    """The step that moves the optimiser's parameters down the owner's loss of this name -> (loss, *seen), detached.

    Compiling takes longer than many steps. Owners whose `key` reads the same share one graph: their losses must then
    differ in nothing but their parameters and arguments.
    """
    if compiled:
        return FusedStep(owner, loss, optimizer, following, key, recorded=is_recorded(compiled))
    return EagerStep(owner, loss, optimizer, following)


class EagerStep:
    """By autograd and the optimiser."""

    def __init__(self, owner: nn.Module, loss: str, optimizer: Adam, following: Following | None) -> None:
        self.loss: Loss = getattr(owner, loss)
        self.optimizer, self.following = optimizer, following

    def __call__(self, *args: Any) -> Seen:
        loss, seen = self.loss(*args)
        descend(self.optimizer, loss)
        if self.following is not None:
            follow(*self.following)
        return tuple(x.detach() for x in (loss, *seen))


class Method(nn.Module):
    """A method of a module as a module, so that its parameters can be given from outside."""

    def __init__(self, owner: nn.Module, name: str) -> None:
        super().__init__()
        self.owner, self.name = owner, name

    def forward(self, *args: Any) -> tuple[Tensor, Seen]:
        return getattr(self.owner, self.name)(*args)  # type: ignore[no-any-return]


def state_of(optimizer: Optimizer, parameter: nn.Parameter) -> dict[str, Tensor]:
    """Adam's state of a parameter, begun where `torch.optim` would begin it."""
    state: dict[str, Tensor] = optimizer.state[parameter]
    if not state:
        state["step"] = torch.zeros((), device=parameter.device)
        state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
    return state


MOVED = ("parameters", "slow", "moments")
"""Arguments that a step changes in place."""
GRAPHS: dict[str, Callable[..., Any]] = {}
"""Compiled graphs by their keys; each keeps the owner that it was compiled for, but not what that one learns."""


def compiled_once(method: Any, name: str | None, changed: Sequence[str], recorded: bool) -> Callable[..., Any]:
    """A method as one `Graph`; one that is known by its name is taken again."""
    if name is not None and name in GRAPHS:
        return GRAPHS[name]
    graph = Graph(method, changed, recorded=recorded)
    if name is not None:
        GRAPHS[name] = graph
    return graph


class FusedStep:
    """By one compiled graph; compiled again for every new size of its arguments."""

    def __init__(
        self,
        owner: nn.Module,
        loss: str,
        optimizer: Adam,
        following: Following | None,
        key: object = None,
        *,
        recorded: bool = False,
    ) -> None:
        self.recorded = recorded
        self.method, self.optimizer, self.following = Method(owner, loss), optimizer, following
        own = {id(p) for group in optimizer.param_groups for p in group["params"]}
        self.parameters = {name: p for name, p in self.method.named_parameters() if id(p) in own}
        names = {id(p): name for name, p in self.parameters.items()}
        self.slow: dict[str, nn.Parameter] = {}
        self.fast: list[str] = []
        if following is not None:
            copies = {id(p) for p in following.slow.parameters()}
            self.slow = {name: p for name, p in self.method.named_parameters() if id(p) in copies}
            self.fast = [names[id(p)] for p in following.fast.parameters()]
        moved = self.parameters.keys() | self.slow.keys()
        self.fixed = {name: p for name, p in self.method.named_parameters() if name not in moved}
        self.world = world()
        pieces = [self.graph] if self.world.alone else [self.slope, self.move]  # no graph can wait for other processes
        self.compiled = [
            compiled_once(piece, None if key is None else repr((key, loss, n)), MOVED, recorded)
            for n, piece in enumerate(pieces)
        ]

    @torch.no_grad()
    def __call__(self, *args: Any) -> Seen:
        parts, moments, group = (self.parameters, self.slow, self.fixed), self.moments(), self.group
        given = [{name: p.detach() for name, p in part.items()} for part in parts]
        b1, b2 = group["betas"]
        after = moments.steps[0] + 1.0  # k, the same for all
        corrections = (group["lr"] / (1.0 - b1**after), (1.0 - b2**after).rsqrt())
        rest = (moments, corrections, (b1, b2, group["eps"]))
        if len(self.compiled) == 1:
            found: Seen = self.compiled[0](*given, *rest, args)
            return found
        slope, move = self.compiled
        gradient, *seen = slope(*given, args)
        self.world.average_(list(gradient.values()))
        move(*given[:2], gradient, *rest)
        return tuple(seen)

    @property
    def group(self) -> dict[str, Any]:
        """Rates and settings of the optimiser."""
        (group,) = self.optimizer.param_groups
        return group

    def moments(self) -> Moments:
        """What a step moves beside the parameters."""
        state = [state_of(self.optimizer, p) for p in self.parameters.values()]
        return Moments(*([s[name] for s in state] for name in ("step", "exp_avg", "exp_avg_sq")))

    def graph(
        self,
        parameters: Named,
        slow: Named,
        fixed: Named,
        moments: Moments,
        corrections: tuple[Tensor, Tensor],
        settings: tuple[float, float, float],
        args: tuple[Any, ...],
    ) -> Seen:
        """What is compiled: everything is changed in place."""
        gradient, *seen = self.slope(parameters, slow, fixed, args)
        self.move(parameters, slow, gradient, moments, corrections, settings)
        return tuple(seen)

    def slope(self, parameters: Named, slow: Named, fixed: Named, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Gradient by name, loss, and what else the loss shows."""

        def loss_of(given: Named) -> tuple[Tensor, Seen]:
            return functional_call(self.method, {**fixed, **slow, **given}, args)  # type: ignore[no-any-return]

        gradient, (loss, seen) = grad_and_value(loss_of, has_aux=True)(parameters)
        return (gradient, loss, *seen)

    def move(
        self,
        parameters: Named,
        slow: Named,
        gradient: Named,
        moments: Moments,
        corrections: tuple[Tensor, Tensor],
        settings: tuple[float, float, float],
    ) -> None:
        """Adam, and the slow copy after it.

        `corrections` are rate / (1 - b1^k) and 1 / sqrt(1 - b2^k): in here they would be computed for every number.
        """
        (first, second), (b1, b2, eps) = corrections, settings
        for name, k, m, v in zip(parameters, *moments, strict=True):
            g = gradient[name]
            k.add_(1.0)
            m.lerp_(g, 1.0 - b1)
            v.lerp_(g * g, 1.0 - b2)
            parameters[name].sub_(first * m / (v.sqrt() * second + eps))
        if self.following is not None:
            for copy, name in zip(slow.values(), self.fast, strict=True):
                copy.lerp_(parameters[name], self.following.rate)
