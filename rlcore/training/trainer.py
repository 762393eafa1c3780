"""The training loop: a list of phases, each a source and what to do with its batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from rlcore.errors import ConfigError, NumericsError
from rlcore.parallel import world
from rlcore.simulation.policy import Policy
from rlcore.training.sources import Source


@dataclass(frozen=True)
class Phase:
    """`iterations` batches of `source`, each handed to `update`; None gathers without learning."""

    name: str
    source: Source[Any]
    iterations: int
    update: Callable[[Any], Mapping[str, Tensor | float]] | None


@dataclass(frozen=True)
class Position:
    """Where a run stands: `iteration` batches of phase number `phase` are done."""

    phase: int = 0
    iteration: int = 0


@dataclass(frozen=True)
class Tick:
    """What a callback sees after each iteration; to be read, not to be changed."""

    policy: Policy
    phase: Phase
    position: Position
    iteration: int
    """Iterations done, over all phases."""
    iterations: int
    """Iterations of all phases together."""
    steps: int
    """Environment steps gathered so far, over all paths and phases."""
    simulated: float
    """Physical time gathered so far [s], summed over paths."""
    metrics: Mapping[str, Tensor | float]
    """What the last update returned."""

    @property
    def last(self) -> bool:
        """Whether this is the run's final iteration."""
        return self.iteration == self.iterations


class Callback(Protocol):
    """Called after each iteration; returning False stops the run."""

    def __call__(self, tick: Tick, /) -> bool | None: ...


def run(
    policy: Policy, phases: Sequence[Phase], callbacks: Iterable[Callback] = (), *, start: Position | None = None
) -> dict[str, float]:
    """Work through the phases, from `start` on; returns the metrics of the last update."""
    start, callbacks = start or Position(), tuple(callbacks)
    for phase in phases:
        if phase.iterations < 0:
            raise ConfigError(f"phase {phase.name!r} needs iterations >= 0, got {phase.iterations}")
    sources = {id(phase.source): phase.source for phase in phases}.values()
    total, metrics = sum(phase.iterations for phase in phases), {}
    for number, phase in enumerate(phases):
        if number < start.phase:
            continue
        before = sum(earlier.iterations for earlier in phases[:number])
        for k in range(start.iteration if number == start.phase else 0, phase.iterations):
            batch = phase.source.next(policy)
            try:
                metrics = world().mean_of(phase.update(batch)) if phase.update is not None else {}
            except NumericsError as error:
                if type(error) is not NumericsError:
                    raise  # a kind of its own says itself where and why, to whoever catches it
                raise NumericsError(f"iteration {before + k + 1} of {total}, phase {phase.name!r}: {error}") from error
            steps, simulated = sum(s.steps for s in sources), sum(s.simulated for s in sources)
            tick = Tick(policy, phase, Position(number, k + 1), before + k + 1, total, steps, simulated, metrics)
            if any([callback(tick) is False for callback in callbacks]):  # noqa: C419, every callback is called
                return to_floats(metrics)
    return to_floats(metrics)


def to_floats(metrics: Mapping[str, Tensor | float]) -> dict[str, float]:
    """Metrics as Python numbers; the only place where a tensor is waited for."""
    return {name: float(value) for name, value in metrics.items()}
