"""The rollout as one loop in C++: the numbers of eager, rows that depend on nothing else, and what has no loop."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from torch import Tensor, nn

from rlcore.experiments.acceptance.modes import numbers
from rlcore.simulation import (
    ControlSpec,
    Environment,
    EnvState,
    GaussianFeedback,
    RolloutState,
    UniformPolicy,
    begin,
    native,
    rollout,
    rollout_with_reset,
)
from rlcore.simulation.graphs import RecompileWarning
from rlcore.simulation.stepping import absorbing

DOUBLE = torch.float64
pytestmark = pytest.mark.usefixtures("only_loops")


class Spiral(Environment):
    """Turns, drifts with noise and ends above a line with a prize; every path begins where its own noise says."""

    def __init__(self, *, dtype: torch.dtype = DOUBLE, horizon: float = 0.75, pull: float = 0.5) -> None:
        spec = ControlSpec("test/Spiral-v0", 2, 1, 3, 0.125, horizon=horizon, discount_rate=0.1, observation_dim=3)
        super().__init__(spec, dtype=dtype)
        self.matrix = torch.tensor([[0.9, -0.3], [0.3, 0.9]], dtype=dtype)
        self.pull = pull

    @property
    def step_noise_dim(self) -> int:
        return 3

    def initial_state(self, noise: Tensor) -> EnvState:
        return EnvState(noise.new_zeros(len(noise), dtype=DOUBLE), torch.tanh(noise))

    def transition(self, state: EnvState, action: Tensor, noise: Tensor) -> tuple[EnvState, Tensor]:
        x = state.x @ self.matrix.T + self.pull * torch.cat([action, noise[:, :1]], 1)
        x = torch.stack([x[:, 0], x[:, 1] + 0.1 * noise[:, 1] * noise[:, 2]], 1)
        return EnvState(state.t + self.spec.dt, x), -(x**2).sum(1) + torch.sin(state.t).to(x.dtype)

    def observe(self, state: EnvState) -> Tensor:
        return torch.cat([torch.cos(state.x), state.x.flip(1)[:, :1]], 1)

    def terminated(self, state: EnvState) -> Tensor:
        return state.x[:, 0] > 1.2

    def terminal_reward(self, state: EnvState) -> Tensor:
        return 10.0 * state.x[:, 1]


UNARY = """
    sin cos tan exp log erf erfc erfinv tanh sigmoid sinh cosh atan asin acos asinh acosh atanh expm1 log1p exp2 log2
    sqrt rsqrt abs floor ceil trunc round sign reciprocal relu isnan isinf neg square
