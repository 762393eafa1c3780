"""What else has a place in the loop: tables, choices among columns, wide states and paths in the last dimension."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rlcore.simulation import (
    ControlSpec,
    Environment,
    EnvState,
    GaussianFeedback,
    begin,
    rollout_with_reset,
)

DOUBLE = torch.float64
WIDE = 40
pytestmark = pytest.mark.usefixtures("only_loops")


class Wide(Environment):
    """Forty numbers; the first two of the next state are what a subclass finds in them."""

    def __init__(self, dtype: torch.dtype = DOUBLE) -> None:
        spec = ControlSpec("test/Wide-v0", WIDE, 1, 1, 0.25, horizon=1.0, initial_noise_dim=WIDE)
        super().__init__(spec, dtype=dtype)
        generator = torch.Generator().manual_seed(0)
        self.line = torch.randn(7, dtype=dtype, generator=generator)
        self.plane = torch.randn(3, 5, 2, dtype=dtype, generator=generator)

    def initial_state(self, noise: Tensor) -> EnvState:
        return EnvState(noise.new_zeros(len(noise), dtype=DOUBLE), noise.clone())

    def transition(self, state: EnvState, action: Tensor, noise: Tensor) -> tuple[EnvState, Tensor]:
        first, second = self.found(state.x)
        x = torch.cat([first.unsqueeze(1), second.unsqueeze(1), 0.9 * state.x[:, 2:] + 0.1 * action], 1)
        return EnvState(state.t + self.spec.dt, x), first + second

    def found(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.sum(1), x.amax(1)


class Tables(Wide):
    """Elements of tables by numbers of each path, some of them counted from the end."""

    def found(self, x: Tensor) -> tuple[Tensor, Tensor]:
        one, two = (2.0 * x[:, 5]).long().clamp(-3, 2), x[:, 6].long().clamp(-5, 4)
        pair = self.plane[one, two]
        shared = self.plane.permute(2, 0, 1)[:, one % 3, two]  # [2, B]
        return pair[:, 0] + self.line[two], pair[:, 1] + shared[0] - shared.sum(0)


class Choices(Wide):
    """Where the largest stands, and what each path picks or writes."""

    def found(self, x: Tensor) -> tuple[Tensor, Tensor]:
        few = x[:, 10:16]
        tied = few.round()
        most, least = tied.argmax(1), few.argmin(1, keepdim=True)
        upto = few.cumsum(1)
        hot = torch.nn.functional.one_hot(most, 6).to(x.dtype)
        picked = few.gather(1, torch.stack([most, least[:, 0]], 1))
        wrote = few.scatter(1, least, 9.0).scatter(1, most.unsqueeze(1), upto[:, 2:3])
        return picked.sum(1) + (hot * upto).sum(1), wrote.sum(1) + most


class Constants(Wide):
    """Tables made in the step, of constants alone, and columns by constant numbers."""

    def found(self, x: Tensor) -> tuple[Tensor, Tensor]:
        table = torch.zeros(4, 4, dtype=x.dtype)
        table[1:3, 0] = 2.0
        table = table + torch.arange(4, dtype=x.dtype) / torch.tensor([3.0, 4.0, 5.0, 6.0], dtype=x.dtype).unsqueeze(1)
        row = table[x[:, 3].abs().long().clamp(max=3)]  # [B, 4]
        some = x[:, [7, 9, 30]] * x[:, torch.tensor([2, 0, 1])].repeat(1, 1)
        parts = x[:, :12].split([2, 4, 6], 1)
        return (row * x[:, 4:8]).sum(1), some.sum(1) + parts[1].amax(1) + x[:, 20:22].repeat(1, 3).sum(1)


class Same(Wide):
    """What is computed of the environment's own tensors: the same for all paths."""

    def found(self, x: Tensor) -> tuple[Tensor, Tensor]:
        weights = (2.0 * self.line).clamp(-0.5, 0.5)  # [7]
        plane = self.plane.exp() - self.plane  # [3, 5, 2]
        return (weights * x[:, 3:10]).sum(1), (plane.unsqueeze(0) * x[:, 10:25].view(-1, 3, 5, 1)).sum((1, 2, 3))


