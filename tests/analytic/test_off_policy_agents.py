"""Off-policy agents on problems of one step whose answers are known, and the independence of their seeds."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from functorch.compile import make_boxed_func
from torch import Tensor
from torch._dynamo.backends.common import aot_autograd

from rlcore.agents.actor_critic import (
    RLPD,
    SAC,
    WSRL,
    Awac,
    AwacConfig,
    BehaviourCloning,
    CloningConfig,
    Cql,
    CqlConfig,
    DataSpaces,
    Iql,
    IqlConfig,
    NetworkConfig,
    SacConfig,
    SacRedq,
    Td3Bc,
    Td3BcConfig,
    cal_ql,
)
from rlcore.data import Transitions
from rlcore.errors import ConfigError, ShapeError
from rlcore.nn import steps
from rlcore.nn.ensemble import Layers
from rlcore.nn.steps import GRAPHS
from rlcore.training import Agent

SPACES = DataSpaces(1, 1, action_low=-2.0, action_high=2.0)
SMALL = NetworkConfig(critics=2, critic=Layers((32, 32)), actor=Layers((32,), output_gain=0.01))
TEN = replace(SMALL, critics=10, critic=Layers((32, 32), layer_norm=True))
SMALL_SOFT = replace(WSRL, networks=replace(SMALL, critics=3), critic_steps=1, target_actions=2)
FAST: dict[str, Any] = {"critic_rate": 3e-3, "actor_rate": 3e-3}


def bandit(count: int, seed: int, *, seeds: int | None = None, spread: float = 2.0, best: float = 0.6) -> Transitions:
    """One step, which ends: reward -(a - best x)^2, actions uniform in +-spread, which the policy has to outdo."""
    generator = torch.Generator().manual_seed(seed)
    lead = (count,) if seeds is None else (seeds, count)
    obs = 2.0 * torch.rand(*lead, 1, generator=generator) - 1.0
    action = spread * (2.0 * torch.rand(*lead, 1, generator=generator) - 1.0)
    reward = -((action - best * obs) ** 2).squeeze(-1)
    return Transitions(obs, action, reward, torch.zeros(lead), obs, torch.ones(lead), {"mc_return": reward})


def learn(agent: Agent[Transitions], updates: int, rows: int = 256, **about: Any) -> Agent[Transitions]:
    for k in range(updates):
        agent.update(bandit(rows, k, **about))
    return agent


OBS = torch.tensor([[-0.9], [-0.3], [0.3], [0.9]])


def mode(agent: Agent[Transitions]) -> Tensor:
    with torch.no_grad():
        return agent.act(OBS).squeeze(1)


def test_sac_finds_the_best_action_and_the_entropy_asked_for() -> None:
    config = replace(SAC, networks=SMALL, **FAST, temperature_rate=3e-3, initial_temperature=0.2)
    agent = learn(SacRedq(SPACES, config), 700)
    torch.testing.assert_close(mode(agent), 0.6 * OBS.squeeze(1), atol=0.15, rtol=0)
    rows = agent.networks.rows(bandit(2000, 9))  # type: ignore[attr-defined]
    _, log_prob = agent.networks.policy.sample(rows.obs, torch.randn_like(rows.action))  # type: ignore[attr-defined]
    assert -log_prob.mean().item() == pytest.approx(-1.0, abs=0.25)


def test_the_mean_of_critics_serves_as_well() -> None:
    config = replace(RLPD, networks=replace(SMALL, critics=5), **FAST, critic_steps=2)
    agent = learn(SacRedq(SPACES, config), 300)
    torch.testing.assert_close(mode(agent), 0.6 * OBS.squeeze(1), atol=0.2, rtol=0)


def test_cloning_returns_the_mean_of_the_data() -> None:
    agent = BehaviourCloning(SPACES, CloningConfig(replace(SMALL, critics=1), rate=3e-3))
    for k in range(400):
        rows = bandit(256, k, spread=0.3)
        agent.update(rows.replace(action=rows.action + 0.8 * rows.obs))
    torch.testing.assert_close(mode(agent), 0.8 * OBS.squeeze(1), atol=0.1, rtol=0)


@pytest.mark.parametrize("tau", [0.5, 0.9])
def test_the_value_of_iql_is_the_expectile_of_the_rewards(tau: float) -> None:
    networks = replace(SMALL, state_dependent_scale=False)
    agent = Iql(SPACES, IqlConfig(networks, expectile=tau, inverse_temperature=4.0, rate=3e-3, target_rate=0.05))
    learn(agent, 600)
    with torch.no_grad():
        value = agent.state_value(OBS.unsqueeze(0)).squeeze(0)
    for x, found in zip(OBS.squeeze(1).tolist(), value.tolist(), strict=True):
        assert found == pytest.approx(expectile(x, tau), abs=0.2)
    if tau == 0.9:
        torch.testing.assert_close(mode(agent), 0.6 * OBS.squeeze(1), atol=0.25, rtol=0)


def expectile(x: float, tau: float) -> float:
    """That of -(a - 0.6 x)^2 over a uniform in +-2, by bisection."""
    a = torch.linspace(-2.0, 2.0, 20001, dtype=torch.float64)
    reward, low, high = -((a - 0.6 * x) ** 2), -8.0, 0.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        balance = tau * (reward - middle).clamp(min=0).sum() - (1 - tau) * (middle - reward).clamp(min=0).sum()
        low, high = (middle, high) if balance > 0 else (low, middle)
    return low


def test_awac_weighs_better_actions() -> None:
    agent = Awac(SPACES, AwacConfig(SMALL, temperature=0.2, rate=3e-3))
    torch.testing.assert_close(mode(learn(agent, 500)), 0.6 * OBS.squeeze(1), atol=0.25, rtol=0)


@pytest.mark.parametrize(("weight", "expected"), [(1e3, 0.6), (1e-3, 0.0)])
def test_td3_bc_lies_between_the_data_and_the_best(weight: float, expected: float) -> None:
    agent = learn(Td3Bc(SPACES, Td3BcConfig(SMALL, weight=weight, rate=3e-3)), 600)
    torch.testing.assert_close(mode(agent), expected * OBS.squeeze(1), atol=0.2, rtol=0)


@pytest.mark.parametrize("importance", [True, False])
def test_cql_settles_where_its_gradient_vanishes(importance: bool) -> None:
    """With data uniform on the box: Q(a) = r(a) - alpha / 2 (p(a) / b - 1), p = exp(Q) normalised, b the density."""
    alpha = 1.0
    sac = SacConfig(replace(SMALL, critics=2), **FAST, target_critics=1)
    agent = Cql(SPACES, CqlConfig(sac, weight=alpha, importance=importance, actions=10))
    learn(agent, 500, rows=128, best=0.0)
    unit = torch.linspace(-0.9, 0.9, 10).view(1, -1, 1)
    with torch.no_grad():
        found = agent.networks.q(torch.zeros_like(unit), unit).mean(1).squeeze(0)
    torch.testing.assert_close(found, fixed_point(alpha)(2.0 * unit.flatten()), atol=0.25, rtol=0)


def fixed_point(alpha: float) -> Any:
    a = torch.linspace(-2.0, 2.0, 2001, dtype=torch.float64)
    q = -(a**2)
    for _ in range(2000):
        p = torch.softmax(q, 0) * len(a)  # over the uniform density
        q = q + 0.05 * (-(a**2) - 0.5 * alpha * (p - 1.0) - q)
    return lambda at: torch.tensor([float(q[(a - x).abs().argmin()]) for x in at.tolist()])


def test_calibration_stops_the_pushing_at_the_returns() -> None:
    """Where Q of the policy's actions lies below the return, the regulariser has no gradient there."""
    plain, bounded = Cql(SPACES, CqlConfig()), cal_ql(SPACES)
    bounded.load_state_dict(plain.state_dict())
    rows = plain.networks.rows(bandit(64, 0))
    high = rows.replace(extras={"mc_return": torch.full_like(rows.reward, 1e3)})
    gaps = [gap_of(agent, high).mean().item() for agent in (plain, bounded)]
    assert gaps[1] > 900.0 > gaps[0]
    low = rows.replace(extras={"mc_return": torch.full_like(rows.reward, -1e3)})
    bounded.load_state_dict(plain.state_dict())
    assert torch.equal(gap_of(plain, low), gap_of(bounded, low))


