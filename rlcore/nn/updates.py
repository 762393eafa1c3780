"""Several steps of Adam, and what is computed between them, as one function: eager, or one compiled graph.

    body(steps, *args) -> tensors by name,    steps[name](*arguments of its loss) -> (loss, *seen)

Small networks spend more time between two graphs than in them. The body is the same in both forms: eagerly its steps
are those of `step_of`; in a graph each is traced where it stands, and finds what the steps before it have moved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rlcore.nn.steps import FusedStep, Moments, Named, Seen, compiled_once
from rlcore.parallel import world

Steps = Mapping[str, Callable[..., Seen]]
Body = Callable[..., Named]


def update_of(
    body: Body, steps: Steps, *, calls: int = 1, whole: bool = True, key: object = None
) -> Callable[..., Named]:
    """The body with its steps, none of which it takes more than `calls` times.

    It is one graph if the steps are compiled, it may be taken as a `whole`, and this process is alone: no graph can
    wait for others. Apart from steps the body must not change anything. `key` is that of `step_of`.
    """
    fused = {name: step for name, step in steps.items() if isinstance(step, FusedStep)}
    if whole and len(fused) == len(steps) and world().alone:
        return FusedUpdate(body, fused, calls, key)
    return partial(body, steps)


class FusedUpdate:
    """By one compiled graph; compiled again for every new size of its arguments."""

    def __init__(self, body: Body, steps: Mapping[str, FusedStep], calls: int, key: object) -> None:
        self.body, self.steps, self.calls = body, steps, calls
        parts = [part for step in steps.values() for part in (step.parameters, step.slow, step.fixed)]
        unique = {id(p): p for part in parts for p in part.values()}  # a graph must not have one tensor twice
        self.parameters: list[nn.Parameter] = list(unique.values())
        place = {key: k for k, key in enumerate(unique)}
        places = [{name: place[id(p)] for name, p in part.items()} for part in parts]
        self.places = {name: places[3 * k : 3 * k + 3] for k, name in enumerate(steps)}
        self.compiled = compiled_once(self.graph, None if key is None else repr((key, body.__qualname__, calls)))

    @torch.no_grad()
    def __call__(self, *args: Any) -> Named:
        steps = list(self.steps.values())
        moments, groups = [step.moments() for step in steps], [step.group for step in steps]
        begun = torch.stack([m.steps[0] for m in moments])
        corrections = ahead(begun, [(g["lr"], *g["betas"]) for g in groups], self.calls)
        settings = tuple((*g["betas"], g["eps"]) for g in groups)
        given = [p.detach() for p in self.parameters]
        return self.compiled(given, moments, corrections, settings, args)  # type: ignore[no-any-return]

    def graph(
        self,
        given: Sequence[Tensor],
        moments: Sequence[Moments],
        corrections: tuple[Tensor, Tensor],
        settings: Sequence[tuple[float, float, float]],
        args: tuple[Any, ...],
    ) -> Named:
        """What is compiled: parameters and moments are changed in place."""
        steps = {}
        for k, (name, step) in enumerate(self.steps.items()):
            named = [{n: given[at] for n, at in places.items()} for places in self.places[name]]
            steps[name] = Inside(step, named, moments[k], (corrections[0][k], corrections[1][k]), settings[k])
        return self.body(steps, *args)


class Inside:
    """A step within a graph; `corrections` [calls] are those of its first, second, ... time."""

    def __init__(
        self,
        step: FusedStep,
        named: Sequence[Named],
        moments: Moments,
        corrections: tuple[Tensor, Tensor],
        settings: tuple[float, float, float],
    ) -> None:
        self.step, self.named, self.moments = step, named, moments
        self.corrections, self.settings, self.taken = corrections, settings, 0

    def __call__(self, *args: Any) -> Seen:
        parameters, slow, fixed = self.named
        gradient, *seen = self.step.slope(parameters, slow, fixed, args)
        first, second = (x[self.taken] for x in self.corrections)
        self.step.move(parameters, slow, gradient, self.moments, (first, second), self.settings)
        self.taken += 1
        return tuple(seen)


def ahead(
    steps: Tensor, settings: Sequence[tuple[float, float, float]], calls: int
) -> tuple[Tensor, Tensor]:  # [K], K triples of rate, b1 and b2 -> [K, calls] twice
    """rate / (1 - b1^k) and 1 / sqrt(1 - b2^k) for the next steps k of each of K optimisers."""
    rate, b1, b2 = torch.tensor(settings, device=steps.device).T.unsqueeze(2)
    k = steps.unsqueeze(1) + torch.arange(1, calls + 1, device=steps.device)
    return rate / (1.0 - b1**k), (1.0 - b2**k).rsqrt()
