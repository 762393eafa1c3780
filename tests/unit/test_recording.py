"""A recorded function: what it copies in and out, and when it records again. What is recorded needs a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rlcore.agents.actor_critic import SAC, DataSpaces, NetworkConfig, SacRedq
from rlcore.agents.integral_rl import NeuralIntegralRlConfig
from rlcore.agents.martingale import DeepConfig, QLearning, QLearningConfig, ct_sac
from rlcore.agents.orpo import PpoConfig, ppo
from rlcore.data import Transitions
from rlcore.envs import make
from rlcore.errors import ConfigError
from rlcore.nn import graphs
from rlcore.nn.ensemble import Layers
from rlcore.nn.mlp import Mlp, Scalar
from rlcore.nn.quadratic_q import QuadraticQ
from rlcore.nn.recording import KEPT, Recorded
from rlcore.training import RolloutSource

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")


class Tape:
    """Stands for a CUDA graph: a replay does the work again, on the same tensors, into the same results."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def __call__(self, work: Callable[[], Any], device: torch.device) -> tuple[Callable[[], None], Any]:
        self.recorded += 1
        for _ in range(3):  # a warm-up moves what it may
            found = work()

        def replay() -> None:
            self.replayed += 1
            again = work()
            for old, new in zip(tensors(found), tensors(again), strict=True):
                old.copy_(new)

        return replay, found


def tensors(value: Any) -> list[Tensor]:
    return [x for x in torch.utils._pytree.tree_leaves(value) if isinstance(x, Tensor)]


def momentum(at: dict[str, Tensor], gradient: Tensor, rate: float) -> tuple[Tensor, str]:
    at["mean"].lerp_(gradient, 0.5)
    at["x"].sub_(rate * at["mean"])
    return at["x"].square().sum(), "done"


NAMES = ("at", "gradient", "rate")


def test_a_recording_moves_what_is_named_and_only_by_the_calls() -> None:
    """The warm-up moves nobody; other tensors are served by the same recording; what was returned stays as it was."""
    tape = Tape()
    recorded = Recorded(momentum, NAMES, ("at",), tape)
    for size in (3, 5):
        for seed in range(2):
            draw = torch.Generator().manual_seed(seed)
            start = {name: torch.randn(size, generator=draw) for name in ("mean", "x")}
            ours, theirs = ({k: v.clone() for k, v in start.items()} for _ in range(2))
            earlier: list[tuple[Tensor, Tensor]] = []
            for _ in range(3):
                gradient = torch.randn(size, generator=draw)
                kept = gradient.clone()
                (found, word), (expected, _) = recorded(ours, gradient, 0.1), momentum(theirs, gradient, 0.1)
                assert word == "done"
                assert torch.equal(gradient, kept)
                earlier.append((found, expected))
                assert all(torch.equal(a, b) for a, b in earlier)
                assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    assert (tape.recorded, tape.replayed) == (2, 12)


def test_what_is_not_named_is_not_written_back() -> None:
    at = {"mean": torch.zeros(2), "x": torch.ones(2)}
    Recorded(momentum, NAMES, (), Tape())(at, torch.ones(2), 0.1)
    assert at["mean"].tolist() == [0.0, 0.0]


def test_numbers_shapes_and_kinds_are_recorded_anew_and_few_are_kept() -> None:
    tape = Tape()
    recorded = Recorded(momentum, NAMES, ("at",), tape)

    def call(size: int, rate: float, dtype: torch.dtype = torch.float32) -> None:
        recorded({"mean": torch.zeros(size, dtype=dtype), "x": torch.zeros(size, dtype=dtype)},
                 torch.ones(size, dtype=dtype), rate)  # fmt: skip

    for arguments in ((2, 0.1), (2, 0.1), (2, 0.2), (3, 0.1), (2, 0.1, torch.float64), (2, 0.1)):
        call(*arguments)
    assert tape.recorded == 4
    for size in range(10, 10 + 2 * KEPT):
        call(size, 0.1)
    assert len(recorded.recordings) == KEPT


def test_parameters_are_moved_through_their_detached_views() -> None:
    """As updates pass them; a tensor that a checkpoint put in another's place is served by the same recording."""
    layer = nn.Linear(2, 2)

    def shrink(given: dict[str, Tensor]) -> Tensor:
        for p in given.values():
            p.mul_(0.5)
        return given["bias"].clone()

    tape = Tape()
    recorded = Recorded(shrink, ("given",), ("given",), tape)
    before = layer.weight.detach().clone()
    recorded({name: p.detach() for name, p in layer.named_parameters()})
    assert torch.equal(layer.weight.detach(), 0.5 * before)
    layer.weight = nn.Parameter(torch.ones(2, 2))
    recorded({name: p.detach() for name, p in layer.named_parameters()})
    assert torch.equal(layer.weight.detach(), torch.full((2, 2), 0.5))
    assert tape.recorded == 1


def test_tensors_in_two_places_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"all its tensors on one device, got cpu, meta; move the agent"):
        Recorded(lambda a, b: a, ("a", "b"), (), Tape())(torch.ones(1), torch.ones(1, device="meta"))


def test_a_graph_of_work_on_the_cpu_is_refused() -> None:
    """It would hold nothing, and its replays would do nothing."""
    with pytest.raises(ConfigError, match=r"needs its agent on a GPU, got cpu; move it with \.to\('cuda'\)"):
        Recorded(momentum, NAMES, ("at",))({"mean": torch.zeros(1), "x": torch.zeros(1)}, torch.ones(1), 0.1)


