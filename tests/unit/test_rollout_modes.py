"""Modes of the hot loop: the same numbers to rounding, graphs made once, and errors that name the line."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from rlcore.envs import make
from rlcore.errors import ConfigError
from rlcore.experiments.acceptance.modes import without_machine_code
from rlcore.simulation import (
    ControlledDiffusion,
    ControlSpec,
    EnvState,
    EulerMaruyama,
    Feedback,
    GaussianFeedback,
    begin,
    compiled,
    rollout,
    rollout_with_reset,
)
from rlcore.simulation import modes as modes_module
from rlcore.simulation.columns import ByColumns
from rlcore.simulation.compiled import GRAPHS, TOGETHER, body, targets_of
from rlcore.simulation.drawn import draw
from rlcore.simulation.graphs import Graph, RecompileWarning, Repeated
from rlcore.simulation.noise import Stream, normals

LOOPS = {"whole paths": rollout, "with reset": rollout_with_reset}
PATH = ("obs", "action", "reward", "terminated")
ROWS = ("obs", "action", "reward", "next_obs", "discount")


@pytest.fixture(autouse=True)
def graphs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the compiled mode is that of graphs; `test_native_rollout.py` is about the loop that comes before them."""
    monkeypatch.setattr(compiled, "run_native", lambda *rollout: None)


