"""Proximal steps from duels: the right gradients, the right minimisers, and the equilibrium of every context."""

import math

import pytest
import torch
from torch import Tensor

from rlcore.agents.nash import Iterate, NashContextual, NashContextualConfig, NashMp
from rlcore.agents.nash.estimators import exact_loss, policy_gradient_loss, regression_loss
from rlcore.data import Comparisons
from rlcore.envs.games.bandit import PreferenceBandit, PreferenceBanditConfig
from rlcore.envs.games.tables import random_policies, random_tables
from rlcore.errors import ConfigError, ShapeError
from rlcore.functional.games import MatrixPreference, PreferenceGame, equilibrium
from rlcore.nn.mlp import Mlp
from rlcore.training import DuelSource

A, BETA, WEIGHT = 4, 0.1, 0.5


def step() -> tuple[PreferenceGame, Tensor, Tensor, Tensor]:
    """A game of one context; its anchor, opponent and a policy that is none of them."""
    game = PreferenceGame(MatrixPreference(random_tables(1, A, 0)), random_policies(1, A, 1), BETA)
    return game, *(random_policies(1, A, k) for k in (2, 3, 4))


def pull_of(game: PreferenceGame, anchor: Tensor) -> Tensor:
    return BETA * game.log_reference + WEIGHT * anchor


def test_exact_loss_has_the_proximal_point_as_its_minimum() -> None:
    game, anchor, opponent, _ = step()
    payoffs = game.payoffs(opponent)
    log_pi = game.proximal(payoffs, anchor, WEIGHT).requires_grad_()
    exact_loss(torch.log_softmax(log_pi, -1), payoffs, pull_of(game, anchor), BETA + WEIGHT).backward()
    assert log_pi.grad is not None
    assert float(log_pi.grad.abs().max()) < 1e-15


@pytest.mark.parametrize("estimator", ["gradient", "regression"])
def test_sampled_gradients_have_the_enumerated_mean(estimator: str) -> None:
    """2e5 duels with a judge that says 0 or 1: within 4 standard errors in each coordinate."""
    game, anchor, opponent, start = step()
    payoffs, pull, total = game.payoffs(opponent), pull_of(game, anchor), BETA + WEIGHT
    logits, rows = start.clone().requires_grad_(), 200_000
    if estimator == "gradient":
        (expected,) = torch.autograd.grad(exact_loss(torch.log_softmax(logits, -1), payoffs, pull, total), logits)
    else:  # every pair and every outcome of the opponent, weighed by its probability
        log_pi = torch.log_softmax(logits, -1)[0]
        error = total * log_pi - pull[0] - payoffs[0]
        pairs = (start[0].unsqueeze(1) + start[0]).exp()
        (expected,) = torch.autograd.grad(
            0.5 * (pairs * (error.unsqueeze(1) - error).square()).sum(), logits
        )  # the judge's noise is independent of the policy
    generator = torch.Generator().manual_seed(0)
    y = torch.multinomial(start.exp().expand(rows, -1), 2, replacement=True, generator=generator)
    o = torch.multinomial(opponent.exp().expand(rows, -1), 1, generator=generator)
    table = random_tables(1, A, 0)[0]
    wins = (torch.rand(rows, 2, dtype=torch.float64, generator=generator) < table[y, o]).double()
    loss = policy_gradient_loss if estimator == "gradient" else regression_loss
    parts = []
    for chunk in range(0, rows, 2000):
        free = start.clone().requires_grad_()
        log_pi = torch.log_softmax(free, -1).expand(2000, -1)
        here = slice(chunk, chunk + 2000)
        (found,) = torch.autograd.grad(loss(log_pi, y[here], wins[here], pull.expand(2000, -1), total), free)
        parts.append(found[0])
    each = torch.stack(parts)
    error_of_mean = each.std(0) / math.sqrt(len(each))
    assert bool(((each.mean(0) - expected[0]).abs() < 4.0 * error_of_mean).all())
    assert float((expected[0].abs() / error_of_mean).max()) > 10.0, "the test could see a wrong gradient"


@pytest.mark.parametrize("seed", range(3))
def test_regression_has_the_proximal_point_as_its_minimum_for_any_sampler(seed: int) -> None:
    game, anchor, opponent, _ = step()
    payoffs = game.payoffs(opponent)
    sampler = random_policies(1, A, 50 + seed, spread=2.0)[0].exp()
    y, other = torch.cartesian_prod(torch.arange(A), torch.arange(A)).T
    weight = sampler[y] * sampler[other]
    logits = game.proximal(payoffs, anchor, WEIGHT).requires_grad_()
    log_pi = torch.log_softmax(logits, -1).expand(A * A, -1)
    candidates = torch.stack([y, other], 1)
    total_loss = torch.zeros((), dtype=torch.float64)
    for k in range(A * A):
        row = slice(k, k + 1)
        wins = payoffs.expand(1, -1).gather(1, candidates[row])
        total_loss = total_loss + weight[k] * regression_loss(
            log_pi[row], candidates[row], wins, pull_of(game, anchor), BETA + WEIGHT
        )
    (gradient,) = torch.autograd.grad(total_loss, logits)
    assert float(gradient.abs().max()) < 1e-14