"""


class Zoo(Environment):
    """Two numbers, and every third function of them as an observation."""

    def __init__(self, dtype: torch.dtype, first: int) -> None:
        self.first = first
        count = len(self.values(torch.zeros(1, dtype=dtype), torch.ones(1, dtype=dtype))[first::3])
        super().__init__(ControlSpec(f"test/Zoo{first}-v0", 2, 1, 0, 1.0, observation_dim=count), dtype=dtype)

    @staticmethod
    def values(x: Tensor, y: Tensor) -> list[Tensor]:
        found = [getattr(torch, name)(x).to(x.dtype) for name in UNARY.split()]
        found += [
            torch.maximum(x, y),
            torch.minimum(x, y),
            torch.hypot(x, y),
            torch.remainder(x, y),
            x / y,
            x**3,
            x**0.5,
        ]
        found += [
            x**-1,
            x.abs() ** 1.7,
            x.clamp(-0.5, 0.5),
            x.clamp_min(0.1),
            torch.where(x > y, x, -y),
            torch.add(x, x, alpha=3),
        ]
        asked = (x < y, x <= 0.0, x >= y, x == 0.0, x != y, (x > 0) & (y > 0), (x > 0) | ~(y > 0), (x > 0) ^ (y > 0))
        whole = x.nan_to_num(0.0, 0.0, 0.0).clamp(-9.0, 9.0).to(torch.int64)
        return found + [answer.to(x.dtype) for answer in asked] + [(whole * 2 - 1).to(x.dtype)]

    def initial_state(self, noise: Tensor) -> EnvState:
        return EnvState(noise.new_zeros(len(noise), dtype=DOUBLE), noise.clone())

    def transition(self, state: EnvState, action: Tensor, noise: Tensor) -> tuple[EnvState, Tensor]:
        return EnvState(state.t + 1.0, state.x), state.x[:, 0]

    def observe(self, state: EnvState) -> Tensor:
        return torch.stack(self.values(*state.x.unbind(1))[self.first :: 3], 1)


POLICY = GaussianFeedback(lambda obs: 0.2 * obs[:, :1] - 0.1, 0.8, 1)
LOOPS = {"whole paths": rollout, "with reset": rollout_with_reset}


def place(x: Tensor) -> RolloutState:
    return RolloutState(EnvState(torch.zeros(len(x), dtype=DOUBLE), x), torch.arange(len(x)), 0, 0)


@pytest.mark.parametrize("first", range(3))
@pytest.mark.parametrize(("dtype", "ulps"), [(DOUBLE, 4), (torch.float32, 6)])
def test_every_operation_is_torchs(dtype: torch.dtype, ulps: int, first: int) -> None:
    special = [0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, 1e-40, -1e-40, 1e-6, -1e-6, 80.0, -80.0, 3e4, -3e4]
    x = torch.cat([torch.tensor(special), torch.linspace(-12.0, 12.0, 301), torch.linspace(-0.999, 0.999, 201)]).to(
        dtype
    )
    y = torch.where(torch.arange(len(x)) % 2 == 0, 0.7, -1.3).to(dtype)
    env, start = Zoo(dtype, first), place(torch.stack([x, y], 1))
    found, _ = rollout(env, POLICY, start, 1, mode="compiled")
    exact = torch.stack(Zoo.values(x.double(), y.double())[first::3], 1)
    got = found.obs[1].double()
    if dtype == DOUBLE:
        torch.testing.assert_close(got, exact, rtol=1e-14, atol=1e-15, equal_nan=True)
        return
    eager = torch.stack(Zoo.values(x, y)[first::3], 1).double()
    assert torch.equal(got.isnan(), eager.isnan())
    assert torch.equal(got.isinf(), eager.isinf())
    off = (got - exact).abs() / (exact.abs().clamp_min(2.0**-126) * 2.0**-23)
    own = (eager - exact).abs() / (exact.abs().clamp_min(2.0**-126) * 2.0**-23)
    worse = (off > own + ulps) & exact.isfinite() & eager.isfinite()
    assert not bool(worse.any()), sorted({int(column) for column in worse.nonzero()[:, 1]})


@pytest.mark.parametrize("loop", LOOPS)
def test_the_numbers_are_those_of_eager(loop: str) -> None:
    env = Spiral()
    start = begin(env, 100, seed=3, first_row=7)._replace(step=5)
    late = (torch.arange(100) % 3) * 0.25 if loop == "with reset" else torch.zeros(100)
    start = start._replace(env=EnvState(start.env.t + late, start.env.x))
    plain, end = LOOPS[loop](env, POLICY, start, 13)
    fast, last = LOOPS[loop](env, POLICY, start, 13, mode="compiled")
    for a, b in zip(numbers(plain, end), numbers(fast, last), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-12, atol=1e-12)
    ended = plain.terminated if loop == "whole paths" else plain.extras["last"]
    assert bool(ended.any())
    assert not bool(ended.all())


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_a_row_has_the_same_bits_in_any_batch_at_any_place_and_in_any_number_of_calls(dtype: torch.dtype) -> None:
    env = Spiral(dtype=dtype)
    whole, _ = rollout_with_reset(env, POLICY, begin(env, 200, seed=1), 12, mode="compiled")
    for first, count in ((0, 1), (63, 2), (64, 64), (130, 70)):
        part, middle = rollout_with_reset(env, POLICY, begin(env, count, seed=1, first_row=first), 5, mode="compiled")
        rest, _ = rollout_with_reset(env, POLICY, middle, 7, mode="compiled")
        for name in ("obs", "action", "reward", "next_obs"):
            together = torch.cat([getattr(part, name), getattr(rest, name)])
            assert torch.equal(together, getattr(whole, name)[:, first : first + count]), (name, first)


def test_threads_share_the_rows_and_change_none() -> None:
    env, threads = Spiral(), torch.get_num_threads()
    start = begin(env, 300, seed=2)
    one, _ = rollout_with_reset(env, POLICY, start, 9, mode="compiled")
    torch.set_num_threads(2)
    try:
        two, _ = rollout_with_reset(env, POLICY, start, 9, mode="compiled")
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(one.reward, two.reward)
    assert torch.equal(one.next_obs, two.next_obs)


class Net(nn.Module):
    """A small policy with weights."""

    noise_dim = 1

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.first = nn.Parameter(torch.randn(3, 5, generator=generator, dtype=DOUBLE))
        self.last = nn.Parameter(torch.randn(5, generator=generator, dtype=DOUBLE))

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        mean = (torch.tanh(obs @ self.first) * self.last).sum(1, keepdim=True)
        return mean if noise is None else mean + 0.1 * noise


def test_weights_tensors_numbers_and_batches_are_data(capsys: pytest.CaptureFixture[str]) -> None:
    """One text of C++ for all of them, compiled once, and never the numbers of the call before."""
    first = Net(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RecompileWarning)
        rollout_with_reset(Spiral(), first, begin(Spiral(), 20, seed=0), 3, mode="compiled")
        times = capsys.readouterr().err.count("compiling")
        with torch.no_grad():
            first.first.mul_(-0.5)
        turned = Spiral(pull=0.7)
        turned.matrix = -turned.matrix
        for env, policy, batch in ((Spiral(), first, 20), (turned, Net(1), 20), (turned, Net(1), 33)):
            start = begin(env, batch, seed=4)
            found, _ = rollout_with_reset(env, policy, start, 6, mode="compiled")
            expected, _ = rollout_with_reset(env, policy, start, 6)
            torch.testing.assert_close(found.reward, expected.reward, rtol=1e-12, atol=1e-12)
    assert times <= 1
    assert "compiling" not in capsys.readouterr().err


def test_a_policy_with_something_of_its_own_for_each_path() -> None:
    env = Spiral()
    own = torch.linspace(-1.0, 1.0, 70, dtype=DOUBLE).unsqueeze(1)
    policy = GaussianFeedback(lambda obs: own, 0.5, 1)
    start = begin(env, 70, seed=4)
    found, _ = rollout_with_reset(env, policy, start, 6, mode="compiled")
    expected, _ = rollout_with_reset(env, policy, start, 6)
    torch.testing.assert_close(found.reward, expected.reward, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("paths", [1, 2, 3])
def test_a_batch_as_large_as_a_matrix_is_no_special_case(paths: int) -> None:
    env = Spiral()
    start = begin(env, paths, seed=4)
    found, _ = rollout_with_reset(env, POLICY, start, 8, mode="compiled")
    expected, _ = rollout_with_reset(env, POLICY, start, 8)
    torch.testing.assert_close(found.obs, expected.obs, rtol=1e-12, atol=1e-12)


class Sorts(Spiral):
    def observe(self, state: EnvState) -> Tensor:
        return torch.cat([state.x, state.x.sort(dim=0).values[:, :1]], 1)  # a path looks at the others


class Means(Spiral):
    def observe(self, state: EnvState) -> Tensor:
        return torch.cat([state.x, state.x[:, :1] - state.x[0, 0]], 1)


class Mixes(Spiral):
    def observe(self, state: EnvState) -> Tensor:
        others = (2.0 * state.x[:, 0]).view(3, -1).T.reshape(-1)  # as many numbers, of other paths
        return torch.cat([state.x, others.unsqueeze(1)], 1)


class Shifts(Spiral):
    def observe(self, state: EnvState) -> Tensor:
        one_on = torch.cat([2.0 * state.x[:, 0], 3.0 * state.x[:, 1]])[1 : len(state.x) + 1]
        return torch.cat([state.x, one_on.unsqueeze(1)], 1)


@pytest.mark.parametrize("kind", [Sorts, Means, Mixes, Shifts])
def test_what_looks_at_other_paths_has_no_loop(kind: type[Spiral]) -> None:
    env = kind()
    start = begin(env, 24, seed=0)
    out = {"t": torch.empty(2, dtype=DOUBLE)}
    policy = UniformPolicy(-1.0, 1.0, 1)
    assert native.run_native(absorbing, env, policy, start, 2, 1, out) is None
    assert native.run_native(absorbing, env, policy, start, 2, 1, out) is None
    (loop,) = native.LOOPS.values()
    assert loop is not None
    assert len(loop.written) == 1, "the second call knows"


def test_one_law_has_no_loop_and_the_next_one_has() -> None:
    """Both are of one type, and each is remembered for itself."""
    env = Spiral()
    start = begin(env, 24, seed=0)
    good, bad = (
        GaussianFeedback(law, 0.3, 1) for law in (lambda obs: -obs[:, :1], lambda obs: obs[:1, :1] - obs[:, :1])
    )
    for policy, looped in ((bad, False), (good, True), (bad, False), (good, True)):
        if looped:
            found, _ = rollout_with_reset(env, policy, start, 3, mode="compiled")
            torch.testing.assert_close(found.reward, rollout_with_reset(env, policy, start, 3)[0].reward)
        else:
            with pytest.raises(AssertionError, match="left to inductor"):
                rollout_with_reset(env, policy, start, 3, mode="compiled")


class Layers(nn.Module):
    """A network wider than what is taken column by column, with all that its layers may do beside each other."""

    noise_dim = 1

    def __init__(self, dtype: torch.dtype, hidden: int = 41) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)

        def weights(*shape: int) -> nn.Parameter:
            return nn.Parameter(0.4 * torch.randn(*shape, generator=generator, dtype=dtype))

        self.first, self.middle, self.last = weights(hidden, 3), weights(hidden, hidden), weights(hidden, 1)
        self.shift, self.scale = weights(hidden), weights(1, hidden)

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        hidden = torch.tanh(nn.functional.linear(obs, self.first, self.shift))  # a bias
        hidden = nn.functional.silu(hidden @ self.middle) * self.scale + 0.1  # none; a row for all paths
        hidden = hidden * obs[:, 1:2] + hidden.sum(1, keepdim=True)  # a column for all columns, and a sum
        mean = torch.where(hidden > 0.0, hidden, 0.1 * hidden) @ self.last + nn.functional.linear(
            obs[:, ::2], self.first[:1, :2]
        )
        return 0.05 * mean if noise is None else 0.05 * mean + 0.1 * noise


@pytest.mark.parametrize(("dtype", "tolerance"), [(DOUBLE, 1e-11), (torch.float32, 1e-4)])
@pytest.mark.parametrize("paths", [2, 70])
def test_a_network_runs_in_the_loop(paths: int, dtype: torch.dtype, tolerance: float) -> None:
    env, policy = Spiral(dtype=dtype), Layers(dtype)
    start = begin(env, paths, seed=4)
    found, _ = rollout_with_reset(env, policy, start, 5, mode="compiled")
    expected, _ = rollout_with_reset(env, policy, start, 5)
    torch.testing.assert_close(found.action, expected.action, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(found.reward, expected.reward, rtol=tolerance, atol=tolerance)
    with torch.no_grad():
        policy.middle.mul_(0.5)  # read where they are, at every call
    found, _ = rollout_with_reset(env, policy, start, 5, mode="compiled")
    torch.testing.assert_close(
        found.action, rollout_with_reset(env, policy, start, 5)[0].action, rtol=tolerance, atol=tolerance
    )


def test_a_row_of_a_network_has_the_same_bits_in_any_batch() -> None:
    env, policy = Spiral(dtype=torch.float32), Layers(torch.float32, 66)
    whole, _ = rollout_with_reset(env, policy, begin(env, 130, seed=4), 5, mode="compiled")
    part, _ = rollout_with_reset(env, policy, begin(env, 3, seed=4, first_row=70), 5, mode="compiled")
    assert torch.equal(part.action, whole.action[:, 70:73])
