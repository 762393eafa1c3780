"""Sequences as a tree, the game over them, its environment, and what tokens must be credited for."""

import math

import pytest
import torch
from torch import Tensor

from rlcore.agents.nash import NashContextual, NashContextualConfig, SequenceNetwork, TokenTable
from rlcore.agents.nash.estimators import policy_gradient_loss, regression_loss
from rlcore.envs import make
from rlcore.envs.games.sequences import PreferenceSequences, PreferenceSequencesConfig
from rlcore.envs.games.tables import cyclic_table, random_circles, random_policies, random_tables
from rlcore.errors import ConfigError, ShapeError
from rlcore.experiments.acceptance.nash.sequences import (
    apart_from_tables,
    credit_errors,
    generation_p_value,
    random_tokens,
)
from rlcore.functional.divergence import kl
from rlcore.functional.games import ClassPreference, MatrixPreference, PreferenceGame, SequenceTree, equilibrium
from rlcore.nn.mlp import Mlp
from rlcore.reporting.evaluation import evaluate
from rlcore.simulation.policy import Feedback
from rlcore.training import DuelSource

TREES = [SequenceTree(2, 4), SequenceTree(3, 3), SequenceTree(1, 5), SequenceTree(5, 1)]


def close(a: Tensor, b: Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("tree", TREES)
def test_every_sequence_once(tree: SequenceTree) -> None:
    spelled = tree.spelled()
    assert tree.count == sum(tree.letters**k for k in range(tree.length + 1))
    assert len({tuple(row) for row in spelled.tolist()}) == tree.count
    written = spelled >= 0
    assert bool((written[:, 1:] <= written[:, :-1]).all()), "nothing is written beyond an end"
    assert torch.equal(tree.numbered(tree.one_hot()), torch.arange(tree.count))


@pytest.mark.parametrize("tree", TREES)
def test_policies_over_tokens_and_over_sequences(tree: SequenceTree) -> None:
    tokens = random_tokens(tree, 0, spread=3.0)
    whole = tree.sequences(tokens)
    close(whole.logsumexp(-1), torch.zeros((), dtype=torch.float64))
    close(tree.conditionals(whole), tokens, 1e-11)
    assert float(tree.sequences(tokens.float()).exp().sum()) == pytest.approx(1.0, abs=1e-5)
    tilted = torch.log_softmax(
        whole + torch.randn(3, tree.count, dtype=torch.float64), -1
    )  # any policy is one of tokens
    close(tree.sequences(tree.conditionals(tilted)), tilted, 1e-11)


def test_divergences_add_up_along_the_tree() -> None:
    tree = TREES[0]
    first, second = random_tokens(tree, 1), random_tokens(tree, 2)
    whole = tree.sequences(first)
    reach = whole.exp()
    for p in range(tree.count - 1, 0, -1):  # the mass of a prefix is that of all that goes on from it
        reach[(p - 1) // 2] += reach[p]
    close((reach[: tree.inner] * kl(first, second)).sum(), kl(whole, tree.sequences(second)))


@pytest.mark.parametrize("opponent", ["equilibrium", "reference"])
def test_an_episode_earns_the_value_of_the_game(opponent: str) -> None:
    env = make("rlcore/PreferenceSequences-v0", dtype=torch.float64, opponent=opponent, beta=0.3)
    assert isinstance(env, PreferenceSequences)
    against = env.log_equilibrium if opponent == "equilibrium" else env.tree.sequences(env.reference)
    tokens = random_policies(env.tree.inner, env.tree.tokens, 8)
    anyone = Feedback(lambda obs: tokens[env.tree.numbered(obs[:, 3:]).clamp(max=env.tree.inner - 1)])
    for policy, value in (
        (env.optimal_policy(), env.optimal_reward),
        (anyone, float(env.game.value(env.tree.sequences(tokens).expand(3, -1), against).mean())),
    ):
        found = evaluate(policy, env, paths=20_000)
        error = float(found.returns.std()) / math.sqrt(20_000)
        assert abs(found.mean - value) < 4.0 * error
        assert value <= env.optimal_reward + 1e-12
    if opponent == "equilibrium":
        assert env.optimal_reward == pytest.approx(0.5, abs=1e-12)


def test_the_equilibrium_is_that_of_the_classes() -> None:
    env = PreferenceSequences(dtype=torch.float64)
    masses = env.judge.reduce(env.tree.sequences(env.reference).exp())
    small = PreferenceGame(MatrixPreference(cyclic_table(3, wins=0.9)), masses.log(), 0.1)
    close(env.judge.reduce(env.log_equilibrium.exp()), equilibrium(small).exp(), 1e-11)


def test_tokens_are_drawn_with_the_probabilities_shown() -> None:
    assert min(generation_p_value(seed, paths=5000) for seed in range(3)) > 1e-3


def test_token_scores_walk_the_way_of_tables() -> None:
    assert apart_from_tables(PreferenceSequencesConfig(contexts=2, length=3, seed=4), 2)[0] < 1e-5


@pytest.mark.parametrize("seed", range(3))
def test_credit_of_a_token(seed: int) -> None:
    """A control: the token's own log-ratio alone is no gradient; all of them, or those to come, are."""
    whole, to_go, own = credit_errors(seed)
    assert max(whole, to_go) < 1e-12
    assert own > 0.05


@pytest.mark.parametrize("candidates", [2, 5])
def test_candidates_of_the_policy_itself_make_both_estimators_one(candidates: int) -> None:
    """Sample by sample the regression's gradient is 2 (beta + lambda) times the policy gradient."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 7, dtype=torch.float64, generator=generator).requires_grad_()
    pull = torch.randn(50, 7, dtype=torch.float64, generator=generator)
    y = torch.randint(7, (50, candidates), generator=generator)
    wins = torch.randint(2, (50, candidates), generator=generator).double()
    found = [
        torch.autograd.grad(loss(torch.log_softmax(logits, -1), y, wins, pull, 0.6), logits)[0]
        for loss in (policy_gradient_loss, regression_loss)
    ]
    close(1.2 * found[0], found[1], 1e-14)


@pytest.mark.parametrize(
    "preference",
    [
        MatrixPreference(random_tables(1, 6, 0)[0]),
        MatrixPreference(random_tables(3, 6, 0)),
        random_circles(6, 2, 0),
        ClassPreference(cyclic_table(3, 0.9), torch.arange(6) % 3),
    ],
)
def test_chances_of_single_duels_are_those_of_the_table(preference) -> None:
    every = preference(torch.eye(6, dtype=torch.float64).unsqueeze(1).expand(-1, 3, -1))  # [second, game, first]
    game = torch.arange(3)
    first, second = torch.tensor([[0, 1, 5], [2, 2, 4], [3, 0, 1]]), torch.tensor([[4], [2], [0]])
    found = preference.chance(game, first, second.expand(-1, 3))
    close(found, every[second.expand(-1, 3), game.unsqueeze(1), first], 1e-14)


def agent_and_duels(estimator: str, hidden: tuple[int, ...]) -> tuple[PreferenceSequences, NashContextual, DuelSource]:
    env = PreferenceSequences(PreferenceSequencesConfig(contexts=2, length=3))
    tree, generator = env.tree, torch.Generator().manual_seed(0)
    inputs = env.spec.observation_dim
    scores = Mlp(inputs, hidden, 3, generator=generator, output_gain=0.0) if hidden else TokenTable(2, tree)
    log_mu = tree.sequences(env.reference)
    config = NashContextualConfig(estimator=estimator, lr=0.05, half_steps=20, full_steps=20, decay=60.0)  # type: ignore[arg-type]
    agent = NashContextual(SequenceNetwork(tree, scores, env.reference), lambda obs: log_mu[obs.argmax(-1)], config)
    source = DuelSource(env.judge, agent.opponent, 256, contexts=2, generator=generator, exact=estimator == "exact")
    return env, agent, source


@pytest.mark.parametrize(("estimator", "hidden"), [("exact", ()), ("exact", (32,)), ("gradient", ())])
def test_a_network_of_tokens_comes_near_the_equilibrium(estimator: str, hidden: tuple[int, ...]) -> None:
    env, agent, source = agent_and_duels(estimator, hidden)
    close(agent.act(torch.eye(2)).detach(), env.tree.sequences(env.reference), 1e-5)
    before = env.game.gap(env.game.log_reference)
    agent.learn(source, 500)
    after = env.game.gap(torch.log_softmax(agent.act(torch.eye(2)).detach().double(), -1))
    assert float(after.max()) < 0.12 * float(before.max())


def test_bad_input_in_one_line() -> None:
    with pytest.raises(ConfigError, match="letters >= 1 and length >= 1"):
        SequenceTree(2, 0)
    with pytest.raises(ConfigError, match="more than 1048576 sequences"):
        make("rlcore/PreferenceSequences-v0", letters=10, length=8)
    with pytest.raises(ConfigError, match="opponent must be one of equilibrium, reference"):
        make("rlcore/PreferenceSequences-v0", opponent="exploiter")
    with pytest.raises(ConfigError, match="beta must be positive"):
        make("rlcore/PreferenceSequences-v0", beta=0.0)
    tree = SequenceTree(2, 3)
    with pytest.raises(ShapeError, match=r"\[contexts, 7, 3\]"):
        SequenceNetwork(tree, TokenTable(2, tree), torch.zeros(7, 3))
    with pytest.raises(ConfigError, match="in how many contexts"):
        DuelSource(ClassPreference(cyclic_table(3), torch.arange(3)), lambda obs: obs, 8, generator=torch.Generator())
