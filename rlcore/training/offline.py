"""Batches from a data set, alone or beside those of another source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from rlcore.checks import check_integer, check_numbers
from rlcore.data import Transitions
from rlcore.errors import ConfigError, DataError, ShapeError
from rlcore.parallel import world
from rlcore.simulation.policy import Policy
from rlcore.training.sources import Source


class DatasetSource(Source[Transitions]):
    """Rows [rows, ...] of a data set, uniformly with replacement; with several seeds [S, rows, ...], apart for each.

    The data themselves are no part of its state: a resume is given them again. Where nothing is gathered, steps stay 0;
    `counted` makes each batch one of them, so that what an offline run logs has an axis. Several processes share the
    rows that one would draw.
    """

    def __init__(
        self, data: Transitions, rows: int, *, generator: torch.Generator, seeds: int = 1, counted: bool = False
    ) -> None:
        if rows < 1 or seeds < 1:
            raise ConfigError(f"need rows >= 1 and seeds >= 1, got {rows} and {seeds}")
        self.data = data.flatten()
        if len(self.data) == 0:
            raise ConfigError("the data set is empty; there is nothing to learn from")
        check_finite_rows(self.data)
        world().share(rows, "the rows of a batch")
        self.rows, self.generator, self.seeds, self.counted = rows, generator, seeds, counted

    def next(self, policy: Policy) -> Transitions:
        self.count(int(self.counted), 0.0)
        shape = (self.rows,) if self.seeds == 1 else (self.seeds, self.rows)
        index = torch.randint(len(self.data), shape, generator=self.generator, device=self.generator.device)
        return self.data.take(world().own(index, -1).to(self.data.reward.device))

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"generator": self.generator.get_state(), "data": len(self.data)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        if state["data"] != len(self.data):
            raise ValueError(f"the data set had {state['data']} rows, this one has {len(self.data)}")
        self.generator.set_state(state["generator"].cpu())


class MixedSource(Source[Transitions]):
    """Each batch is one of `online` and one of `offline`, their rows interleaved evenly: a share by their numbers.

    Evenly, so that a batch cut into minibatches has the same share in each. Extras that only one of them has are
    dropped. Experience is what `online` gathers.
    """

    def __init__(self, online: Source[Transitions], offline: Source[Transitions]) -> None:
        self.online, self.offline = online, offline

    def next(self, policy: Policy) -> Transitions:
        batch = interleave(self.online.next(policy), self.offline.next(policy))
        self.steps, self.simulated = self.online.steps, self.online.simulated
        return batch

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"online": self.online.state_dict(), "offline": self.offline.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.online.load_state_dict(state["online"])
        self.offline.load_state_dict(state["offline"])

    def load_shares(self, states: Sequence[Mapping[str, Any]]) -> None:
        super().load_state_dict(states[0])
        self.online.load_shares([state["online"] for state in states])
        self.offline.load_shares([state["offline"] for state in states])


def interleave(first: Transitions, second: Transitions) -> Transitions:
    """Rows [N, ...] and [M, ...], or [S, N, ...] and [S, M, ...], as one batch in which both are spread evenly."""
    axis = first.reward.dim() - 1
    if second.reward.dim() != axis + 1 or first.reward.shape[:axis] != second.reward.shape[:axis]:
        shapes = f"{list(first.reward.shape)} and {list(second.reward.shape)}"
        raise ShapeError(f"the two batches must lead with the same seeds, got {shapes}; draw both for as many seeds")
    place = [(torch.arange(n) + 0.5) / n for n in (first.reward.shape[axis], second.reward.shape[axis])]
    order = torch.cat(place).argsort(stable=True).to(first.reward.device)

    def join(name: str) -> torch.Tensor:
        parts = [getattr(x, name) if name in NAMES else x.extras[name] for x in (first, second)]
        return torch.cat(parts, dim=axis).index_select(axis, order)

    shared = [name for name in first.extras if name in second.extras]
    return Transitions(**{name: join(name) for name in NAMES}, extras={name: join(name) for name in shared})


def check_finite_rows(data: Transitions) -> None:
    """Raise if any number of the rows [N, ...] is NaN or infinite, naming the first such row."""
    for name in NAMES:
        bad = ~getattr(data, name).isfinite().reshape(len(data), -1).all(1)
        if bool(bad.any()):
            row = int(bad.nonzero()[0])
            raise DataError(f"{name} must be finite, got NaN or infinity in row {row} of the data set; leave it out")


NAMES = ("obs", "action", "reward", "discount", "next_obs", "dt")


class _Around(Source[Transitions]):
    """What the sources that change another one's batches share."""

    def __init__(self, source: Source[Transitions]) -> None:
        self.source = source

    def draw(self, policy: Policy) -> Transitions:
        """The other source's next batch, which is counted here too."""
        batch = self.source.next(policy)
        self.steps, self.simulated = self.source.steps, self.source.simulated
        return batch

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"source": self.source.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        if "source" in state:
            self.source.load_state_dict(state["source"])

    def load_shares(self, states: Sequence[Mapping[str, Any]]) -> None:
        self.load_state_dict({name: value for name, value in states[0].items() if name != "source"})
        self.source.load_shares([state["source"] for state in states])