def q_learning(compiled: graphs.Compiled) -> QLearning:
    draw = torch.Generator().manual_seed(0)
    value, mean = Scalar(Mlp(3, (8,), 1, generator=draw)), Mlp(3, (8,), 2, generator=draw)
    return QLearning(value, QuadraticQ(mean, 2, 0.1), QLearningConfig(compiled=compiled))


SOFT = replace(SAC, networks=NetworkConfig(2, Layers((16, 16)), Layers((16, 16))))
SPEC = make("rlcore/Pendulum-v0").spec
AGENTS: dict[str, Callable[[graphs.Compiled], Any]] = {
    "sac": lambda compiled: SacRedq(DataSpaces(3, 2), replace(SOFT, compiled=compiled)),
    "ppo": lambda compiled: ppo(SPEC, PpoConfig(trace_time=1.0, minibatch=64, compiled=compiled)),
    "q-learning": q_learning,
    "ct-sac": lambda compiled: ct_sac(SPEC, DeepConfig(compiled=compiled), generator=torch.Generator().manual_seed(0)),
}


@without_gpu
@pytest.mark.parametrize("name", AGENTS)
def test_graph_needs_cuda_and_says_so(name: str) -> None:
    with pytest.raises(ConfigError, match=r"compiled='graph' needs CUDA, and there is no such GPU here; take"):
        AGENTS[name]("graph")


@pytest.mark.parametrize("name", AGENTS)
def test_another_form_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"compiled must be False, True or 'graph', got 'fast'"):
        AGENTS[name]("fast")  # type: ignore[arg-type]


def test_every_agent_that_compiles_knows_the_three_forms() -> None:
    for config in (SAC, PpoConfig(), QLearningConfig(), DeepConfig(), NeuralIntegralRlConfig()):
        assert replace(config, compiled="graph").compiled == "graph"


def recorded_by(tape: Tape, monkeypatch: pytest.MonkeyPatch) -> None:
    """Updates run by hand, and recorded by the tape."""
    monkeypatch.setattr(torch, "compile", lambda method, **_: method)
    monkeypatch.setattr(graphs, "check_cuda", lambda what: None)
    monkeypatch.setattr(graphs, "Recorded", lambda *args: Recorded(*args, tape))
    monkeypatch.setattr("rlcore.nn.steps.GRAPHS", {})


def rows(seed: int) -> Transitions:
    draw = torch.Generator().manual_seed(seed)
    obs, after = torch.randn(2, 32, 3, generator=draw)
    action, ones = 2.0 * torch.rand(32, 2, generator=draw) - 1.0, torch.ones(32)
    return Transitions(obs, action, obs[:, 0], 0.9 * ones, after, 0.1 * ones)


@pytest.mark.parametrize("name", ["sac", "q-learning", "ppo"])
def test_whole_updates_name_all_that_they_change(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a recording does to its copies comes back: parameters, moments and counts are those of the plain graph."""
    tape = Tape()
    recorded_by(tape, monkeypatch)
    plain, recorded = AGENTS[name](True), AGENTS[name]("graph")
    env = make("rlcore/Pendulum-v0")
    source = RolloutSource(env, 8, 16, seed=0)
    for k in range(4):
        if k == 2:
            recorded.load_training_state(plain.training_state())
        batch = source.next(plain) if name == "ppo" else rows(k)
        shown = [agent.update(batch) for agent in (plain, recorded)]
    assert all(torch.equal(torch.as_tensor(x), torch.as_tensor(shown[1][key])) for key, x in shown[0].items())
    one, two = plain.state_dict(), recorded.state_dict()
    assert all(torch.equal(x, two[key]) for key, x in one.items() if isinstance(x, Tensor))
    assert tape.recorded <= 3
    assert tape.replayed >= 4


@needs_gpu
@pytest.mark.slow
@pytest.mark.parametrize("name", AGENTS)
def test_recorded_updates_are_the_eager_ones_on_a_gpu(name: str) -> None:
    """After three updates, the last from a checkpoint of the eager agent; nothing waits for the device in a replay."""
    eager, recorded = (AGENTS[name](compiled).to("cuda") for compiled in (False, "graph"))
    source = RolloutSource(make("rlcore/Pendulum-v0", device="cuda"), 8, 16, seed=0)
    for k in range(3):
        if k == 2:
            recorded.load_training_state(eager.training_state())
        batch = source.next(eager) if name == "ppo" else rows(k).to("cuda")
        if name == "ct-sac":
            nodes = {"node_obs": batch.obs.unsqueeze(1), "node_action": batch.action[:, None, :1]}
            batch = batch.replace(action=batch.action[:, :1], extras={**nodes, "node_weight": batch.dt.unsqueeze(1)})
        for agent in (eager, recorded):
            agent.update(batch)
    for one, two in zip(eager.parameters(), recorded.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)


@needs_gpu
@pytest.mark.slow
def test_a_replay_waits_for_nothing() -> None:
    at = {name: torch.ones(4, device="cuda") for name in ("mean", "x")}
    recorded = Recorded(momentum, NAMES, ("at",))
    recorded(at, torch.ones(4, device="cuda"), 0.1)
    gradient = torch.ones(4, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        recorded(at, gradient, 0.1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
