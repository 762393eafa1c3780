"""Integral RL under bad luck and bad input: what is refused, when, and in which words."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from rlcore.agents.integral_rl import (
    IntegralRl,
    IntegralRlConfig,
    KnownParts,
    Reason,
    RefusalError,
    SideBySide,
    Windows,
    linear_quadratic,
)
from rlcore.envs.affine import CubicGrowth, ThirdOrderLinear
from rlcore.envs.affine.random_linear import random_stable
from rlcore.errors import ConfigError, NumericsError, RlcoreError, ShapeError
from rlcore.experiments.integral_rl_tasks import Task, task
from rlcore.functional.bases import Monomials, quadratic
from rlcore.functional.quadrature import IntegratedWiener, Simpson, Trapezoid
from rlcore.functional.riccati import largest_real_part, value_of_gain
from rlcore.simulation import LinearPaths
from rlcore.training import ClosedLoopSource

UNIT = torch.eye(3, dtype=torch.float64)


def third_order() -> Task:
    return task(ThirdOrderLinear(dtype=torch.float64))


def agent_for(found: Task, rule: Any = IntegratedWiener(2), **settings: Any) -> IntegralRl:  # noqa: B008, frozen
    return IntegralRl(found.basis, found.known, rule, found.env.admissible_weights, **settings)


def windows_for(found: Task, nodes: int = 9, window: float = 0.5, count: int = 3, **changes: Any) -> Windows:
    source = ClosedLoopSource(found.paths, found.starts, window=window, count=count, nodes=nodes)
    return source.next(agent_for(found)).replace(**changes)


def growth(found: Task, agent: IntegralRl) -> float:
    env = found.env
    assert isinstance(env, ThirdOrderLinear)
    return float(largest_real_part(env.A + env.B @ agent.act(UNIT).T))


def learn_while_stable(found: Task, agent: IntegralRl, source: ClosedLoopSource) -> None:
    """Twelve updates, and no policy among them that is unstable."""
    for _ in range(12):
        assert growth(found, agent) < 0.0
        agent.update(source.next(agent))


@pytest.mark.parametrize("rule", [Trapezoid(), Simpson(), IntegratedWiener(3)])
def test_coarse_nodes_are_refused_before_an_unstable_gain_acts(rule):
    """Windows of 1 s with 5 nodes: known to end in a destabilising gain, whatever the rule."""
    found = third_order()
    agent = agent_for(found, rule)
    source = ClosedLoopSource(found.paths, found.starts, window=1.0, count=4, nodes=5)
    with pytest.raises(
        RefusalError, match=r"iteration \d: .*taken back.*; use more nodes or shorter windows"
    ) as caught:
        learn_while_stable(found, agent, source)
    error = caught.value
    assert error.reason is Reason.RISING
    assert error.iteration >= 2
    assert error.quantity < 0.5
    assert growth(found, agent) < 0.0, "the policy that it fell back to is stable"
    assert bool(torch.isfinite(agent.weights).all())
    with pytest.raises(RefusalError, match="taken back"):
        agent.update(source.next(agent))  # the same nodes would end the same way: it is held
    denser = ClosedLoopSource(found.paths, found.starts, window=1.0, count=4, nodes=65)
    agent.learn(denser, 14)
    assert float(found.error(agent.weights)) < 1e-3, "with more nodes the same agent goes on"


def test_without_the_guard_the_same_run_is_lost():
    found = third_order()
    agent = agent_for(found, Trapezoid(), config=IntegralRlConfig(least_decrease=-1e300, largest_spread=1e300))
    source = ClosedLoopSource(found.paths, found.starts, window=1.0, count=4, nodes=5)
    with pytest.raises(RefusalError) as caught:
        agent.learn(source, 20)
    assert caught.value.reason in (Reason.NOT_FINITE, Reason.NEGATIVE, Reason.RANK)


def test_one_rule_that_is_refused_does_not_stop_the_others():
    found = third_order()
    agent = IntegralRl(
        found.basis, found.known, SideBySide([Trapezoid(), Simpson()]), torch.zeros(2, 6, dtype=torch.float64)
    )
    starts = found.starts.expand(2, 7, 3)
    metrics = agent.learn(ClosedLoopSource(found.paths, starts, window=1.0, count=4, nodes=9), 12)
    assert agent.verdict is not None
    assert agent.verdict.fine.tolist() == [False, True]
    assert metrics["train/refused"] == 0.5
    assert float(found.error(agent.weights[1])) == pytest.approx(2.809e-4, rel=1e-2)


def test_unstable_first_gains_are_told_from_stable_ones():
    """Random gains on random systems: every unstable one is refused in the first update, and no stable one."""
    problems, count = random_stable(60, 4, 2, seed=0), 60
    generator = torch.Generator().manual_seed(1)
    gains = 2.0 * torch.randn(count, 2, 4, generator=generator, dtype=torch.float64)
    unstable = largest_real_part(problems.A - problems.B @ gains) > 0.0
    known = linear_quadratic(problems.B, problems.Q, problems.R)
    agent = IntegralRl(
        quadratic(4),
        known,
        IntegratedWiener(2),
        torch.zeros(count, 10, dtype=torch.float64),
        law=lambda x: -(x @ gains.unsqueeze(1).mT if x.ndim == 4 else x @ gains.mT),
    )
    starts = torch.randn(count, 6, 4, generator=generator, dtype=torch.float64)
    paths = LinearPaths(problems.A, problems.B)
    agent.update(ClosedLoopSource(paths, starts, window=0.2, count=5, nodes=9).next(agent))
    assert agent.verdict is not None
    assert 10 < int(unstable.sum()) < 50
    assert torch.equal(~agent.verdict.fine, unstable)


def test_an_unstable_first_gain_is_named():
    found = third_order()
    agent = agent_for(found, law=lambda x: 3.0 * x[..., :1])
    source = ClosedLoopSource(found.paths, found.starts, window=0.5, count=3, nodes=9)
    with pytest.raises(RefusalError, match=r"iteration 1: the first policy must have a finite and positive V"):
        agent.update(source.next(agent))


def test_a_path_that_leaves_for_infinity_is_named():
    found = task(CubicGrowth(dtype=torch.float64), ((1.5,), (0.5,), (0.2,)))
    agent = IntegralRl(Monomials((2,), (4,)), found.known, Simpson(), torch.zeros(2, dtype=torch.float64))
    source = ClosedLoopSource(found.paths, found.starts, window=0.2, count=4, nodes=9)
    with pytest.raises(RefusalError, match="iteration 1: the first policy must keep the state finite") as caught:
        agent.update(source.next(agent))
    assert caught.value.reason is Reason.NOT_FINITE
    assert torch.equal(agent.weights, torch.zeros(2, dtype=torch.float64))


def test_samples_that_are_not_numbers_are_named():
    found = third_order()
    windows = windows_for(found)
    broken = windows.states.clone()
    broken[4, 3, 1] = math.nan
    agent = agent_for(found)
    with pytest.raises(RefusalError, match="must keep the state finite"):
        agent.update(windows.replace(states=broken))
    assert bool(torch.isfinite(agent.weights).all())


def test_too_few_windows_and_windows_that_tell_too_little():
    found = third_order()
    with pytest.raises(ConfigError, match="3 windows for 6 features; gather more windows"):
        agent_for(found).update(windows_for(replace(found, starts=found.starts[:1])))
    flat = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64).expand(8, 3)
    with pytest.raises(RefusalError, match=r"tell all 6 features apart.*start from more states") as caught:
        agent_for(found).update(windows_for(replace(found, starts=flat)))
    assert caught.value.reason is Reason.RANK
    doubled = Monomials((2, 0, 0), (0, 2, 0), (0, 0, 2), (2, 0, 0))
    agent = IntegralRl(doubled, found.known, Simpson(), torch.zeros(4, dtype=torch.float64))
    with pytest.raises(RefusalError, match="have rank 3"):
        agent.update(windows_for(found))


def test_windows_that_the_rule_does_not_resolve_are_refused():
    found = third_order()
    agent = agent_for(found, IntegratedWiener(0), config=IntegralRlConfig(largest_spread=1e-4))
    with pytest.raises(RefusalError, match=r"is .* times that integral; use more"):
        agent.update(windows_for(found, nodes=5))


ONE = torch.ones(1, 1, dtype=torch.float64)


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda f: KnownParts(f.known.state_cost, f.known.input_gain, -ONE), ConfigError, "positive definite"),
        (lambda f: KnownParts(f.known.state_cost, f.known.input_gain, ONE[0]), ShapeError, r"\[\[r\]\]"),
        (lambda f: KnownParts(f.known.state_cost, f.known.input_gain, ONE, 0.0), ConfigError, "saturation"),
        (lambda f: agent_for(f, config=IntegralRlConfig(discount_rate=-1.0)), ConfigError, "discount_rate"),
        (lambda f: agent_for(f, config=IntegralRlConfig(largest_spread=0.0)), ConfigError, "largest_spread"),
        (lambda f: IntegralRl(f.basis, f.known, Simpson(), torch.full((6,), math.nan)), ShapeError, "finite numbers"),
        (lambda f: IntegralRl(f.basis, f.known, Simpson(), torch.zeros(5).double()).update(windows_for(f)),
         ShapeError, "the basis"),
        (lambda f: IntegralRl(f.basis, f.known, Simpson(), torch.zeros(2, 6).double()).update(windows_for(f)),
         ShapeError, "leading dimensions of the weights"),
        (lambda f: IntegralRl(f.basis, f.known, Simpson(), torch.zeros(2, 6).double()).act(f.starts), ShapeError,
         "batch of problems"),
        (lambda f: agent_for(f).update(windows_for(f).to(dtype=torch.float32)), ShapeError, "torch.float64 on cpu"),
        (lambda f: SideBySide([]), ConfigError, "at least one rule"),
        (lambda f: Windows(torch.zeros(4), torch.zeros(5, 3, 2), torch.zeros(5, 3, 1)), ShapeError, "times"),
        (lambda f: Windows(torch.zeros(3), torch.zeros(5, 3, 2), torch.zeros(5, 2, 1)), ShapeError, "leading"),
        (lambda f: Windows(torch.zeros(1), torch.zeros(5, 1, 2), torch.zeros(5, 1, 1)), ShapeError, "N >= 2"),
        (lambda f: ClosedLoopSource(f.paths, f.starts, window=0.0, count=1, nodes=5), ConfigError, "window"),
        (lambda f: ClosedLoopSource(f.paths, f.starts, window=1.0, count=0, nodes=5), ShapeError, "count >= 1"),
        (lambda f: ClosedLoopSource(f.paths, f.starts, window=1.0, count=1, nodes=1), ConfigError, "nodes"),
        (lambda f: ClosedLoopSource(f.paths, f.starts / 0.0, window=1.0, count=1, nodes=5), NumericsError, "starts"),
        (lambda f: agent_for(f, Trapezoid()).error_budget(windows_for(f)), ConfigError, "no error bar"),
    ],
)  # fmt: skip
def test_bad_input_is_told_at_the_door(make, kind, message):
    with pytest.raises(kind, match=message) as caught:
        make(third_order())
    assert isinstance(caught.value, RlcoreError)


def test_the_guard_refuses_what_diverges_without_it_and_nothing_else():
    """200 random systems, 5 nodes in 2 s: a few diverge; with the guard no unstable policy ever acts."""
    problems, count = random_stable(200, 4, 2, seed=5), 200
    known = linear_quadratic(problems.B, problems.Q, problems.R)
    starts = torch.randn(count, 8, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    source = ClosedLoopSource(LinearPaths(problems.A, problems.B), starts, window=2.0, count=3, nodes=5)
    unit = torch.eye(4, dtype=torch.float64).expand(count, 4, 4)
    ended, unstable = [], torch.zeros(count, dtype=torch.bool)
    for config in (IntegralRlConfig(least_decrease=-1e300, largest_spread=1e300), IntegralRlConfig()):
        first = torch.zeros(count, 10, dtype=torch.float64)
        agent = IntegralRl(quadratic(4), known, IntegratedWiener(2), first, config)
        for _ in range(14):
            unstable = largest_real_part(problems.A + problems.B @ agent.act(unit).mT) > 0.0
            assert config.least_decrease < 0.0 or not bool(unstable.any())
            agent.update(source.next(agent))
        assert agent.verdict is not None
        ended.append(agent.verdict.fine)
    assert 0 < int((~ended[0]).sum()) < 20
    assert torch.equal(ended[0], ended[1])


def test_what_is_refused_would_have_diverged_a_few_updates_later():
    """The loop stays stable, but its fastest rate is squared at every update: it costs more and more and never ends."""
    problems, count = random_stable(60, 4, 2, seed=5), 60
    starts = torch.randn(count, 8, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    first = torch.zeros(count, 10, dtype=torch.float64)
    agent = IntegralRl(quadratic(4), linear_quadratic(*problems[1:]), IntegratedWiener(2), first)
    source = ClosedLoopSource(LinearPaths(problems.A, problems.B), starts, window=2.0, count=3, nodes=5)
    refused_at = torch.zeros(count, dtype=torch.int64)
    for k in range(1, 13):
        agent.update(source.next(agent))
        assert agent.verdict is not None
        refused_at = torch.where((refused_at == 0) & ~agent.verdict.fine, k, refused_at)
    assert int((refused_at > 0).sum()) >= 2
    unit = torch.eye(4, dtype=torch.float64)
    for i in refused_at.nonzero().flatten().tolist():
        A, B, Q, R = (part[i] for part in problems)
        free = IntegralRl(quadratic(4), linear_quadratic(B, Q, R), IntegratedWiener(2), first[i])
        alone = ClosedLoopSource(LinearPaths(A, B), starts[i], window=2.0, count=3, nodes=5)
        fastest, costs = [], []
        for _ in range(30):
            loop, K = A + B @ free.act(unit).T, free.act(unit).T
            fastest.append(float(torch.linalg.eigvals(loop).abs().max()))
            costs.append(float(value_of_gain(A, B, Q, R, -K).trace()))
            if fastest[-1] > 1e3:
                break
            free.weights.copy_(free.evaluate(alone.next(free)).weights)
            free.improvements += 1
        refused = int(refused_at[i])
        assert 1 <= len(fastest) - refused <= 5
        assert costs[refused - 1] < costs[refused], "what was refused leads to a policy that costs more"
        assert costs[-1] > 10.0 * costs[refused - 2]


@pytest.mark.parametrize("rule", [Trapezoid(), Simpson(), IntegratedWiener(2)])
def test_a_value_that_is_flat_at_the_origin_is_no_sign_of_instability(rule):
    """dx = (-x + u) dt with q = x^4: the first V is x^4 / 4, whose curvature at 0 is rounding of either sign."""
    one = torch.ones(1, 1, dtype=torch.float64)
    known = KnownParts(lambda x: x[..., 0] ** 4, lambda x: torch.ones_like(x).unsqueeze(-1), one)
    agent = IntegralRl(Monomials((2,), (4,), (6,)), known, rule, torch.zeros(3, dtype=torch.float64))
    starts = torch.tensor([[1.0], [0.7], [-0.4], [0.9]], dtype=torch.float64)
    source = ClosedLoopSource(LinearPaths(-one, one), starts, window=0.5, count=4, nodes=9)
    agent.update(source.next(agent))
    torch.testing.assert_close(agent.weights, torch.tensor([0.0, 0.25, 0.0]).double(), rtol=0.0, atol=2e-3)