def gap_of(agent: Cql, rows: Transitions) -> Tensor:
    return agent.gap(rows.obs, agent.networks.q(rows.obs, rows.action), *agent.drawn(rows))


def test_the_multiplier_moves_towards_its_gap() -> None:
    for gap, up in ((-50.0, True), (50.0, False)):
        agent = Cql(SPACES, CqlConfig(weight=1.0, gap=gap, multiplier_rate=1e-2))
        assert torch.nn.functional.softplus(agent.raw_multiplier).item() == pytest.approx(1.0, rel=1e-6)  # type: ignore[arg-type]
        agent.update(bandit(64, 0))
        assert (torch.nn.functional.softplus(agent.raw_multiplier).item() > 1.0) is up  # type: ignore[arg-type]


AGENTS = {
    "sac": lambda **k: SacRedq(SPACES, WSRL, **k),
    "cql": lambda **k: Cql(SPACES, CqlConfig(gap=0.8), **k),
    "cal-ql": lambda **k: cal_ql(SPACES, **k),
    "iql": lambda **k: Iql(SPACES, **k),
    "awac": lambda **k: Awac(SPACES, **k),
    "cloning": lambda **k: BehaviourCloning(SPACES, **k),
    "td3-bc": lambda **k: Td3Bc(SPACES, **k),
}


