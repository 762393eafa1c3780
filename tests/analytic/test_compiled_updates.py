"""q-learning, CT-SAC, CT-DDPG and neural integral RL: the compiled update is the eager one, and compiled once.

The fast tests run by hand what would be compiled; the slow ones compile it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.utils import counters
from torch._functorch.aot_autograd import make_boxed_func

from rlcore import ControlSpec
from rlcore.agents.integral_rl import NeuralIntegralRl, NeuralIntegralRlConfig
from rlcore.agents.martingale import DeepConfig, QLearning, QLearningConfig, bounded_weight, ct_ddpg, ct_sac
from rlcore.data import Transitions
from rlcore.errors import ConfigError, NumericsError
from rlcore.experiments.integral_rl_basis import plane
from rlcore.functional.quadrature import IntegratedWiener
from rlcore.nn.mlp import Mlp, Scalar
from rlcore.nn.positive import PositiveDefinite
from rlcore.nn.quadratic_q import QuadraticQ

D, M, ROWS = 3, 2, 40
SPEC = ControlSpec("test", D, M, 0, 0.05, horizon=1.0, discount_rate=0.5, action_low=-1.0, action_high=1.0)
ADAM = partial(torch.optim.Adam, fused=True)


class Offset(nn.Module):
    """A value with one parameter of no dimension beside its network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.offset = network, nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.network(x) + self.offset
        return found


def q_learning(config: QLearningConfig, optimizer: Callable[..., Any] = torch.optim.SGD, **about: Any) -> QLearning:
    generator = torch.Generator().manual_seed(0)
    value = Offset(Scalar(Mlp(D, (8,), 1, generator=generator)))
    mean = Mlp(D, (8,), M, generator=generator)
    return QLearning(value, QuadraticQ(mean, M, 0.1), replace(config, **about), optimizer, bounded_weight(0.1))


def deep(kind: Callable[..., Any], config: DeepConfig, **about: Any) -> Any:
    return kind(SPEC, replace(config, **about), generator=torch.Generator().manual_seed(0), hidden=(8, 8))


RATES = QLearningConfig(0.0, 2.0, 3.0, 4.0, 0.3)
LEARNERS: dict[str, Callable[..., Any]] = {
    "q-learning, SGD": partial(q_learning, RATES),
    "q-learning, Adam, discounted": partial(
        q_learning, replace(RATES, discount_rate=0.5, target_time=1.0, gradient_clip=0.1), ADAM
    ),
    "ct-sac": partial(deep, ct_sac, DeepConfig(decay_time=0.05, gradient_clip=0.5)),
    "ct-ddpg": partial(deep, ct_ddpg, DeepConfig(temperature=0.0)),
}


def rows(seed: int) -> Transitions:
    """Rows of noise that serve all of them."""
    draw = torch.Generator().manual_seed(seed)
    obs, after = torch.randn(2, ROWS, D, generator=draw)
    action = 2.0 * torch.rand(ROWS, M, generator=draw) - 1.0
    dt = 0.05 + 0.1 * torch.rand(ROWS, generator=draw)
    ended = torch.rand(ROWS, generator=draw) < 0.2
    nodes = {
        "node_obs": torch.randn(ROWS, 2, D, generator=draw),
        "node_action": 2.0 * torch.rand(ROWS, 2, M, generator=draw) - 1.0,
        "node_weight": 0.5 * dt.unsqueeze(1).expand(ROWS, 2).clone(),
    }
    reward = torch.randn(ROWS, generator=draw) * dt
    return Transitions(obs, action, reward, torch.exp(-0.5 * dt) * ~ended, after, dt, nodes)


def state(agent: Any) -> dict[str, Tensor]:
    """All that an update moves: parameters, buffers, moments."""
    found = dict(agent.state_dict())
    for name, optimizer in agent.optimizers.items():
        for index, parts in optimizer.state_dict()["state"].items():
            found |= {f"{name}.{index}.{key}": x for key, x in parts.items() if isinstance(x, Tensor)}
    return found


IDLE = ("q.advantage.network.layers.4.bias", "train/actor_objective")
"""A constant in A is no part of q: its gradient is rounding alone, which Adam makes whole steps of."""


def check_alike(one: Any, other: Any, **tolerance: float) -> None:
    ours, theirs = state(one), state(other)
    assert ours.keys() == theirs.keys()
    for name in ours if tolerance["atol"] < 1e-9 else ours.keys() - set(IDLE):
        torch.testing.assert_close(ours[name], theirs[name], **tolerance, msg=lambda text, name=name: f"{name}: {text}")


def learned(name: str, dtype: torch.dtype, updates: int = 6) -> tuple[Any, Any]:
    """The eager and the compiled agent after some updates on different rows."""
    eager, compiled = (LEARNERS[name](compiled=c).to(dtype) for c in (False, True))
    for k in range(updates):
        shown = [agent.update(rows(k).to(dtype=dtype)) for agent in (eager, compiled)]
        assert shown[0].keys() == shown[1].keys()
    for key in shown[0] if dtype == torch.float64 else shown[0].keys() - set(IDLE):
        value = shown[0][key]
        torch.testing.assert_close(torch.as_tensor(value), torch.as_tensor(shown[1][key]), rtol=1e-4, atol=1e-5)
    return eager, compiled


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda method, **_: method)


