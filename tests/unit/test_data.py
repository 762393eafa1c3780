"""Batches and the replay buffer."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch

from rlcore.data import Comparisons, ReplayBuffer, Trajectory, Transitions
from rlcore.data.chained import ChainedReplay
from rlcore.errors import CheckpointError, ConfigError, ShapeError


def rows(first: int, count: int) -> Transitions:
    """Rows numbered by their reward."""
    number = torch.arange(first, first + count, dtype=torch.float32)
    column = number.unsqueeze(1)
    ones = torch.ones_like(number)
    return Transitions(column, -column, number, ones, column + 1.0, 0.1 * ones, {"last": number % 2 == 0})


def held(buffer: ReplayBuffer) -> list[float]:
    assert buffer.rows is not None
    return sorted(buffer.rows.reward[: buffer.size].tolist())


def path(steps: int = 4, paths: int = 3, end: int = 2) -> Trajectory:
    """Path 0 ends with step number `end`."""
    terminated = torch.zeros(steps, paths, dtype=torch.bool)
    terminated[end:, 0] = True
    return Trajectory(
        t=0.5 * torch.arange(steps + 1, dtype=torch.float64),
        obs=torch.randn(steps + 1, paths, 2),
        action=torch.randn(steps, paths, 1),
        reward=torch.randn(steps, paths),
        dt=torch.full((steps,), 0.5, dtype=torch.float64),
        terminated=terminated,
    )


def test_batches_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        rows(0, 2).reward = torch.zeros(2)  # type: ignore[misc]


def test_a_batch_maps_moves_and_replaces_as_a_whole() -> None:
    batch = rows(0, 4)
    assert batch.map(lambda x: x[:2]).extras["last"].shape == (2,)
    double = batch.to(dtype=torch.float64)
    assert double.obs.dtype == torch.float64
    assert double.extras["last"].dtype == torch.bool, "only floating-point tensors are converted"
    assert torch.equal(batch.replace(reward=torch.zeros(4)).obs, batch.obs)


def test_flatten_joins_steps_and_paths() -> None:
    flat = rows(0, 6).map(lambda x: x.unflatten(0, (2, 3))).flatten()
    assert len(flat) == 6
    assert torch.equal(flat.reward, rows(0, 6).reward)
    assert flat.flatten() is flat


def test_wrong_lead_is_refused_by_name() -> None:
    with pytest.raises(ShapeError, match=r"discount must lead with \[4\]"):
        rows(0, 4).replace(discount=torch.ones(3))
    with pytest.raises(ShapeError, match="obs must lead"):
        path().replace(obs=torch.randn(4, 3, 2))


def test_a_trajectory_as_transitions() -> None:
    trajectory = path()
    assert trajectory.alive[:, 0].tolist() == [True, True, True, False]
    batch = trajectory.transitions(discount_rate=0.3)
    step = math.exp(-0.15)
    torch.testing.assert_close(batch.discount[:, 0], torch.tensor([step, step, 0.0, 0.0]))
    torch.testing.assert_close(batch.discount[:, 1], torch.full((4,), step))
    assert torch.equal(batch.next_obs, trajectory.obs[1:])
    assert batch.dt.shape == (4, 3)


def test_comparisons_hold_pairs() -> None:
    batch = Comparisons(torch.zeros(3, 2), torch.zeros(3), torch.ones(3), torch.tensor([1.0, 0.0, 0.5]))
    assert batch.map(lambda x: x[:1]).preferred.tolist() == [1.0]


def test_the_buffer_keeps_the_newest_rows() -> None:
    buffer = ReplayBuffer(5)
    assert len(buffer) == 0
    buffer.add(rows(0, 3))
    assert held(buffer) == [0.0, 1.0, 2.0]
    buffer.add(rows(3, 4))
    assert held(buffer) == [2.0, 3.0, 4.0, 5.0, 6.0]
    assert len(buffer) == 5
    buffer.add(rows(7, 12))
    assert held(buffer) == [14.0, 15.0, 16.0, 17.0, 18.0]


def test_a_drawn_row_is_one_row() -> None:
    buffer = ReplayBuffer(8)
    buffer.add(rows(0, 12))
    drawn = buffer.sample(1000, generator=torch.Generator().manual_seed(0))
    assert sorted(set(drawn.reward.tolist())) == [float(k) for k in range(4, 12)]
    assert torch.equal(drawn.obs[:, 0], drawn.reward)
    assert torch.equal(drawn.action[:, 0], -drawn.reward)
    assert torch.equal(drawn.extras["last"], drawn.reward % 2 == 0)


def test_steps_enter_the_buffer_oldest_first() -> None:
    buffer = ReplayBuffer(4)
    buffer.add(rows(0, 6).map(lambda x: x.unflatten(0, (3, 2))))
    assert held(buffer) == [2.0, 3.0, 4.0, 5.0]


@pytest.mark.parametrize("make", [ReplayBuffer, ChainedReplay])
def test_no_replay_keeps_float64(make: Any) -> None:
    """Flags stay flags."""
    buffer, old = make(8), rows(0, 4).to(dtype=torch.float64)
    buffer.add(old)
    drawn = buffer.sample(6, generator=torch.Generator().manual_seed(0))
    assert {x.dtype for x in (drawn.obs, drawn.action, drawn.reward, drawn.dt)} == {torch.float32}
    assert drawn.extras["last"].dtype == torch.bool


@pytest.mark.parametrize("count", [0, 3, 9])
def test_the_state_makes_the_round_trip(count: int) -> None:
    buffer, copy = ReplayBuffer(5), ReplayBuffer(5)
    if count:
        buffer.add(rows(0, count))
    copy.load_state_dict(buffer.state_dict())
    for each in (buffer, copy):
        each.add(rows(100, 3))
    first, second = (b.sample(20, generator=torch.Generator().manual_seed(1)) for b in (buffer, copy))
    assert torch.equal(first.reward, second.reward)
    assert torch.equal(first.extras["last"], second.extras["last"])


def test_the_state_is_a_checkpoint_of_its_own() -> None:
    buffer, copy = ReplayBuffer(5), ReplayBuffer(5)
    buffer.add(rows(0, 5))
    copy.load_state_dict(buffer.state_dict())
    copy.add(rows(5, 2))
    assert held(buffer) == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_misuse_of_the_buffer_is_refused() -> None:
    generator = torch.Generator()
    with pytest.raises(ConfigError, match="at least 1"):
        ReplayBuffer(0)
    buffer = ReplayBuffer(4)
    with pytest.raises(ConfigError, match="empty"):
        buffer.sample(1, generator=generator)
    buffer.add(rows(0, 2))
    with pytest.raises(ShapeError, match="extras"):
        buffer.add(rows(0, 2).replace(extras={}))
    with pytest.raises(ShapeError, match="obs"):
        buffer.add(rows(0, 2).replace(obs=torch.zeros(2, 3)))
    with pytest.raises(CheckpointError, match="4 rows"):
        ReplayBuffer(3).load_state_dict(buffer.state_dict())