@pytest.mark.parametrize("name", AGENTS)
def test_seeds_do_not_touch_each_other(name: str) -> None:
    """What the rows of seed 1 are changes nothing for seed 0, and every seed has weights of its own."""
    ends = []
    for other in (1, 2):
        agent = AGENTS[name](seed=3, seeds=2)
        for k in range(2):
            rows = bandit(64, k, seeds=2)
            mine = torch.tensor([1.0, 0.0]).view(2, 1)
            reward = rows.reward * mine + other * rows.reward * (1 - mine)
            agent.update(rows.replace(reward=reward, extras={"mc_return": reward}))
        ends.append([p.detach().clone() for p in agent.parameters()])
    halves = [[p.chunk(2)[0] for p in end] for end in ends]
    assert all(torch.equal(a, b) for a, b in zip(*halves, strict=True))
    if name != "cloning":
        assert any(not torch.equal(a, b) for a, b in zip(*ends, strict=True))
    with torch.no_grad():
        actions = agent.act(OBS.repeat(2, 1), noise=torch.zeros(8, 1))
    assert actions.shape == (8, 1)
    assert (actions.abs() <= 2.0).all()


def test_rows_of_paths_go_round_the_seeds() -> None:
    agent = SacRedq(SPACES, WSRL, seeds=2)
    obs = torch.tensor([[0.1], [0.1], [0.5], [0.5]])  # rows 0, 2 are seed 0, rows 1, 3 seed 1
    action = agent.act(obs)
    assert not torch.isclose(action[0], action[1]).item()
    assert torch.equal(agent.act(obs[[2, 1, 0, 3]])[[2, 1, 0, 3]], action)


def test_the_critics_gradient_of_a_seed_is_that_of_the_seed_alone() -> None:
    both, alone = SacRedq(SPACES, WSRL, seeds=2), SacRedq(SPACES, WSRL)
    with torch.no_grad():
        for one, two in zip(alone.networks.parameters(), both.networks.parameters(), strict=True):
            one.copy_(two.chunk(2)[1])
    rows = both.networks.rows(bandit(64, 0, seeds=2))
    ahead = both.core.ahead(rows, both.core.temperature.detach())
    both.core.critic_loss(rows.obs, rows.action, *ahead)[0].backward()
    alone.core.critic_loss(rows.obs[1:], rows.action[1:], *(x[1:] for x in ahead))[0].backward()
    for one, two in zip(alone.networks.critics.parameters(), both.networks.critics.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad.chunk(2)[1], rtol=1e-4, atol=1e-6)


def test_high_ratios_cut_the_batch_and_follow_once() -> None:
    """Four critic steps on quarters of the batch, after which the policy moves once."""
    agent = SacRedq(SPACES, replace(WSRL, critic_steps=4))
    agent.update(bandit(64, 0))
    counts = {
        name: {int(state["step"]) for state in optimizer.state.values()} for name, optimizer in agent.optimizers.items()
    }
    assert counts == {"critic": {4}, "actor": {1}, "temperature": {1}}


