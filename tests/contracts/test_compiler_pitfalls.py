"""Known silent errors of the compiler, each as a test that sees it.

The graphs are traced, lowered and rewritten as ever, and run by hand: what is tested here is what a graph is asked for
and when it is asked again. Source: pytorch/pytorch issues #153679, #170604, #192000, #107076, #185248, #177652.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rlcore
from rlcore.envs import make
from rlcore.envs.control.stopped_brownian import StoppedBrownian, StoppedBrownianConfig
from rlcore.errors import ConfigError
from rlcore.experiments.acceptance.modes import gap_from, without_machine_code
from rlcore.nn.graphs import line
from rlcore.simulation import EnvState, Feedback, begin, rollout, rollout_with_reset
from rlcore.simulation.environment import Environment

PATHS = 12


@pytest.fixture(autouse=True)
def _by_hand() -> Iterator[None]:
    with without_machine_code():
        yield


class Line(nn.Module):
    """u = gain (w x) with a number, a tensor, and a function of its own."""

    noise_dim = 0

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain, self.bend = 0.3, torch.sin
        self.weight = nn.Parameter(torch.linspace(0.5, 1.0, width, dtype=torch.float64))

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        return self.gain * self.bend((obs * self.weight).sum(1, keepdim=True))


def lqr() -> Environment:
    return make("rlcore/ScalarLqr-v0", dtype=torch.float64)


def changed_number(policy: Line, env: Any) -> None:
    policy.gain = -0.7


def changed_function(policy: Line, env: Any) -> None:
    policy.bend = torch.cos


def changed_weight_in_place(policy: Line, env: Any) -> None:
    policy.weight.detach().mul_(-2.0)


def another_weight(policy: Line, env: Any) -> None:
    policy.weight = nn.Parameter(3.0 * policy.weight.detach())


def a_weight_that_is_not_contiguous(policy: Line, env: Any) -> None:
    policy.weight = nn.Parameter(torch.arange(2.0 * len(policy.weight), dtype=torch.float64)[1::2])


def another_discount(policy: Line, env: Any) -> None:
    env.spec = make("rlcore/ScalarLqr-v0", dt=0.5 * env.spec.dt).spec


CHANGES: list[Callable[[Line, Any], None]] = [
    changed_number,
    changed_function,
    changed_weight_in_place,
    another_weight,
    a_weight_that_is_not_contiguous,
    another_discount,
]


@pytest.mark.filterwarnings("ignore:.*compiled again")
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_changes_in_the_same_object_is_seen(change: Callable[[Line, Any], None]) -> None:
    """A graph is kept for kinds of objects; what is inside them may change between two calls."""
    env = lqr()
    policy, start = Line(env.spec.observation_dim), begin(env, PATHS, seed=1)
    before = rollout_with_reset(env, policy, start, 8, mode="compiled")[0]
    assert gap_from(start, env, policy, "reset") < 1e-12
    change(policy, env)
    assert gap_from(start, env, policy, "reset") < 1e-12
    after = rollout_with_reset(env, policy, start, 8, mode="compiled")[0]
    assert not torch.equal(after.action, before.action) or not torch.equal(after.dt, before.dt)


@pytest.mark.filterwarnings("ignore:.*compiled again")
def test_two_objects_that_take_turns_are_not_mixed_up() -> None:
    env = lqr()
    one, other = Line(env.spec.observation_dim), Line(env.spec.observation_dim)
    other.gain = 2.0
    other.weight.detach().mul_(-1.0)
    start = begin(env, PATHS, seed=1)
    for policy in (one, other, one, other):
        assert gap_from(start, env, policy, "paths") < 1e-12


@pytest.mark.parametrize("loop", [rollout, rollout_with_reset])
def test_results_of_earlier_calls_stay(loop: Callable[..., Any]) -> None:
    """The state after a call is what the next one starts from: neither may be written over."""
    env = lqr()
    policy, start = Line(env.spec.observation_dim), begin(env, PATHS, seed=1)
    kept = start.env.x.clone()
    first, middle = loop(env, policy, start, 8, mode="compiled")
    copies = {name: value.clone() for name, value in vars(first).items() if isinstance(value, Tensor)}
    at, when = middle.env.x.clone(), middle.env.t.clone()
    for _ in range(3):
        loop(env, policy, middle, 8, mode="compiled")
    assert torch.equal(start.env.x, kept)
    assert torch.equal(middle.env.x, at)
    assert torch.equal(middle.env.t, when)
    assert all(torch.equal(getattr(first, name), value) for name, value in copies.items())


def test_a_start_that_is_not_contiguous_is_the_same_start() -> None:
    env = make("rlcore/MatrixLqr-v0", dtype=torch.float64)
    policy = Feedback(lambda obs: -obs[:, : env.spec.action_dim])
    start = begin(env, PATHS, seed=2)
    wide = start.env.x.repeat_interleave(2, 0)[::2]
    assert not wide.is_contiguous()
    strided = start._replace(env=EnvState(start.env.t.repeat_interleave(2)[::2], wide))
    assert gap_from(strided, env, policy, "reset") < 1e-12
    found = rollout_with_reset(env, policy, strided, 4, mode="compiled")[0]
    assert torch.equal(found.obs, rollout_with_reset(env, policy, start, 4, mode="compiled")[0].obs)


class Draws(StoppedBrownian):
    def transition(self, state: EnvState, action: Tensor, noise: Tensor) -> tuple[EnvState, Tensor]:
        return super().transition(EnvState(state.t, state.x + 0.01 * torch.randn_like(state.x)), action, noise)


def test_random_numbers_inside_a_graph_are_refused() -> None:
    """Compiled and eager generators give other numbers, and neither belongs to a row."""
    env = Draws(StoppedBrownianConfig())
    with pytest.raises(ConfigError, match=r"Draws.*draws random numbers of its own; take them from the noise"):
        rollout(env, Feedback(lambda obs: obs[:, :1]), begin(env, PATHS, seed=0), 4, mode="compiled")


class Branches(StoppedBrownian):
    def transition(self, state: EnvState, action: Tensor, noise: Tensor) -> tuple[EnvState, Tensor]:
        if float(state.x.sum()) > 1e9:
            return state, action[:, 0]
        return super().transition(state, action, noise)


def test_a_break_in_the_graph_is_an_error_and_not_a_slow_graph() -> None:
    env = Branches(StoppedBrownianConfig())
    with pytest.raises(ConfigError, match=r"Branches.*test_compiler_pitfalls\.py:\d+"):
        rollout(env, Feedback(lambda obs: obs[:, :1]), begin(env, PATHS, seed=0), 4, mode="compiled")


def test_no_prototype_of_control_flow_and_no_hidden_cuda_graphs() -> None:
    """Two scans in one graph give wrong gradients; trees of CUDA graphs write over what is iterated."""
    words = (
        "higher_order_ops",
        "torch.cond(",
        "torch.while_loop",
        "reduce-overhead",
        "max-autotune",
        "triton.cudagraphs",
    )
    root = Path(rlcore.__file__).parents[1]
    files = [path for folder in ("rlcore", "agents", "envs", "experiments") for path in (root / folder).rglob("*.py")]
    assert len(files) > 300
    found = [f"{path}: {word}" for path in files for word in words if word in path.read_text()]
    assert found == []


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_single_number_is_changed_in_place_as_a_vector_of_one(dtype: torch.dtype) -> None:
    """Torch 2.13 loses what a graph for a processor does in place to a float64 of no dimension; `line` is the way."""
    number = torch.zeros((), dtype=dtype)

    def add(x: Tensor) -> Tensor:
        x.add_(1.0)
        return 2.0 * x

    with torch.no_grad():
        found = torch.compile(add, fullgraph=True, dynamic=False)(line(number))
    assert number.item() == 1.0
    assert found.item() == 2.0
