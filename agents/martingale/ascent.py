"""Steps up objectives within an update: eager, or traced into one compiled graph of the whole update.

    body(steps, *args) -> tensors by name,    steps[name](pace, *arguments of its objective) -> (alive, *seen)
    objective(*args) -> (objective [], alive [], *seen);    theta_g += rate_g pace d,   nothing where not alive

d is the gradient, cut to a largest norm, or what Adam makes of it. `pace` [s] is a tensor, so that a decaying rate does
not compile again. What has diverged moves nothing, in either form: whoever called looks at `alive` after the update.
Source: Kingma and Ba, "Adam", ICLR 2015, algorithm 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad
from torch.optim import SGD, Adam, Optimizer

from rlcore.agents.martingale.online import climb
from rlcore.errors import ConfigError
from rlcore.nn.graphs import Compiled, Graph, is_recorded, line
from rlcore.nn.steps import Following, Method, Moments, Named, Seen, follow, state_of
from rlcore.parallel import world

Body = Callable[..., Named]
Steps = Mapping[str, Callable[..., Seen]]
PLAIN = {"weight_decay": 0, "momentum": 0, "nesterov": False, "amsgrad": False, "maximize": False}
"""The settings with which SGD and Adam can be traced: without more."""


class Ascent(NamedTuple):
    """One step of an update."""

    objective: str
    """Method of the owner."""
    optimizer: Optimizer
    """Of `rated_optimizer`."""
    clip: float
    """Largest Euclidean norm of the gradient."""
    following: Following | None = None
    """A slow copy that follows after the step."""


def update_of(
    owner: nn.Module, body: Body, ascents: Mapping[str, Ascent], *, compiled: Compiled
) -> Callable[..., Named]:
    """The body with its steps; one graph if compiled, unless there are other processes, for which no graph can wait.

    Apart from steps the body must change nothing, and read no parameter.
    """
    if compiled:
        for ascent in ascents.values():
            check_optimizer(ascent.optimizer)
        if world().alone:
            return TracedUpdate(owner, body, ascents, recorded=is_recorded(compiled))
    return partial(body, {name: EagerAscent(owner, ascent) for name, ascent in ascents.items()})


def check_optimizer(optimizer: Optimizer) -> None:
    """Raise unless its step can be traced."""
    groups = optimizer.param_groups
    more = [name for group in groups for name, value in PLAIN.items() if group.get(name, value) != value]
    if type(optimizer) not in (SGD, Adam) or more:
        found = type(optimizer).__name__ + "".join(f" with {name}" for name in dict.fromkeys(more))
        raise ConfigError(f"a compiled update takes SGD or Adam without more, got {found}; or set compiled=False")


class EagerAscent:
    """By autograd and the optimiser."""

    def __init__(self, owner: nn.Module, ascent: Ascent) -> None:
        self.objective, self.ascent = getattr(owner, ascent.objective), ascent

    def __call__(self, pace: Tensor, *args: Any) -> Seen:
        with torch.enable_grad():
            objective, alive, *seen = self.objective(*args)
            if bool(alive):
                climb(self.ascent.optimizer, objective, float(pace), self.ascent.clip)
        if bool(alive) and self.ascent.following is not None:
            follow(*self.ascent.following)
        return (alive, *(x.detach() for x in seen))


class TracedUpdate:
    """By one compiled graph; compiled again for every new size of its arguments."""

    def __init__(self, owner: nn.Module, body: Body, ascents: Mapping[str, Ascent], *, recorded: bool) -> None:
        self.owner, self.body, self.ascents = owner, body, ascents
        self.steps = {name: Traced(owner, ascent) for name, ascent in ascents.items()}
        self.rates: tuple[tuple[float, ...], Tensor] | None = None
        self.compiled = Graph(self.graph, ("given", "moments"), recorded=recorded)

    @torch.no_grad()
    def __call__(self, *args: Any) -> Named:
        given = {f"owner.{name}": line(p.detach()) for name, p in self.owner.named_parameters()}
        moments = {name: step.moments() for name, step in self.steps.items()}
        return self.compiled(given, moments, self.all_rates(), args)  # type: ignore[no-any-return]

    def all_rates(self) -> Tensor:  # -> [K], float64
        """Rates per second of all groups, as a tensor, so that other rates are not another graph."""
        groups = [group for ascent in self.ascents.values() for group in ascent.optimizer.param_groups]
        now, device = tuple(float(group["rate"]) for group in groups), next(self.owner.parameters()).device
        if self.rates is None or self.rates[0] != now or self.rates[1].device != device:
            self.rates = now, torch.tensor(now, dtype=torch.float64, device=device)
        return self.rates[1]

    def graph(self, given: Named, moments: Mapping[str, Moments | None], rates: Tensor, args: tuple[Any, ...]) -> Named:
        """What is compiled: parameters and moments are changed in place."""
        given = {f"owner.{name}": given[f"owner.{name}"].view(p.shape) for name, p in self.owner.named_parameters()}
        counts = [len(ascent.optimizer.param_groups) for ascent in self.ascents.values()]
        parts = zip(self.steps.items(), torch.split(rates, counts), strict=True)
        return self.body({name: partial(step, given, moments[name], own) for (name, step), own in parts}, *args)


class Traced:
    """A step within a graph."""

    def __init__(self, owner: nn.Module, ascent: Ascent) -> None:
        self.method, self.ascent = Method(owner, ascent.objective), ascent
        group = {id(p): k for k, g in enumerate(ascent.optimizer.param_groups) for p in g["params"]}
        self.parameters = {name: p for name, p in self.method.named_parameters() if id(p) in group}
        self.group = {name: group[id(p)] for name, p in self.parameters.items()}
        self.pairs: list[tuple[str, str]] = []
        if ascent.following is not None:
            names = {id(p): name for name, p in self.method.named_parameters()}
            slow, fast = (list(part.parameters()) for part in ascent.following[:2])
            self.pairs = [(names[id(s)], names[id(f)]) for s, f in zip(slow, fast, strict=True)]

    def moments(self) -> Moments | None:
        """Adam's state of the parameters; SGD has none."""
        if type(self.ascent.optimizer) is SGD:
            return None
        states = [state_of(self.ascent.optimizer, p) for p in self.parameters.values()]
        return Moments(*([line(s[name]) for s in states] for name in ("step", "exp_avg", "exp_avg_sq")))

    def __call__(self, given: Named, moments: Moments | None, rates: Tensor, pace: Tensor, *args: Any) -> Seen:
        """The objective's gradient and the step along it, where it is alive."""

        def loss_of(own: Named) -> tuple[Tensor, Seen]:
            objective, *seen = functional_call(self.method, {**given, **own}, args)
            return -objective, tuple(seen)

        found, (alive, *seen) = grad(loss_of, has_aux=True)({name: given[name] for name in self.parameters})
        slopes = self.cut(list(found.values()))
        moves = slopes if moments is None else self.adam(slopes, moments, alive)
        for name, move in zip(found, moves, strict=True):
            given[name].sub_(torch.where(alive, rates[self.group[name]] * pace * move, 0.0))
        if self.ascent.following is not None:
            for slow, fast in self.pairs:
                rate = self.ascent.following.rate
                given[slow].add_(torch.where(alive, rate * (given[fast] - given[slow]), 0.0))
        return (alive, *seen)

    def cut(self, slopes: list[Tensor]) -> list[Tensor]:
        """Shortened together to the largest norm, as torch.nn.utils.clip_grad_norm_ does."""
        if self.ascent.clip == math.inf:
            return slopes
        norm = torch.stack([g.square().sum() for g in slopes]).sum().sqrt()
        return [g * (self.ascent.clip / (norm + 1e-6)).clamp(max=1.0) for g in slopes]

    def adam(self, slopes: Sequence[Tensor], moments: Moments, alive: Tensor) -> list[Tensor]:
        """Moments, in place, and the directions that they give."""
        group, moves = self.ascent.optimizer.param_groups[0], []
        (b1, b2), eps = group["betas"], group["eps"]
        after = moments.steps[0].view(()).double() + 1.0  # k, the same for all
        first, second = (1.0 - torch.exp(after * math.log(b)) for b in (b1, b2))
        for g, k, m, v in zip(slopes, *moments, strict=True):
            m, v = m.view(g.shape), v.view(g.shape)
            k.add_(alive)
            m.add_(torch.where(alive, (1.0 - b1) * (g - m), 0.0))
            v.add_(torch.where(alive, (1.0 - b2) * (g * g - v), 0.0))
            moves.append(m / first / ((v / second).sqrt() + eps))
        return moves
