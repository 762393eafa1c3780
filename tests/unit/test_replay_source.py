"""Batches drawn several at once are those drawn one by one, at every place of a resume."""

from __future__ import annotations

import pytest
import torch

from rlcore.data import ChainedReplay, Replay, ReplayBuffer, Transitions
from rlcore.simulation import Feedback, Policy
from rlcore.training import ReplaySource, Source

POLICY = Feedback(lambda x: x)


class Newest(Source[Transitions]):
    """Four rows that nobody has seen, with a flag among them."""

    def next(self, policy: Policy) -> Transitions:
        number = torch.arange(4.0) + self.steps
        self.count(4, 1.0)
        pair = torch.stack([number, -number], 1)
        return Transitions(pair, pair[:, :1] + 0.5, number, 0.1 * number, pair + 1.0, number, {"last": number % 2 == 0})


def buffer(kind: type[Replay], seeds: int) -> Replay:
    return ReplayBuffer(24, seeds=seeds) if kind is ReplayBuffer else ChainedReplay(24, paths=2, seeds=seeds)


def source(kind: type[Replay], seeds: int, draws_per_feed: int) -> ReplaySource:
    generator = torch.Generator().manual_seed(5)
    return ReplaySource(buffer(kind, seeds), 3, generator=generator, feed=Newest(), draws_per_feed=draws_per_feed)


def same(a: Transitions, b: Transitions) -> bool:
    names = ("obs", "action", "reward", "discount", "next_obs", "dt")
    pairs = [(getattr(a, name), getattr(b, name)) for name in names] + [(a.extras["last"], b.extras["last"])]
    return all(x.dtype == y.dtype and torch.equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize("kind", [ReplayBuffer, ChainedReplay])
@pytest.mark.parametrize("draws_per_feed", [1, 5, 37])
def test_several_at_once_are_the_same_rows(kind: type[Replay], seeds: int, draws_per_feed: int) -> None:
    ahead, alone = source(kind, seeds, draws_per_feed), buffer(kind, seeds)
    feed, generator = Newest(), torch.Generator().manual_seed(5)
    for k in range(2 * draws_per_feed + 3):
        if k % draws_per_feed == 0:
            alone.add(feed.next(POLICY))
        found = ahead.next(POLICY)
        assert same(found, alone.sample(3, generator=generator)), k
        assert found.obs.is_contiguous()
        assert (ahead.steps, ahead.draws) == (feed.steps, k + 1)


@pytest.mark.parametrize("kind", [ReplayBuffer, ChainedReplay])
@pytest.mark.parametrize("draws_per_feed", [1, 5, 37])
def test_a_resume_between_any_two_draws_goes_on_with_the_same_rows(kind: type[Replay], draws_per_feed: int) -> None:
    whole = source(kind, 2, draws_per_feed)
    for k in range(draws_per_feed + 3):
        again = source(kind, 2, draws_per_feed)
        again.generator.manual_seed(99)
        again.load_state_dict(whole.state_dict())
        twice = source(kind, 2, draws_per_feed)
        twice.load_state_dict(again.state_dict())
        expected = whole.next(POLICY)
        assert same(again.next(POLICY), expected), k
        assert same(twice.next(POLICY), expected), k


def test_a_state_from_before_draws_were_made_ahead_is_read() -> None:
    whole = source(ReplayBuffer, 1, 4)
    for _ in range(4):
        whole.next(POLICY)
    state = {name: value for name, value in whole.state_dict().items() if name != "given"}
    again = source(ReplayBuffer, 1, 4)
    again.load_state_dict(state)
    assert same(again.next(POLICY), whole.next(POLICY))
