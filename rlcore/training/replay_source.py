"""Batches from a replay buffer that a source of experience fills."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from rlcore.data import Replay, Transitions
from rlcore.errors import ConfigError
from rlcore.parallel import world
from rlcore.seeding import derive_seed
from rlcore.simulation.policy import Policy
from rlcore.training.sources import Source

AHEAD = 16
"""Batches drawn at once at most: for more of them a draw does not get cheaper."""


class ReplaySource(Source[Transitions]):
    """Rows drawn from a replay buffer, uniformly.

    With a `feed`, every `draws_per_feed`-th call first adds the feed's newest batch to the buffer: the ratio of
    updates to data is a number, not a loop. The batches until the next feed are drawn several at once. Of several
    processes each keeps what its own feed gathers, and draws its share of the rows from that by a stream of its own.
    """

    def __init__(
        self,
        buffer: Replay,
        rows: int,
        *,
        generator: torch.Generator,
        feed: Source[Transitions] | None = None,
        draws_per_feed: int = 1,
    ) -> None:
        if min(rows, draws_per_feed) < 1:
            raise ConfigError(f"need rows >= 1 and draws_per_feed >= 1, got {rows} and {draws_per_feed}")
        self.buffer, self.rows, self.generator = buffer, world().share(rows, "the rows of a replay batch"), generator
        self.seed = generator.initial_seed()
        if not world().alone:
            self.apart("start")
        self.feed, self.draws_per_feed, self.draws = feed, draws_per_feed, 0
        self.ready: list[Transitions] = []  # drawn and not given yet, the next one last
        self.before, self.given = generator.get_state(), 0  # the stream before these were drawn, and how many are gone

    def next(self, policy: Policy) -> Transitions:
        if self.feed is not None and self.draws % self.draws_per_feed == 0:
            self.buffer.add(self.feed.next(policy))
            self.steps, self.simulated = self.feed.steps, self.feed.simulated
        if not self.ready:
            self.draw()
        self.draws, self.given = self.draws + 1, self.given + 1
        return self.ready.pop()

    def draw(self) -> None:
        """As many batches as the buffer stays the same for; without a feed others may fill it at any time."""
        left = 1 if self.feed is None else self.draws_per_feed - self.draws % self.draws_per_feed
        self.before, self.given = self.generator.get_state(), 0
        if left == 1:
            self.ready = [self.buffer.sample(self.rows, generator=self.generator)]
        else:
            self.ready = self.buffer.samples(min(left, AHEAD), self.rows, generator=self.generator)[::-1]

    def apart(self, where: object) -> None:
        """A stream that belongs to this process and to where the run is."""
        here = world()
        self.generator.manual_seed(derive_seed(self.seed, f"process {here.rank} of {here.size}, {where}"))

    def state_dict(self) -> dict[str, Any]:
        on_the_way = bool(self.ready)
        return super().state_dict() | {
            "buffer": self.buffer.state_dict(),
            "generator": self.before if on_the_way else self.generator.get_state(),
            "given": self.given if on_the_way else 0,  # batches that were drawn from this state of the generator
            "draws": self.draws,
            "feed": {} if self.feed is None else self.feed.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.buffer.load_state_dict(state["buffer"])
        self.generator.set_state(state["generator"].cpu())
        self.draws, self.ready = int(state["draws"]), []
        if given := int(state.get("given", 0)):  # draw them again, and leave out what is gone
            self.draws -= given
            self.draw()
            self.draws, self.given = self.draws + given, given
            del self.ready[-given:]
        if self.feed is not None:
            self.feed.load_state_dict(state["feed"])

    def load_shares(self, states: Sequence[Mapping[str, Any]]) -> None:
        super().load_state_dict(states[0])
        self.buffer.load_shares([state["buffer"] for state in states])
        self.draws, self.ready = int(states[0]["draws"]), []
        self.apart(f"draw {self.draws}")
        if self.feed is not None:
            self.feed.load_shares([state["feed"] for state in states])