def test_the_quirks_of_the_reference_are_switches() -> None:
    idle = SacRedq(SPACES, replace(WSRL, idle_adam_steps=True))
    idle.update(bandit(64, 0))
    counts = {name: {int(s["step"]) for s in optimizer.state.values()} for name, optimizer in idle.optimizers.items()}
    assert counts == {"critic": {5}, "actor": {5}, "temperature": {5}}
    quirks = {
        "entropy_at_next": True,
        "draw_with_replacement": True,
        "entropy_in_target": True,
        "target_actions": 10,
        "networks": replace(SMALL, shared_head=True, state_dependent_scale=False),
    }
    for name, value in quirks.items():
        agent = SacRedq(SPACES, replace(WSRL, **{name: value}))
        assert all(math.isfinite(float(x)) for x in agent.update(bandit(64, 0)).values())


def test_an_idle_step_of_adam_moves_on_its_momentum() -> None:
    """After many equal gradients, four idle steps for each real one go sqrt(5) times as far as Adam alone."""
    moved = []
    for idle in (0, 4):
        x = torch.nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.Adam([x], lr=1e-3, fused=True)
        for _ in range(2000):
            for gradient in [1.0] + [0.0] * idle:
                x.grad = torch.full_like(x, gradient)
                optimizer.step()
        moved.append(-x.item())
    assert moved[1] / moved[0] == pytest.approx(math.sqrt(5.0), rel=0.02)


LEARNERS: dict[str, Any] = {
    "sac": lambda **k: SacRedq(SPACES, replace(SAC, networks=SMALL, **k), seeds=2),
    "redq": lambda **k: SacRedq(SPACES, replace(RLPD, networks=TEN, critic_steps=1, **k)),
    "wsrl": lambda **k: SacRedq(SPACES, replace(WSRL, critic_steps=1, **k)),
    "cql": lambda **k: Cql(SPACES, CqlConfig(replace(SMALL_SOFT, **k), actions=2, importance=False), seeds=2),
    "cal-ql": lambda **k: cal_ql(SPACES, CqlConfig(replace(SMALL_SOFT, **k), actions=2, gap=0.5), seeds=2),
}


def updated(name: str, **about: Any) -> Any:
    """An agent after its first update."""
    agent = LEARNERS[name](**about)
    seeds = agent.networks.seeds
    agent.update(bandit(32, 0, seeds=seeds if seeds > 1 else None))
    return agent


@pytest.mark.parametrize("name", LEARNERS)
def test_no_graph_adds_into_places_that_it_computes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler of torch 2.13 may run a scatter after what reads its result; here graphs are traced only."""
    seen: list[str] = []

    def by_hand(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        seen.extend(str(node.target) for node in graph.graph.nodes)
        return make_boxed_func(graph.forward)

    compile_with = torch.compile
    backend = aot_autograd(fw_compiler=by_hand)
    monkeypatch.setattr(torch, "compile", lambda method, **_: compile_with(method, fullgraph=True, backend=backend))
    monkeypatch.setattr(steps, "GRAPHS", {})
    updated(name, compiled=True)
    assert "aten.bmm.default" in seen
    assert not [x for x in seen if x.startswith(("aten.scatter", "aten.index_put", "aten.index_add"))]


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNERS)
def test_the_first_compiled_gradients_are_the_eager_ones(name: str) -> None:
    """Adam's first moment after one step is a tenth of the gradient, and does not hide its size as the step does.

    In single precision both differ from the double one by 1e-6 of the largest number of a tensor at most.
    """
    eager, compiled = (updated(name, compiled=c) for c in (False, True))
    names = {id(p): key for key, p in eager.named_parameters()}
    for role, optimizer in eager.optimizers.items():
        ours = compiled.optimizers[role]
        for p, q in zip(*(o.param_groups[0]["params"] for o in (optimizer, ours)), strict=True):
            one, two = optimizer.state[p]["exp_avg"], ours.state[q]["exp_avg"]
            assert (one - two).abs().max() <= 1e-5 * one.abs().max(), f"{role}: {names[id(p)]}"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sac", "wsrl", "cal-ql"])
def test_compiled_steps_are_the_eager_ones(name: str) -> None:
    """Weights, slow weights and Adam's state agree after ten updates, and a checkpoint of one serves the other."""
    soft = replace(WSRL, networks=replace(SMALL, critics=3), critic_steps=2, target_actions=2)
    make: Any = {
        "sac": lambda config: SacRedq(SPACES, config, seeds=2),
        "wsrl": lambda config: SacRedq(SPACES, replace(config, critic_steps=4, target_actions=1), seeds=2),
        "cal-ql": lambda config: cal_ql(SPACES, CqlConfig(config, actions=2, gap=0.5), seeds=2),
    }[name]
    eager, compiled = make(soft), make(replace(soft, compiled=True))
    for k in range(10):
        for agent in (eager, compiled):
            metrics = agent.update(bandit(32, k, seeds=2))
    assert all(math.isfinite(float(value)) for value in metrics.values())
    for (key, one), two in zip(eager.named_parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=2e-5, msg=lambda text, key=key: f"{key}: {text}")
    for role, optimizer in eager.optimizers.items():
        ours = compiled.optimizers[role].state_dict()["state"]
        for index, state in optimizer.state_dict()["state"].items():
            assert state.keys() == ours[index].keys()
            assert state["step"].item() == ours[index]["step"].item()
    eager.load_training_state(compiled.training_state())
    compiled.load_training_state(eager.training_state())
    for agent in (eager, compiled):
        agent.update(bandit(32, 11, seeds=2))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sac", "cal-ql"])
