"""Heads against quadrature, the flat Adam against torch's, cells against torch's, PPO against its definition."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rlcore.agents.orpo import PpoConfig, head_of, ppo
from rlcore.agents.orpo.proximal import Weights
from rlcore.data import Transitions
from rlcore.envs import make
from rlcore.errors import ConfigError, ShapeError
from rlcore.nn.actor_critic import ActorCritic, Memory
from rlcore.nn.ensemble import Layers
from rlcore.nn.flat_adam import FlatAdam, Pace
from rlcore.nn.heads import Beta, Categorical, DiagonalGaussian, Head
from rlcore.nn.recurrent import RecurrentLayers
from rlcore.simulation import ControlSpec, WithMemory, begin, rollout_with_reset
from rlcore.training import RolloutSource

DOUBLE = torch.float64
HEADS = {
    "categorical": Categorical(5),
    "gaussian": DiagonalGaussian(1, -1.0, 3.0),
    "beta": Beta(1, -1.0, 3.0),
}


def laws(head: Head, count: int = 4) -> tuple[Tensor, Tensor]:
    """Two laws that are not far apart, several times."""
    generator = torch.Generator().manual_seed(0)
    size = head.outputs + head.free
    p = 0.7 * torch.randn(count, size, dtype=DOUBLE, generator=generator)
    return p, p + 0.2 * torch.randn(count, size, dtype=DOUBLE, generator=generator)


def grid(head: Head) -> tuple[Tensor, float]:
    """All actions [J, m] and the weight of each in an integral."""
    if isinstance(head, Categorical):
        return torch.eye(head.action_dim, dtype=DOUBLE), 1.0
    low, high = (-1.0, 3.0) if isinstance(head, Beta) else (-60.0, 60.0)
    points = 400_000
    width = (high - low) / points
    return (low + width * (torch.arange(points, dtype=DOUBLE) + 0.5)).unsqueeze(1), width


@pytest.mark.parametrize("name", HEADS)
def test_a_head_is_a_law_and_its_divergences_are_the_integrals(name: str) -> None:
    head = HEADS[name]
    actions, weight = grid(head)
    for p, q in zip(*laws(head), strict=True):
        log_p, log_q = (head.log_prob(law.expand(len(actions), -1), actions) for law in (p, q))
        mass = log_p.exp() * weight
        assert float(mass.sum()) == pytest.approx(1.0, abs=1e-6)
        assert float(head.entropy(p)) == pytest.approx(-float((mass * log_p).sum()), rel=1e-5, abs=1e-7)
        assert float(head.kl(p, q)) == pytest.approx(float((mass * (log_p - log_q)).sum()), rel=1e-5)
        chi = float((torch.exp(2.0 * log_p - log_q) * weight).sum()) - 1.0
        assert float(head.chi_squared(p, q)) == pytest.approx(chi, rel=1e-4)
        assert float(head.kl(p, p)) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("name", HEADS)
def test_samples_have_the_moments_of_the_law(name: str) -> None:
    head = HEADS[name]
    law = laws(head)[0][1]
    actions, weight = grid(head)
    mass = head.log_prob(law.expand(len(actions), -1), actions).exp() * weight
    noise = torch.randn(200_000, head.noise_dim, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
    drawn = head.act(law.expand(len(noise), -1), noise)
    for power in (1, 2, 3):
        expected = (mass.unsqueeze(1) * actions**power).sum(0)
        spread = (mass.unsqueeze(1) * actions ** (2 * power)).sum(0) - expected**2
        assert ((drawn**power).mean(0) - expected).abs().le(5.0 * (spread / len(noise)).sqrt() + 1e-9).all()


def test_chi_squared_of_a_wider_gaussian_is_infinite() -> None:
    head = DiagonalGaussian(1, -1.0, 1.0)
    wide, narrow = torch.tensor([0.0, 1.0]), torch.tensor([0.0, 0.0])
    assert math.isinf(float(head.chi_squared(wide, narrow)))
    assert math.isfinite(float(head.chi_squared(narrow, wide)))


class Quadratic(nn.Module):
    """Losses of two runs."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor([[1.0, -2.0], [3.0, 0.5]]))
        self.b = nn.Parameter(torch.tensor([[[0.3]], [[-1.0]]]))

    def loss(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        off = (self.a * x).sum(1) + self.b[:, 0, 0] ** 3
        return off**2, (off.detach().abs(),)


def test_flat_adam_is_torch_adam_run_by_run() -> None:
    ours, theirs = Quadratic(), Quadratic()
    flat_adam, optimizer = FlatAdam(ours, "loss", 2), torch.optim.Adam(theirs.parameters(), lr=0.1)
    at, active = flat_adam.begin(), torch.ones(2)
    for k in range(20):
        x = torch.tensor([[1.0, math.sin(k)]])
        flat_adam.step(at, Pace(torch.tensor(0.1)), active, x)
        optimizer.zero_grad()
        theirs.loss(x)[0].sum().backward()
        optimizer.step()
    flat_adam.store(at.flat)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


def test_a_run_that_exceeds_its_limit_rests_and_the_other_goes_on() -> None:
    module = Quadratic()
    adam = FlatAdam(module, "loss", 2)
    at = adam.begin()
    flat = at.flat
    before, x = flat.clone(), torch.ones(1, 2)
    off = module.loss(x)[1][0]
    limit = float(off.mean())
    active, *_ = adam.step(at, Pace(torch.tensor(0.1), 1.0, limit), torch.ones(2), x)
    assert active.tolist() == (off <= limit).float().tolist()
    assert 0.0 < float(active.sum()) < 2.0
    rests = active == 0.0
    assert torch.equal(flat[rests], before[rests])
    assert not torch.equal(flat[~rests], before[~rests])
    assert adam.steps.tolist() == active.tolist()


def test_gru_layers_are_those_of_torch() -> None:
    layers = RecurrentLayers("gru", 1, 3, 4, 1, generator=torch.Generator().manual_seed(0))
    cell = nn.GRUCell(3, 4)
    with torch.no_grad():
        cell.weight_ih.copy_(layers.inward[0].weight[0].T)
        cell.weight_hh.copy_(layers.recurrent[0].weight[0].T)
        cell.bias_ih.zero_()
        cell.bias_hh.zero_()
    x, h = torch.randn(1, 6, 3), torch.randn(1, 6, 4)
    out, memory = layers(x, h)
    torch.testing.assert_close(out[0], cell(x[0], h[0]))
    assert torch.equal(out, memory)


def test_lstm_layers_are_those_of_torch() -> None:
    layers = RecurrentLayers("lstm", 1, 3, 4, 1, generator=torch.Generator().manual_seed(0))
    cell = nn.LSTMCell(3, 4)
    with torch.no_grad():
        cell.weight_ih.copy_(layers.inward[0].weight[0].T)
        cell.weight_hh.copy_(layers.recurrent[0].weight[0].T)
        cell.bias_ih.zero_()
        cell.bias_hh.zero_()
        cell.bias_ih[4:8] = 1.0  # the forget gate begins open
    x, h, c = torch.randn(1, 6, 3), torch.randn(1, 6, 4), torch.randn(1, 6, 4)
    out, memory = layers(x, torch.cat([h, c], -1))
    h1, c1 = cell(x[0], (h[0], c[0]))
    torch.testing.assert_close(out[0], h1)
    torch.testing.assert_close(memory[0], torch.cat([h1, c1], -1))


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_following_a_sequence_finds_what_acting_remembered(cell: str) -> None:
    env = make("rlcore/Pendulum-v0", horizon=0.4)
    agent = ppo(env.spec, memory=Memory(cell, 8, 2), seeds=2)
    world = WithMemory(env, agent.memory_dim)
    rows, _ = rollout_with_reset(world, agent, begin(world, 4, seed=0), 16)
    networks, last = agent.proximal.networks, rows.extras["last"]
    assert bool(last.any())
    width = env.spec.observation_dim
    after = rows.next_obs[:-1][last[:-1]]
    assert (after[:, width:] != 0).any()
    assert (rows.obs[1:][last[:-1]][:, width:] == 0).all()
    obs = rows.obs.unflatten(1, (-1, 2)).transpose(1, 2)
    law, value = networks.along(obs, last.unflatten(1, (-1, 2)).transpose(1, 2))
    for k in range(len(obs)):
        single = networks.look(obs[k])
        torch.testing.assert_close(law[k], single.law)
        torch.testing.assert_close(value[k], single.value)


def rows_of(reward: Tensor, discount: float, last: list[bool], next_value_obs: float) -> Transitions:
    """One path of three steps in one dimension."""
    obs = torch.tensor([[[1.0]], [[2.0]], [[3.0]]])
    after = torch.cat([obs[1:], torch.tensor([[[next_value_obs]]])])
    k = len(obs)
    flags = {"last": torch.tensor(last).unsqueeze(1)}
    return Transitions(obs, torch.zeros(k, 1, 1), reward, torch.full((k, 1), discount), after, torch.ones(k, 1), flags)


def test_a_time_limit_takes_the_value_of_the_true_next_observation() -> None:
    agent = ppo(ControlSpec("x", 1, 1, 0, dt=1.0), PpoConfig(trace_time=math.inf, epochs=1, value_weight=0.0))
    proximal = agent.proximal
    value = proximal.networks.look(torch.tensor([[[1.0], [2.0], [3.0], [9.0]]])).value[0]
    packed: list[Tensor] = []
    proximal.descend = lambda rows, pull: packed.append(rows) or [torch.ones(1)] * 6  # type: ignore[method-assign]
    reward = torch.tensor([[1.0], [2.0], [4.0]])
    for discount, expected in ((0.5, 4.0 + 0.5 * float(value[3].detach())), (0.0, 4.0)):
        rows = rows_of(reward, 0.5, [False, False, True], 9.0)
        ended = rows.discount.clone()
        ended[-1] = discount
        proximal.improve(rows.replace(discount=ended))
        target = proximal.unpack(packed[-1], Weights(torch.zeros(()), torch.zeros(1)))[
            4
        ].flatten()  # in the order of the steps
        assert float(target[2]) == pytest.approx(expected)
        assert float(target[0]) == pytest.approx(1.0 + 0.5 * (2.0 + 0.5 * expected))


def test_the_update_makes_good_actions_likelier_and_runs_do_not_mix() -> None:
    spec = replace(ControlSpec("x", 1, 3, 0, dt=1.0), discrete=True)
    agent = ppo(spec, PpoConfig(rate=1e-2, minibatch=64), seeds=2)
    obs = torch.ones(8, 32, 1)
    choice = torch.randint(3, (8, 32), generator=torch.Generator().manual_seed(0))
    action = nn.functional.one_hot(choice, 3).float()
    reward = action[..., 0].clone()
    reward[:, 1::2] = action[:, 1::2, 2]  # the second run is paid for another choice
    ones = torch.ones(8, 32)
    rows = Transitions(obs, action, reward, 0.0 * ones, obs, ones, {"last": ones.bool()})
    for _ in range(3):
        agent.update(rows)
    law = torch.softmax(agent.proximal.networks.look(torch.ones(2, 1, 1)).law, -1)
    assert law[:, 0].argmax(-1).tolist() == [0, 2]
    assert agent.act(torch.ones(2, 1)).tolist() == [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]


def test_a_small_target_of_kl_ends_the_update_early() -> None:
    env = make("rlcore/Pendulum-v0")
    found = {}
    for target in (1e-5, math.inf):
        agent = ppo(env.spec, PpoConfig(trace_time=1.0, target_kl=target, rate=1e-2))
        found[target] = agent.update(RolloutSource(env, 16, 32, seed=0).next(agent))
    assert float(found[1e-5]["train/steps_share"]) < 0.5
    assert float(found[math.inf]["train/steps_share"]) == 1.0


@pytest.mark.parametrize("kind", ["mlp", "gru"])
def test_a_saved_agent_goes_on_bit_for_bit(kind: str, tmp_path: object) -> None:
    env = make("rlcore/Pendulum-v0")
    config = PpoConfig(trace_time=1.0, minibatch=32, entropy=0.1, entropy_final=0.0, anneal_steps=1000)
    memory = Memory("gru", 8) if kind == "gru" else None
    agents = [ppo(env.spec, config, memory=memory, head="beta") for _ in range(2)]
    world = WithMemory(env, agents[0].memory_dim) if memory else env
    source = RolloutSource(world, 8, 16, seed=0)
    agents[0].update(source.next(agents[0]))
    agents[0].save(f"{tmp_path}/a.ckpt")
    agents[1].load(f"{tmp_path}/a.ckpt")
    batch = source.next(agents[0])
    for agent in agents:
        agent.update(batch)
    for p, q in zip(agents[0].parameters(), agents[1].parameters(), strict=True):
        assert torch.equal(p, q)
    assert torch.equal(agents[0].proximal.average, agents[1].proximal.average)


@pytest.mark.parametrize("batches", [0, 3])
def test_the_averaged_policy_has_the_mean_of_the_last_weights(batches: int) -> None:
    env = make("rlcore/Pendulum-v0")
    agent = ppo(env.spec, PpoConfig(trace_time=1.0, minibatch=32, average_steps=batches * 4 * 16), seeds=2)
    source = RolloutSource(env, 8, 16, seed=0)
    start = {name: 2.0 * x for name, x in agent.proximal.networks.state_dict().items()}
    agent.proximal.networks.load_state_dict(start)
    assert torch.equal(agent.averaged().proximal.adam.flat(), agent.proximal.adam.flat()), "nothing to average yet"
    mean = torch.zeros_like(agent.proximal.adam.flat())
    for k in range(6):
        agent.update(source.next(agent))
        mean = mean + (agent.proximal.adam.flat() - mean) / max(1, min(k + 1, batches))
    averaged = agent.averaged()
    torch.testing.assert_close(averaged.proximal.adam.flat(), mean)
    obs = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(averaged.act(obs), agent.act(obs)) == (batches == 0)
    assert not any(p is q for p, q in zip(averaged.parameters(), agent.parameters(), strict=True))


@pytest.mark.slow
def test_one_graph_takes_the_same_steps() -> None:
    env = make("rlcore/Pendulum-v0")
    agents = [ppo(env.spec, PpoConfig(trace_time=1.0, minibatch=64, compiled=c)) for c in (False, True)]
    batch = RolloutSource(env, 8, 16, seed=0).next(agents[0])
    for agent in agents:
        agent.update(batch)
    for p, q in zip(agents[0].parameters(), agents[1].parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)


def test_bad_settings_are_refused_in_one_line() -> None:
    spec = ControlSpec("x", 1, 2, 0, dt=1.0)
    for changes in (
        {"rate": 0.0},
        {"clip": math.nan},
        {"target_kl": 0.0},
        {"epochs": 0},
        {"minibatch": 0.5},
        {"average_steps": -1},
    ):
        with pytest.raises(ConfigError):
            ppo(spec, PpoConfig(**changes))
    with pytest.raises(ConfigError, match="takes 2 numbers"):
        head_of(spec, "categorical")
    with pytest.raises(ConfigError, match="one of 2 choices"):
        head_of(replace(spec, discrete=True), "beta")
    with pytest.raises(ShapeError, match="input_scale"):
        ActorCritic(3, Categorical(2), generator=torch.Generator(), input_scale=[1.0])
    with pytest.raises(ShapeError, match="RolloutSource"):
        ppo(spec).update(rows_of(torch.ones(3, 1), 1.0, [False] * 3, 0.0).flatten())


CASES: dict[str, Any] = {
    "gaussian": {"seeds": 2},
    "categorical": {"spec": replace(ControlSpec("x", 3, 3, 0, dt=0.05), discrete=True)},
    "beta with a memory": {"head": "beta", "memory": Memory("gru", 8)},
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_compiled_update_is_the_eager_one_and_is_compiled_once(case: str) -> None:
    """Weights and moments after three updates, in graphs of four gradient steps, with rates that change."""
    parts = dict(CASES[case])
    spec = parts.pop("spec", ControlSpec("x", 3, 2, 0, dt=0.05, action_low=-1.0, action_high=1.0))
    config = PpoConfig(trace_time=1.0, epochs=2, minibatch=32, rate=1e-2, rate_final=0.0, anneal_steps=512, sequence=4)
    layers = Layers((8, 8), activation="tanh")
    agents = [ppo(spec, replace(config, compiled=c), layers=layers, **parts) for c in (False, True)]
    seeds, width = parts.get("seeds", 1), 3 + agents[0].memory_dim
    torch._dynamo.utils.counters.clear()
    for k in range(3):
        draw = torch.Generator().manual_seed(k)
        obs, after = torch.randn(2, 16, 8 * seeds, width, generator=draw)
        action = torch.rand(16, 8 * seeds, spec.action_dim, generator=draw) - 0.5
        if spec.discrete:
            action = nn.functional.one_hot(action.argmax(-1), 3).float()
        ones = torch.ones(16, 8 * seeds)
        last = torch.rand(16, 8 * seeds, generator=draw) < 0.1
        rows = Transitions(obs, action, obs[..., 0], 0.9 * ones, after, 0.05 * ones, {"last": last})
        metrics = [agent.update(rows) for agent in agents]
        if k == 0:
            graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert graphs == 2  # one of the gradient steps, one of what comes before them
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs
    for name, value in metrics[0].items():
        torch.testing.assert_close(
            metrics[1][name], value, rtol=1e-3, atol=1e-4, msg=lambda text, n=name: f"{n}: {text}"
        )
    for (name, one), two in zip(agents[0].state_dict().items(), agents[1].state_dict().values(), strict=True):
        if isinstance(one, Tensor):
            torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-4, msg=lambda text, n=name: f"{n}: {text}")
