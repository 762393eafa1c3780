"""Several steps of Adam, and what is computed between them, as one function: eager, or one compiled graph.

    body(steps, *args) -> tensors by name,    steps[name](*arguments of its loss) -> (loss, *seen)

Small networks spend more time between two graphs than in them. The body is the same in both forms: eagerly its steps
are those of `step_of`; in a graph each is traced where it stands, and finds what the steps before it have moved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rlcore.nn.steps import FusedStep, Moments, Named, Seen, compiled_once
from rlcore.parallel import world

Steps = Mapping[str, Callable[..., Seen]]
Body = Callable[..., Named]


def update_of(body: Body, steps: Steps, *, whole: bool = True, key: object = None) -> Callable[..., Named]:
    """The body with its steps.

    It is one graph if the steps are compiled, it may be taken as a `whole`, and this process is alone: no graph can
    wait for others. Apart from steps the body must not change anything. `key` is that of `step_of`.
    """
    fused = {name: step for name, step in steps.items() if isinstance(step, FusedStep)}
    if whole and len(fused) == len(steps) and world().alone:
        return FusedUpdate(body, fused, key)
    return partial(body, steps)


class FusedUpdate:
    """By one compiled graph; compiled again for every new size of its arguments."""

    def __init__(self, body: Body, steps: Mapping[str, FusedStep], key: object) -> None:
        self.body, self.steps = body, steps
        parts = [part for step in steps.values() for part in (step.parameters, step.slow, step.fixed)]
        unique = {id(p): p for part in parts for p in part.values()}  # a graph must not have one tensor twice
        self.parameters: list[nn.Parameter] = list(unique.values())
        place = {key: k for k, key in enumerate(unique)}
        places = [{name: place[id(p)] for name, p in part.items()} for part in parts]
        self.places = {name: places[3 * k : 3 * k + 3] for k, name in enumerate(steps)}
        self.rates: tuple[list[float], Tensor] | None = None
        name = None if key is None else repr((key, body.__qualname__))
        recorded = any(step.recorded for step in steps.values())
        self.compiled = compiled_once(self.graph, name, ("given", "moments"), recorded)

    @torch.no_grad()
    def __call__(self, *args: Any) -> Named:
        moments, groups = [step.moments() for step in self.steps.values()], [step.group for step in self.steps.values()]
        settings = tuple((*g["betas"], g["eps"]) for g in groups)
        given = [p.detach() for p in self.parameters]
        return self.compiled(given, moments, self.rates_of(groups), settings, args)  # type: ignore[no-any-return]

    def rates_of(self, groups: Sequence[Mapping[str, Any]]) -> Tensor:  # -> [K]
        """The optimisers' rates as a tensor, so that another rate is not another graph."""
        now, device = [g["lr"] for g in groups], self.parameters[0].device
        if self.rates is None or self.rates[0] != now or self.rates[1].device != device:
            self.rates = now, torch.tensor(now, device=device)
        return self.rates[1]

    def graph(
        self,
        given: Sequence[Tensor],
        moments: Sequence[Moments],
        rates: Tensor,
        settings: Sequence[tuple[float, float, float]],
        args: tuple[Any, ...],
    ) -> Named:
        """What is compiled: parameters and moments are changed in place."""
        steps = {}
        for k, (name, step) in enumerate(self.steps.items()):
            named = [{n: given[at] for n, at in places.items()} for places in self.places[name]]
            steps[name] = Inside(step, named, moments[k], rates[k], settings[k])
        return self.body(steps, *args)


class Inside:
    """A step within a graph.

    Adam's corrections are written by exp, which the compiler computes once and keeps, where a power would be computed
    again for every number.
    """

    def __init__(
        self,
        step: FusedStep,
        named: Sequence[Named],
        moments: Moments,
        rate: Tensor,
        settings: tuple[float, float, float],
    ) -> None:
        self.step, self.named, self.moments, self.rate, self.settings = step, named, moments, rate, settings

    def __call__(self, *args: Any) -> Seen:
        parameters, slow, fixed = self.named
        gradient, *seen = self.step.slope(parameters, slow, fixed, args)
        after = self.moments.steps[0] + 1.0  # k, the same for all
        first, second = (1.0 - torch.exp(after * math.log(b)) for b in self.settings[:2])
        corrections = (self.rate / first, second.rsqrt())
        self.step.move(parameters, slow, gradient, self.moments, corrections, self.settings)
        return tuple(seen)