def test_agents_of_the_same_settings_share_a_graph_and_nothing_else(name: str) -> None:
    """A second agent, with other weights, learns as its eager twin does, and the first one does not move with it."""
    soft = replace(WSRL, networks=replace(SMALL, critics=3), critic_steps=2)
    make: Any = {
        "sac": lambda config, seed: SacRedq(SPACES, config, seed=seed),
        "cal-ql": lambda config, seed: cal_ql(SPACES, CqlConfig(config, actions=2), seed=seed),
    }[name]
    first = make(replace(soft, compiled=True), 1)
    first.update(bandit(32, 0))
    before, graphs = [p.clone() for p in first.parameters()], len(GRAPHS)
    second, eager = (make(replace(soft, compiled=compiled), 2) for compiled in (True, False))
    for k in range(3):
        for agent in (second, eager):
            agent.update(bandit(32, k))
    assert len(GRAPHS) == graphs
    assert all(torch.equal(old, new) for old, new in zip(before, first.parameters(), strict=True))
    for (key, one), two in zip(eager.named_parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=2e-5, msg=lambda text, key=key: f"{key}: {text}")
    make(replace(soft, compiled=True, critic_rate=1e-2, target_rate=0.5), 1).update(bandit(32, 0))
    assert len(GRAPHS) > graphs


def test_bad_input_is_told() -> None:
    agent = SacRedq(SPACES, replace(WSRL, networks=SMALL))
    with pytest.raises(ShapeError, match="cut into 4 minibatches"):
        agent.update(bandit(63, 0))
    wide = bandit(64, 0).replace(obs=torch.zeros(64, 2), next_obs=torch.zeros(64, 2))
    with pytest.raises(ShapeError, match="1 observations and 1 actions"):
        agent.update(wide)
    with pytest.raises(ShapeError, match="must lead with"):
        SacRedq(SPACES, replace(WSRL, networks=SMALL), seeds=3).update(bandit(64, 0))
    with pytest.raises(ShapeError, match="mc_return"):
        cal_ql(SPACES).update(bandit(64, 0).replace(extras={}))
    with pytest.raises(ConfigError, match="target_critics must be 1 to 2"):
        SacRedq(SPACES, replace(WSRL, networks=SMALL, target_critics=3))
    with pytest.raises(ConfigError, match="expectile"):
        Iql(SPACES, IqlConfig(expectile=1.0))
    with pytest.raises(ConfigError, match="seeds must be at least 1"):
        SacRedq(SPACES, WSRL, seeds=0)
    with pytest.raises(ConfigError, match="actor_rate must not be negative"):
        SacRedq(SPACES, replace(WSRL, actor_rate=-1.0))