class Last(Wide):
    """Paths in the last dimension, as code is that wants its rows together in memory."""

    def found(self, x: Tensor) -> tuple[Tensor, Tensor]:
        body = x[:, :6].T.contiguous()  # [6, B]
        a, b, *_ = body.unbind()
        pair = torch.stack([a * b, a - b])  # [2, B]
        high = torch.tensor([[0.5], [2.0]], dtype=x.dtype)
        grown = torch.where(pair > 0.0, high * x[:, 7], pair)  # [2, 1] and [B]
        more = torch.cat([grown, body[2:4]]).view(2, 2, -1)  # [2, 2, B]
        turned = torch.stack([more[0, 1], more[1, 0]]).T  # [B, 2]
        return more.sum((0, 1)) + turned.amax(1), (torch.zeros_like(pair) + pair.cumsum(0)).mean(0) + body.argmax(0)


POLICY = GaussianFeedback(lambda obs: 0.2 * obs[:, :1] - 0.1, 0.8, 1)


@pytest.mark.parametrize("paths", [1, 6, 70])
@pytest.mark.parametrize("kind", [Wide, Tables, Choices, Constants, Same, Last])
def test_the_numbers_are_those_of_eager(kind: type[Wide], paths: int) -> None:
    env = kind()
    start = begin(env, paths, seed=2)
    plain, end = rollout_with_reset(env, POLICY, start, 7)
    found, after = rollout_with_reset(env, POLICY, start, 7, mode="compiled")
    for name in ("obs", "action", "reward", "next_obs", "discount"):
        torch.testing.assert_close(getattr(found, name), getattr(plain, name), rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(after.env.x, end.env.x, rtol=1e-11, atol=1e-13)


class Beyond(Wide):
    """An index that leaves its table."""

    def found(self, x: Tensor) -> tuple[Tensor, Tensor]:
        place = (7.5 * x[:, 5].sign() - 0.5).ceil().long()  # 7, -8 or, at 0, 0
        return self.line[place] * 0.0, self.line[torch.where(x[:, 5] > 0.0, 6, -7)]


def test_beyond_a_table_there_is_no_number() -> None:
    env = Beyond()
    start = begin(env, 70, seed=2)
    with pytest.raises((IndexError, RuntimeError)):
        rollout_with_reset(env, POLICY, start, 1)
    found, _ = rollout_with_reset(env, POLICY, start, 1, mode="compiled")
    assert bool(found.next_obs[0, :, 0].isnan().all())
    expected = torch.where(start.env.x[:, 5] > 0.0, env.line[6], env.line[0])
    assert torch.equal(found.next_obs[0, :, 1], expected)


def test_what_is_not_a_number_is_the_largest_as_in_torch() -> None:
    env = Choices()
    start = begin(env, 4, seed=2)
    start.env.x[1, 12] = start.env.x[1, 14] = start.env.x[3, 10] = float("nan")
    plain, _ = rollout_with_reset(env, POLICY, start, 1)
    found, _ = rollout_with_reset(env, POLICY, start, 1, mode="compiled")
    torch.testing.assert_close(found.next_obs, plain.next_obs, equal_nan=True, rtol=1e-13, atol=1e-13)


class Draws(Wide):
    """What is drawn depends on constants alone: it must not be drawn once and kept."""

    def found(self, x: Tensor) -> tuple[Tensor, Tensor]:
        drawn = torch.multinomial(torch.tensor([0.1, 0.2, 0.3], dtype=x.dtype), 2)
        return x[:, 3], x[:, 4] * drawn.sum()


def test_numbers_drawn_of_constants_are_no_constants(caplog: pytest.LogCaptureFixture) -> None:
    env = Draws()
    with caplog.at_level("INFO", "rlcore.simulation"), pytest.raises(AssertionError, match="left to inductor"):
        rollout_with_reset(env, POLICY, begin(env, 70, seed=2), 1, mode="compiled")
    assert "draws random numbers of its own" in caplog.text