class RescaledSource(_Around):
    """Batches of another source with rewards scale r + bias, as `with_returns` makes them of a data set."""

    def __init__(self, source: Source[Transitions], *, scale: float = 1.0, bias: float = 0.0) -> None:
        super().__init__(source)
        check_numbers("scale and bias", scale, bias)
        self.scale, self.bias = scale, bias

    def next(self, policy: Policy) -> Transitions:
        batch = self.draw(policy)
        return batch.replace(reward=self.scale * batch.reward + self.bias)


class UnknownReturns(_Around):
    """Batches of another source with `mc_return` = -inf: rows of unfinished episodes, which calibrate nothing."""

    def next(self, policy: Policy) -> Transitions:
        batch = self.draw(policy)
        return batch.replace(extras={**batch.extras, "mc_return": torch.full_like(batch.reward, -torch.inf)})


class PrecededSource(_Around):
    """Batches of another source, the first of them after the rows of a data set: in a replay both are then drawn alike.

    With several seeds every row serves each of them. Extras that only one side has are dropped.
    """

    def __init__(self, source: Source[Transitions], data: Transitions, *, seeds: int = 1) -> None:
        super().__init__(source)
        own = data.flatten()[slice(world().rank, None, world().size)]
        self.data: Transitions | None = own.map(lambda x: x.repeat_interleave(seeds, 0))
        self.extras = frozenset(data.extras)

    def next(self, policy: Policy) -> Transitions:
        batch = self.draw(policy).flatten()
        batch = batch.replace(extras={name: x for name, x in batch.extras.items() if name in self.extras})
        if self.data is None:
            return batch
        parts, self.data = (self.data, batch), None

        def join(name: str) -> torch.Tensor:
            return torch.cat([getattr(x, name).to(batch.reward.device) for x in parts])

        extras = {name: torch.cat([x.extras[name] for x in parts]) for name in batch.extras}
        return Transitions(**{name: join(name) for name in NAMES}, extras=extras)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"begun": self.data is None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        if state["begun"]:
            self.data = None


class OpeningSource(_Around):
    """Batches of another source in which `behaviour` acts for the first `calls` calls, and the policy from then on."""

    def __init__(self, source: Source[Transitions], behaviour: Policy, calls: int) -> None:
        super().__init__(source)
        check_integer("calls", calls)
        self.behaviour, self.calls, self.done = behaviour, calls, 0

    def next(self, policy: Policy) -> Transitions:
        self.done += 1
        return self.draw(self.behaviour if self.done <= self.calls else policy)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"done": self.done}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.done = int(state["done"])