class Barrier(ControlledDiffusion):
    """dX = (rate + u) dt + dW in two components; ends above a barrier, with a prize."""

    def __init__(self, horizon: float = 1.0, dt: float = 0.125, dtype: torch.dtype = torch.float64) -> None:
        super().__init__(ControlSpec("test/Pair-v0", 2, 1, 2, dt, horizon=horizon), EulerMaruyama(), dtype=dtype)
        self.rate = torch.tensor([0.1, -0.1], dtype=dtype)

    def initial_state(self, noise: Tensor) -> EnvState:
        return EnvState(noise.new_zeros(noise.shape[0], dtype=torch.float64), 0.1 * noise)

    def drift(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:
        return self.rate + torch.cat([u, -x[:, :1]], 1)

    def diffusion(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:
        return torch.eye(2, dtype=x.dtype).expand(len(x), 2, 2)

    def reward_rate(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:
        return -(x**2).sum(1)

    def terminated(self, state: EnvState) -> Tensor:
        return state.x[:, 0] > 0.8

    def terminal_reward(self, state: EnvState) -> Tensor:
        return 10.0 * state.x[:, 0]


class Net(nn.Module):
    """A small Gaussian policy with weights."""

    noise_dim = 1

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.first = nn.Parameter(torch.randn(2, 8, generator=generator, dtype=torch.float64))
        self.second = nn.Parameter(torch.randn(8, 1, generator=generator, dtype=torch.float64))

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        mean = torch.tanh(obs @ self.first) @ self.second
        return mean if noise is None else mean + 0.3 * noise


def law(obs: Tensor) -> Tensor:
    return 0.5 - obs[:, :1]


POLICY = GaussianFeedback(law, 0.3, 1)


def same(found: object, expected: object, names: tuple[str, ...], tolerance: float = 1e-12) -> None:
    got, want = ({name: getattr(batch, name) for name in names} for batch in (found, expected))
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance, equal_nan=True)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [16, 11, 1])
@pytest.mark.parametrize("loop", LOOPS)
def test_compiled_gives_the_numbers_of_eager(loop: str, steps: int) -> None:
    env = Barrier(horizon=math.inf if loop == "whole paths" else 1.0)
    start = begin(env, 24, seed=3)
    expected, end = LOOPS[loop](env, POLICY, start, steps)
    found, last = LOOPS[loop](env, POLICY, start, steps, mode="compiled")
    same(found, expected, PATH if loop == "whole paths" else ROWS)
    same(last.env, end.env, ("t", "x"))
    assert last.step == end.step
    if steps == 16:
        ended = expected.terminated[-1] if loop == "whole paths" else expected.extras["last"]
        assert bool(ended.any()), "the test must see an end"


@pytest.mark.slow
def test_a_compiled_path_does_not_depend_on_the_calls() -> None:
    env = Barrier()
    start = begin(env, 24, seed=3)
    whole, end = rollout_with_reset(env, POLICY, start, 16, mode="compiled")
    first, middle = rollout_with_reset(env, POLICY, start, 8, mode="compiled")
    second, last = rollout_with_reset(env, POLICY, middle, 8, mode="compiled")
    for name in ROWS:
        assert torch.equal(getattr(whole, name), torch.cat([getattr(first, name), getattr(second, name)])), name
    assert torch.equal(end.env.x, last.env.x)


@pytest.mark.slow
def test_nothing_is_compiled_again_for_other_seeds_weights_and_numbers_of_chunks() -> None:
    env = Barrier()
    with warnings.catch_warnings():
        warnings.simplefilter("error", RecompileWarning)
        rollout_with_reset(env, Net(0), begin(env, 24, seed=0), 8, mode="compiled")
        before = sum(graph.made for graph in GRAPHS.values())
        other = Barrier()
        other.rate = torch.tensor([-0.3, 0.2], dtype=torch.float64)
        for world, net, seed, steps in (
            (env, Net(1), 0, 8),
            (env, Net(0), 7, 8),
            (env, Net(0), 0, 24),
            (other, Net(2), 9, 16),
        ):
            start = begin(world, 24, seed=seed, first_row=5)
            found, _ = rollout_with_reset(world, net, start, steps, mode="compiled")
            same(found, rollout_with_reset(world, net, start, steps)[0], ROWS)
    assert sum(graph.made for graph in GRAPHS.values()) == before


@pytest.mark.parametrize(("start", "count"), [(0, 8), (3, 21), (2**33, 40)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_compiled_noise_is_the_noise(start: int, count: int, dtype: torch.dtype, tolerance: float) -> None:
    row = torch.cat([torch.arange(67), torch.tensor([2**31, 2**40, 2**55 - 1])])  # vectors and a remainder
    for seed in (0, 2**40 + 3, 2**64 - 1):
        for rows in (row, row[::3], row[-1:]):
            found = normals(seed, rows, Stream.ACTION, start, count, dtype, draw)
            expected = normals(seed, rows, Stream.ACTION, start, count, dtype)
            torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_a_row_of_compiled_noise_depends_on_nothing_else() -> None:
    """To the bit, whether it stands in a whole vector or in the remainder."""
    row = torch.arange(100)
    whole = normals(5, row, Stream.PROCESS, 0, 32, torch.float32, draw)
    for k in (0, 40, 99):
        alone = normals(5, row[k : k + 1], Stream.PROCESS, 8, 16, torch.float32, draw)
        assert torch.equal(alone[:, 0], whole[8:24, k]), k


class Asks(Barrier):
    def drift(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:
        return x if x.abs().max() > 1.0 else -x  # Python looks at the data


def test_an_environment_that_cannot_be_compiled_is_named_with_its_line() -> None:
    env = Asks()
    with pytest.raises(ConfigError, match=r"Asks with GaussianFeedback.*test_rollout_modes\.py:\d+.*mode 'eager'"):
        rollout(env, POLICY, begin(env, 24, seed=0), 8, mode="compiled")


def test_what_does_not_fit_is_said_before_it_is_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    env = Barrier()
    monkeypatch.setattr(modes_module, "free_memory", lambda device: 1 << 30)
    with pytest.raises(ConfigError, match=r"keeps 36\.9 GiB, but 1\.0 GiB are free.*at most 27 paths fit"):
        rollout_with_reset(env, POLICY, begin(env, 1000, seed=0), 600_000)


def test_auto_looks_at_the_device_and_the_size() -> None:
    env = Barrier()
    assert modes_module.choose("auto", env, 4096, 64) == "eager"
    assert modes_module.choose("auto", env, 65536, 256) == "compiled"
    assert modes_module.choose("auto", make("rlcore/LoadFrequency-v0"), 65536, 256) == "eager", "32 unrolled substeps"
    with pytest.raises(ConfigError, match="mode must be one of"):
        modes_module.choose("quick", env, 1, 1)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="needs an environment on a GPU"):
        modes_module.choose("graph", env, 1, 1)


@pytest.mark.parametrize(
    ("steps", "expected"), [(1, (1, False)), (7, (7, False)), (64, (8, False)), (100, (5, False)), (13, (8, True))]
)
def test_a_body_divides_the_steps_where_it_can(steps: int, expected: tuple[int, bool]) -> None:
    assert body(steps) == expected


def test_a_long_step_makes_a_short_body() -> None:
    assert modes_module.operations(make("rlcore/ScalarLqr-v0")) < 50
    assert 100 < modes_module.operations(make("rlcore/Pendulum-v0")) < 600
    assert [body(64, most) for most in (1, 2, 3, 5)] == [(1, False), (2, False), (2, False), (4, False)]
    assert body(7, 3) == (3, True)


@dataclass
class Straight:
    """A policy with a number of its own."""

    gain: float
    noise_dim: int = 0

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        return self.gain * obs[:, :1]


@pytest.mark.slow
def test_other_numbers_inside_policy_and_config_are_seen_and_compile_nothing() -> None:
    base = {"sigma": 0.43, "running": 0.31, "high": 0.87}  # unlike each other and all numbers of the code
    with warnings.catch_warnings():
        warnings.simplefilter("error", RecompileWarning)
        made = set()
        for gain, changes in ((0.45, {}), (-0.25, {}), (0.31, {"sigma": 0.2}), (0.75, dict.fromkeys(base, 0.75))):
            env = make("rlcore/StoppedBrownian-v0", dtype=torch.float64, **{**base, **changes})
            start = begin(env, 24, seed=0)
            found, _ = rollout_with_reset(env, Straight(gain), start, 8, mode="compiled")
            same(found, rollout_with_reset(env, Straight(gain), start, 8)[0], ROWS)
            made.add(sum(graph.made for graph in GRAPHS.values()))
    assert len(made) == 1


@pytest.mark.slow
def test_another_function_inside_the_policy_is_seen_and_said() -> None:
    env = Barrier()
    start = begin(env, 24, seed=0)
    rollout(env, Feedback(lambda obs: 0.5 * obs[:, :1]), start, 8, mode="compiled")
    other = Feedback(lambda obs: torch.sin(obs[:, :1]))
    with pytest.warns(RecompileWarning, match="keep what varies in tensors"):
        found, _ = rollout(env, other, start, 8, mode="compiled")
    same(found, rollout(env, other, start, 8)[0], PATH)


def test_a_graph_is_called_again_without_a_look_at_what_stands_still() -> None:
    def moved(x: Tensor, still: Tensor, target: Tensor) -> tuple[Tensor, Tensor, None]:
        target.copy_(0.5 * x + still)
        return 2.0 * x, x, None

    graph = Graph(moved, "a sum", 4)
    repeated, still = Repeated(graph), torch.ones(4)
    with without_machine_code():
        for k in range(3):
            x, target = torch.full((4,), float(k)), torch.zeros(4)
            twice, given, nothing = repeated((x, target), (x, still, target))
            assert torch.equal(twice, 2.0 * x)
            assert torch.equal(target, 0.5 * x + 1.0)
            assert given is x
            assert nothing is None
    assert repeated.code is not None, "the graph's own code must be called"
    assert graph.made == 1


@pytest.mark.parametrize("batch", [4, TOGETHER + 1])
def test_targets_are_the_result_itself(batch: int) -> None:
    out = {"t": torch.zeros(4), "obs": torch.zeros(4, 3, batch).mT, "reward": torch.zeros(4, batch)}
    for targets in targets_of(out, 2):
        for part in (target for parts in targets.values() for target in parts):
            part.add_(1.0)
    assert all(bool((value == 1.0).all()) for value in out.values())


@pytest.mark.parametrize(("loop", "batch"), [("with reset", 1024), ("whole paths", 3072)])
def test_columns_that_lie_apart_hold_the_numbers_of_eager(
    loop: str, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chunk that stops on the way writes first into room of its own, which must lie as the result does."""
    monkeypatch.setattr(compiled, "LARGE_BODY", 4)
    env, steps = Barrier(horizon=math.inf if loop == "whole paths" else 0.25), 5
    start = begin(env, batch, seed=3)
    with without_machine_code():
        found, last = LOOPS[loop](env, POLICY, start, steps, mode="compiled")
    assert found.action.stride(0) > batch
    expected, end = LOOPS[loop](env, POLICY, start, steps)
    same(found, expected, PATH if loop == "whole paths" else ROWS)
    same(last.env, end.env, ("t", "x"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("loop", LOOPS)
def test_a_captured_rollout_gives_the_numbers_of_eager(loop: str) -> None:
    env = make("rlcore/ScalarLqr-v0", dtype=torch.float64, device="cuda", horizon=0.1)
    policy = Feedback(lambda obs: -0.5 * obs)
    for seed in (0, 1):
        start = begin(env, 64, seed=seed)
        expected, end = LOOPS[loop](env, policy, start, 24)
        found, last = LOOPS[loop](env, policy, start, 24, mode="graph")
        same(found, expected, PATH if loop == "whole paths" else ROWS)
        same(last.env, end.env, ("t", "x"))


def test_unbind_is_done_by_columns() -> None:
    """No [B, n] is put together where an environment takes its state apart."""

    def turned(x: Tensor) -> Tensor:
        a, b = x.unbind(1)
        return torch.stack([-b, a], 1).unbind(1)[0] + a

    x = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    traced = make_fx(turned)(x)
    by_columns = make_fx(lambda *args: ByColumns(traced, 8).run(*args))(x)
    names = [str(node.target) for node in by_columns.graph.nodes if node.op == "call_function"]
    assert not any("cat" in name or "stack" in name for name in names), names
    assert torch.equal(by_columns(x), turned(x))