@pytest.mark.parametrize("name", LEARNERS)
def test_the_traced_steps_are_those_of_autograd_and_the_optimiser(name: str, by_hand: None) -> None:
    """Parameters, slow copies, Adam's moments, average reward and time, to rounding in double precision."""
    eager, compiled = learned(name, torch.float64)
    check_alike(eager, compiled, rtol=1e-9, atol=1e-12)
    assert not torch.equal(next(eager.parameters()), next(LEARNERS[name]().double().parameters()))
    eager.load_training_state(compiled.training_state())
    compiled.load_training_state(eager.training_state())
    for agent in (eager, compiled):
        agent.update(rows(99).to(dtype=torch.float64))
    check_alike(eager, compiled, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("compiled", [False, True])
def test_what_has_diverged_moves_nothing(name: str, compiled: bool, by_hand: None) -> None:
    agent = LEARNERS[name](compiled=compiled)
    agent.update(rows(0))
    before = {key: x.clone() for key, x in state(agent).items()}
    good = rows(1)
    for wrong, message in (
        (good.replace(reward=good.reward * torch.nan), "diverged"),
        (good.replace(reward=1e12 * good.reward.abs()), "diverged"),
        (good.replace(dt=good.dt * (torch.arange(ROWS) != 3)), r"time stamps must grow.*index \[3\]"),
    ):
        with pytest.raises(NumericsError, match=message):
            agent.update(wrong)
        after = state(agent)
        assert all(torch.equal(x, after[key]) for key, x in before.items())


def test_an_optimiser_that_cannot_be_traced_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"SGD or Adam without more, got SGD with momentum; or set compiled=False"):
        q_learning(RATES, partial(torch.optim.SGD, momentum=0.9), compiled=True)
    with pytest.raises(ConfigError, match="got RMSprop"):
        q_learning(RATES, torch.optim.RMSprop, compiled=True)
    q_learning(RATES, torch.optim.RMSprop)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["q-learning, SGD", "ct-sac"])
def test_one_graph_without_random_numbers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.fx.Graph] = []

    def traced(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        seen.append(graph.graph)
        return make_boxed_func(graph.forward)

    compile_with, backend = torch.compile, aot_autograd(fw_compiler=traced)
    monkeypatch.setattr(torch, "compile", lambda method, **_: compile_with(method, fullgraph=True, backend=backend))
    agent = LEARNERS[name](compiled=True)
    agent.update(rows(0))
    (graph,) = seen
    targets = [node.target for node in graph.nodes if isinstance(node.target, torch._ops.OpOverload)]
    assert len(targets) > 50
    assert not [t for t in targets if torch.Tag.nondeterministic_seeded in t.tags]


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNERS)
def test_compiled_updates_are_the_eager_ones(name: str) -> None:
    check_alike(*learned(name, torch.float64), rtol=1e-8, atol=1e-11)
    check_alike(*learned(name, torch.float32), rtol=1e-3, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["q-learning, Adam, discounted", "ct-sac"])
def test_other_data_rates_and_times_are_the_same_graph(name: str) -> None:
    agent = LEARNERS[name](compiled=True)
    agent.update(rows(0))
    agent.update(rows(1))
    before = counters["stats"]["unique_graphs"]
    for k in range(2, 6):
        torch.manual_seed(k)
        for optimizer in agent.optimizers.values():
            for group in optimizer.param_groups:
                group["rate"] *= 0.9
        agent.update(rows(k))
    agent.load_training_state(agent.training_state())
    agent.update(rows(7))
    assert counters["stats"]["unique_graphs"] == before


def neural(compiled: bool, steps: int) -> NeuralIntegralRl:
    study = plane()
    psi = Mlp(2, (6,), 3, generator=torch.Generator().manual_seed(0))
    config = NeuralIntegralRlConfig(steps=steps, damping=1.0, least_decrease=-1e9, compiled=compiled)
    return NeuralIntegralRl(
        PositiveDefinite(psi), study.known, IntegratedWiener(3), config, law=lambda x: study.known.improved_action(x, x)
    )


def fitted(updates: int, steps: int) -> tuple[Any, Any]:
    eager, compiled = neural(False, steps), neural(True, steps)
    source = plane().source(9)
    for _ in range(updates):
        windows = source.next(eager)
        shown = [agent.update(windows) for agent in (eager, compiled)]
        assert shown[0]["train/steps"] == shown[1]["train/steps"]
    return eager, compiled


def test_the_traced_fit_is_the_eager_one(by_hand: None) -> None:
    """Gauss and Newton's steps, to rounding: few, since an ill-conditioned fit multiplies rounding step by step."""
    check_alike(*fitted(2, 3), rtol=1e-8, atol=1e-9)


@pytest.mark.slow
def test_a_compiled_fit_is_the_eager_one_and_compiled_once() -> None:
    eager, compiled = fitted(2, 3)
    check_alike(eager, compiled, rtol=1e-6, atol=1e-8)
    before = counters["stats"]["unique_graphs"]
    compiled.update(plane().source(9).next(compiled))
    assert counters["stats"]["unique_graphs"] == before
