"""The replay that stores observations once gives the same rows as the plain one, for less memory."""

from __future__ import annotations

import pytest
import torch

from rlcore.data import ChainedReplay, ReplayBuffer, Transitions
from rlcore.envs.control.lqr import ScalarLqr, ScalarLqrConfig
from rlcore.envs.control.stopped_brownian import StoppedBrownian, StoppedBrownianConfig
from rlcore.errors import CheckpointError, ConfigError, ShapeError
from rlcore.simulation import Environment, Feedback
from rlcore.training import RolloutSource


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def same(a: Transitions, b: Transitions) -> bool:
    names = ("obs", "action", "reward", "discount", "next_obs", "dt")
    return all(torch.equal(getattr(a, n), getattr(b, n)) for n in names) and torch.equal(
        a.extras["last"], b.extras["last"]
    )


ENVIRONMENTS: dict[str, Environment] = {
    "truncated": ScalarLqr(ScalarLqrConfig(dt=0.1, horizon=0.7)),
    "terminated": StoppedBrownian(StoppedBrownianConfig(dt=0.3)),
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
@pytest.mark.parametrize(("paths", "steps", "seeds"), [(1, 1, 1), (6, 1, 3), (6, 5, 2)])
def test_rows_are_those_of_the_plain_buffer(name: str, paths: int, steps: int, seeds: int) -> None:
    feed = RolloutSource(ENVIRONMENTS[name], paths, steps, seed=0)
    plain, chained = ReplayBuffer(60, seeds=seeds), ChainedReplay(60, paths=paths, seeds=seeds)
    for k in range(80):  # goes round several times
        batch = feed.next(Feedback(lambda x: -x))
        for buffer in (plain, chained):
            buffer.add(batch)
        assert same(*(buffer.sample(50, generator=stream(k)) for buffer in (plain, chained)))
    ends = int(chained.extras["last"].sum())
    kept = int((chained.slot >= 0).sum())
    assert ends <= kept <= ends + paths  # ends of episodes, and the newest step
    assert len(chained.free) + kept == len(chained.kept)


def test_rows_out_of_order_are_right_too() -> None:
    plain, chained = ReplayBuffer(12), ChainedReplay(12, paths=3)
    for k in range(9):
        obs, after = torch.randn(2, 3, 2, generator=stream(k))
        rows = Transitions(obs, obs, obs[:, 0], obs[:, 1], after, obs[:, 0], {"last": obs[:, 0] > 0})
        for buffer in (plain, chained):
            buffer.add(rows)
        assert same(*(buffer.sample(40, generator=stream(k)) for buffer in (plain, chained)))


def test_its_state_goes_on_bit_for_bit() -> None:
    feed = RolloutSource(ENVIRONMENTS["truncated"], 2, 1, seed=0)
    buffer = ChainedReplay(20, paths=2)
    for _ in range(13):
        buffer.add(feed.next(Feedback(lambda x: x)))
    other = ChainedReplay(20, paths=2)
    other.load_state_dict(buffer.state_dict())
    for k in range(13):
        batch = feed.next(Feedback(lambda x: x))
        buffer.add(batch)
        other.add(batch)
        assert same(buffer.sample(30, generator=stream(k)), other.sample(30, generator=stream(k)))
    with pytest.raises(CheckpointError, match=r"rows and paths \[20, 2\], this one \[20, 4\]"):
        ChainedReplay(20, paths=4).load_state_dict(buffer.state_dict())


def test_misuse_is_told() -> None:
    with pytest.raises(ConfigError, match="multiple of the paths"):
        ChainedReplay(10, paths=3)
    with pytest.raises(ConfigError, match="is empty"):
        ChainedReplay(10).sample(1, generator=stream())
    rows = RolloutSource(ENVIRONMENTS["truncated"], 2, 1, seed=0).next(Feedback(lambda x: x))
    with pytest.raises(ShapeError, match="whole steps of 4 paths"):
        ChainedReplay(20, paths=4).add(rows)
    buffer = ChainedReplay(20, paths=2)
    buffer.add(rows)
    with pytest.raises(ShapeError, match="look like the first ones"):
        buffer.add(rows.replace(extras={}))
