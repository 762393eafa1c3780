"""Rows of data sets, rows of many seeds in one ring, and batches that mix two sources."""

from __future__ import annotations

import pytest
import torch

from rlcore.agents.actor_critic import DataSpaces, check_data
from rlcore.data import ReplayBuffer, Transitions
from rlcore.errors import ConfigError, DataError, ShapeError
from rlcore.simulation import Feedback, Policy
from rlcore.training import ReplaySource, Source
from rlcore.training.offline import (
    DatasetSource,
    MixedSource,
    OpeningSource,
    RescaledSource,
    UnknownReturns,
    interleave,
)

POLICY = Feedback(lambda x: x)


def numbered(count: int, start: int = 0) -> Transitions:
    """Rows whose every entry is the row's number."""
    n = torch.arange(start, start + count, dtype=torch.float32)
    return Transitions(n.unsqueeze(1), n.unsqueeze(1), n, n, n.unsqueeze(1), n, {"last": n > 1e9})


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Counting(Source[Transitions]):
    """Three paths, one step each."""

    def next(self, policy: object) -> Transitions:
        batch = numbered(3, self.steps)
        self.count(3, 3.0)
        return batch


def test_each_seed_draws_from_its_own_rows_of_a_ring() -> None:
    buffer = ReplayBuffer(30, seeds=3)
    for k in range(17):  # goes round
        buffer.add(numbered(3, 3 * k))
    batch = buffer.sample(200, generator=stream())
    assert batch.reward.shape == (3, 200)
    for seed, numbers in enumerate(batch.reward):
        assert set((numbers % 3).tolist()) == {seed}
        assert set((numbers // 3).tolist()) == set(range(7, 17))
    with pytest.raises(ShapeError, match="shared out over 3 seeds"):
        buffer.add(numbered(4))
    with pytest.raises(ConfigError, match="multiple of the 3 seeds"):
        ReplayBuffer(10, seeds=3)


def test_one_seed_draws_as_ever() -> None:
    buffer = ReplayBuffer(10)
    buffer.add(numbered(10))
    index = torch.randint(10, (8,), generator=stream())
    assert torch.equal(buffer.sample(8, generator=stream()).reward, index.float())


def test_a_data_set_is_drawn_evenly_and_its_place_is_saved() -> None:
    source = DatasetSource(numbered(5), 4000, generator=stream())
    share = torch.bincount(source.next(POLICY).reward.long(), minlength=5) / 4000
    assert (share - 0.2).abs().max() < 0.03
    state = source.state_dict()
    expected = source.next(POLICY).reward
    other = DatasetSource(numbered(5), 4000, generator=stream(9))
    other.load_state_dict(state)
    assert torch.equal(other.next(POLICY).reward, expected)
    assert not any(isinstance(value, torch.Tensor) and value.numel() == 5 for value in state.values())
    with pytest.raises(ValueError, match="had 5 rows, this one has 6"):
        DatasetSource(numbered(6), 1, generator=stream()).load_state_dict(state)
    with pytest.raises(ConfigError, match="empty"):
        DatasetSource(numbered(0), 1, generator=stream())


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize(("online", "offline"), [(8, 8), (12, 4), (4, 12)])
def test_every_minibatch_of_a_mixed_batch_has_the_same_share(seeds: int, online: int, offline: int) -> None:
    feed = ReplaySource(ReplayBuffer(300, seeds=seeds), online, generator=stream(), feed=Counting())
    mixed = MixedSource(feed, DatasetSource(numbered(100, 1000), offline, generator=stream(1), seeds=seeds))
    batch = mixed.next(POLICY)
    assert mixed.steps == 3
    rows = batch.reward if seeds > 1 else batch.reward.unsqueeze(0)
    for seed in rows:
        for part in seed.chunk(4):
            assert int((part >= 1000).sum()) == offline // 4
    again = MixedSource(
        ReplaySource(ReplayBuffer(300, seeds=seeds), online, generator=stream(5), feed=Counting()),
        DatasetSource(numbered(100, 1000), offline, generator=stream(6), seeds=seeds),
    )
    again.load_state_dict(mixed.state_dict())
    assert torch.equal(again.next(POLICY).obs, mixed.next(POLICY).obs)


def test_extras_of_one_side_are_dropped_and_seeds_must_agree() -> None:
    with_return = numbered(4).replace(extras={"mc_return": torch.ones(4), "last": torch.zeros(4)})
    assert set(interleave(numbered(4), with_return).extras) == {"last"}
    with pytest.raises(ShapeError, match="same seeds"):
        interleave(numbered(4), numbered(4).map(lambda x: x.unsqueeze(0).repeat(2, *[1] * x.dim())))


class Acting(Source[Transitions]):
    """One row whose action is the policy's."""

    def next(self, policy: Policy) -> Transitions:
        self.count(1, 0.5)
        return numbered(1).replace(action=policy.act(torch.ones(1, 1)))


def test_sources_around_another_change_what_they_say_and_count_its_steps() -> None:
    scaled = RescaledSource(Counting(), scale=2.0, bias=-1.0)
    assert scaled.next(POLICY).reward.tolist() == [-1.0, 1.0, 3.0]
    unknown = UnknownReturns(Counting())
    assert unknown.next(POLICY).extras["mc_return"].tolist() == [-torch.inf] * 3
    assert (scaled.steps, unknown.steps, unknown.simulated) == (3, 3, 3.0)
    restored = RescaledSource(Counting(), scale=2.0, bias=-1.0)
    restored.load_state_dict(scaled.state_dict())
    assert torch.equal(restored.next(POLICY).reward, scaled.next(POLICY).reward)


def test_another_policy_opens_and_its_place_is_saved() -> None:
    opening = OpeningSource(Acting(), Feedback(lambda x: -x), calls=3)
    actions = [opening.next(POLICY).action.item() for _ in range(2)]
    later = OpeningSource(Acting(), Feedback(lambda x: -x), calls=3)
    later.load_state_dict(opening.state_dict())
    assert actions + [later.next(POLICY).action.item() for _ in range(3)] == [-1.0, -1.0, -1.0, 1.0, 1.0]
    assert later.steps == 5


@pytest.mark.parametrize("name", ["obs", "action", "reward", "discount", "next_obs", "dt"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_found_with_its_row(name: str, value: float) -> None:
    data = numbered(5).map(torch.clone)
    getattr(data, name)[3] = value
    with pytest.raises(DataError, match=f"{name} must be finite, got NaN or infinity in row 3"):
        DatasetSource(data, 2, generator=stream())


def test_data_of_another_problem_are_refused() -> None:
    data = numbered(3)  # actions 0, 1, 2
    check_data(data, DataSpaces(1, 1, 0.0, 2.0))
    with pytest.raises(DataError, match="1 observations and 1 actions per row, the problem has 2 and 1"):
        check_data(data, DataSpaces(2, 1))
    with pytest.raises(DataError, match=r"must lie in \[-1, 1\], got \[2.0\] in row 2"):
        check_data(data, DataSpaces(1, 1))