def small(estimator: str, **settings: float) -> tuple[PreferenceBandit, NashContextual, DuelSource]:
    env = PreferenceBandit(PreferenceBanditConfig(contexts=3, actions=3), dtype=torch.float64)
    network = Mlp(3, (), 3, generator=torch.Generator().manual_seed(0), output_gain=0.0).double()
    config = NashContextualConfig(estimator=estimator, **settings)  # type: ignore[arg-type]
    agent = NashContextual(network, lambda obs: obs @ env.log_reference, config)
    source = DuelSource(env.table, agent.opponent, 512, generator=torch.Generator().manual_seed(0),
                        exact=estimator == "exact")  # fmt: skip
    return env, agent, source


def test_exact_steps_follow_the_table() -> None:
    """With exact expectations and enough inner steps the network walks the way of Nash-MP, context by context."""
    env, agent, source = small("exact", lr=0.03, half_steps=250, full_steps=250, decay=1e9)
    at = Iterate(env.game.log_reference, env.game.log_reference)
    for _ in range(2):
        agent.learn(source, 500)
        at = NashMp().step(env.game, at)
        torch.testing.assert_close(agent.act(torch.eye(3).double()).detach(), at.log_policy, rtol=0, atol=2e-3)
    assert int(agent.outer) == 2


@pytest.mark.parametrize("estimator", ["gradient", "regression"])
def test_duels_bring_every_context_to_its_own_equilibrium(estimator: str) -> None:
    env, agent, source = small(estimator, lr=0.04, decay=80.0)
    seen = torch.eye(3).double()
    before = env.game.gap(env.game.log_reference)
    agent.learn(source, 1600)  # over seeds the gap ends at 0.004 to 0.014 of the first
    log_pi = agent.act(seen).detach()
    gap = env.game.gap(log_pi)
    assert float(gap.max()) < 0.06 * float(before.max())
    assert float((log_pi.exp() - env.log_equilibrium.exp()).abs().sum(-1).max()) / 2.0 < 0.08


def test_resume_in_the_middle_of_a_half_step_is_bit_equal(tmp_path) -> None:
    _, agent, source = small("regression", half_steps=7, full_steps=5)
    agent.learn(source, 17)
    agent.save(tmp_path / "agent")
    state = source.state_dict()
    agent.learn(source, 20)
    _, other, again = small("regression", half_steps=7, full_steps=5)
    other.load(tmp_path / "agent")
    again.load_state_dict(state)
    other.learn(again, 20)
    for name, value in agent.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_the_environment_pays_what_the_game_says() -> None:
    for opponent, against in (("exploiter", None), ("reference", "log_reference"), ("equilibrium", "log_equilibrium")):
        env = PreferenceBandit(PreferenceBanditConfig(opponent=opponent), dtype=torch.float64)  # type: ignore[arg-type]
        game, log_pi = env.game, random_policies(3, 6, 8)
        expected = 0.5 - game.gap(log_pi) if against is None else game.value(log_pi, getattr(env, against))
        torch.testing.assert_close(env.earn(log_pi, torch.arange(3)), expected)
        best = equilibrium(game) if opponent != "reference" else game.best_response(game.log_reference)
        assert float(env.earn(best, torch.arange(3)).mean()) == pytest.approx(env.optimal_reward, abs=1e-12)
        assert float(env.earn(log_pi, torch.arange(3)).mean()) < env.optimal_reward


def test_bad_input_in_one_line() -> None:
    network = Mlp(3, (), 3, generator=torch.Generator())
    refused = {"beta": (0.0, "beta must be"), "half_steps": (0, "half_steps, full"), "estimator": ("ppo", "or exact")}
    for name, (value, words) in refused.items():
        with pytest.raises(ConfigError, match=words):
            NashContextual(network, lambda obs: obs, NashContextualConfig(**{name: value}))  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="contexts, actions, actions"):
        DuelSource(torch.rand(3, 3), lambda obs: obs, 8, generator=torch.Generator())
    with pytest.raises(ConfigError, match="candidates >= 2"):
        DuelSource(torch.full((1, 3, 3), 0.5), lambda obs: obs, 8, generator=torch.Generator(), candidates=1)
    with pytest.raises(ConfigError, match="opponent must be one of"):
        PreferenceBandit(PreferenceBanditConfig(opponent="nobody"))  # type: ignore[arg-type]
    assert isinstance(Comparisons(*torch.zeros(4, 2)), Comparisons)
