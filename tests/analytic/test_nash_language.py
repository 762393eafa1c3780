"""Language policies: right gradients of whole texts, controls that must fail, and a judge that is asked fairly."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from rlcore.agents.nash.estimators import sampled_regression_loss
from rlcore.agents.nash.language import (
    CallableJudge,
    NashLanguage,
    NashLanguageConfig,
    PairwiseJudge,
    Prompts,
    RankJudge,
    RewardJudge,
    TextDuels,
    TextReferee,
    TokenReferee,
    WholeCopies,
    copies_needed,
    enumerated_log_probs,
)
from rlcore.agents.nash.language.estimators import dpo_loss, pair_loss, text_gradient_loss
from rlcore.data.texts import Completions, Vocabulary, pad_right
from rlcore.envs.language import CountJudge, Grammar, GrammarConfig, LastLetterJudge, circle_of_classes, class_game
from rlcore.errors import ConfigError, DataError
from rlcore.functional.divergence import ReverseKl, kl
from rlcore.functional.games import PreferenceGame, equilibrium
from rlcore.nn.generation import Readout, Symbols, every_completion, generate, text_log_probs, token_log_probs
from rlcore.nn.transformer import Transformer, TransformerConfig

WORDS = Vocabulary("ab")
SYMBOLS = Symbols(WORDS.pad, WORDS.end)
SIZES = TransformerConfig(len(WORDS), width=8, layers=1, heads=2)
BETA, WEIGHT, LONGEST = 0.1, 0.5, 3
TOTAL = BETA + WEIGHT


def policy(seed: int, dtype: torch.dtype = torch.float64) -> Readout:
    generator = torch.Generator().manual_seed(seed)
    model = Transformer(SIZES, generator=generator)
    torch.nn.init.normal_(model.head.weight, std=SIZES.width**-0.5, generator=generator)
    return Readout(model.to(dtype), barred=(WORDS.pad,))


def weights(model: Readout) -> list[Tensor]:
    assert isinstance(model.model, Transformer)
    return [model.model.head.weight, model.model.embedding.weight]


EVERY = every_completion(torch.tensor(WORDS.encode("a")), LONGEST, WORDS.letters, SYMBOLS)
JUDGE = CountJudge(WORDS.letters[0])


def pull_of(texts: Completions) -> Tensor:
    """beta log mu + lambda log anchor, token by token."""
    with torch.no_grad():
        return BETA * token_log_probs(policy(1), texts) + WEIGHT * token_log_probs(policy(2), texts)


def exact_gradient(model: Readout) -> list[Tensor]:
    """Of less the objective of a proximal step, by enumeration."""
    log_pi = text_log_probs(model, EVERY)
    with torch.no_grad():
        payoffs = JUDGE.table[JUDGE.classes(EVERY)][:, JUDGE.classes(EVERY)] @ text_log_probs(policy(3), EVERY).exp()
    value = (log_pi.exp() * (payoffs + pull_of(EVERY).sum(-1) - TOTAL * log_pi)).sum()
    return list(torch.autograd.grad(-value, weights(model)))


def expected_gradient(model: Readout, credit: Any) -> list[Tensor]:
    """The mean of the sampled gradient over all pairs of candidates, by enumeration."""
    n = len(EVERY)
    first, second = torch.cartesian_prod(torch.arange(n), torch.arange(n)).T
    with torch.no_grad():
        chance = text_log_probs(model, EVERY).exp()
        payoffs = JUDGE.table[JUDGE.classes(EVERY)][:, JUDGE.classes(EVERY)] @ text_log_probs(policy(3), EVERY).exp()
    log_pi, pull = token_log_probs(model, EVERY), pull_of(EVERY)
    pairs = torch.stack([first, second], 1)  # [n^2, 2]
    total = sum(
        chance[a] * chance[b] * text_gradient_loss(
            log_pi[pair].unsqueeze(0), payoffs[pair].unsqueeze(0), pull[pair].unsqueeze(0), TOTAL, credit)
        for a, b, pair in zip(first, second, pairs, strict=True)
    )  # fmt: skip
    return list(torch.autograd.grad(total, weights(model)))


@pytest.mark.parametrize("credit", ["text", "to_go"])
def test_the_mean_gradient_is_that_of_the_sequence_objective(credit: str) -> None:
    model = policy(0)
    for got, wanted in zip(expected_gradient(model, credit), exact_gradient(model), strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-10)


def test_the_kl_of_the_current_token_alone_is_caught() -> None:
    """The control: its gradient is off by more than a tenth."""
    model = policy(0)
    wrong, right = expected_gradient(model, "token"), exact_gradient(model)
    off = sum(float((w - r).square().sum()) for w, r in zip(wrong, right, strict=True))
    assert math.sqrt(off / sum(float(r.square().sum()) for r in right)) > 0.1


def sampled_gradients(model: Readout, credit: Any, rows: int, chunk: int = 2000) -> Tensor:  # -> [chunks, parameters]
    generator, parts = torch.Generator().manual_seed(0), []
    prompt = EVERY.prompt[:1].expand(2 * chunk, -1)
    for _ in range(rows // chunk):
        u, v = (torch.rand(m * chunk, LONGEST, generator=generator) for m in (2, 1))
        texts = generate(model, prompt, torch.ones_like(prompt, dtype=torch.bool), u, LONGEST, SYMBOLS)
        rivals = generate(
            policy(3), prompt[:chunk], torch.ones_like(prompt[:chunk], dtype=torch.bool), v, LONGEST, SYMBOLS
        )
        chance = JUDGE(texts, rivals[torch.arange(chunk).repeat_interleave(2)])
        wins = (torch.rand(chance.shape, generator=generator, dtype=torch.float64) < chance).double()
        shape = (chunk, 2, LONGEST)
        loss = text_gradient_loss(token_log_probs(model, texts).view(shape), wins.view(chunk, 2),
                                  pull_of(texts).view(shape), TOTAL, credit)  # fmt: skip
        parts.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights(model))]))
    return torch.stack(parts)


@pytest.mark.slow
@pytest.mark.parametrize(("credit", "right"), [("text", True), ("to_go", True), ("token", False)])
def test_sampled_gradients_agree_with_the_enumerated_one(credit: str, right: bool) -> None:
    """2e5 samples and a judge that says 0 or 1: within 4 standard errors per coordinate, but for the control."""
    model = policy(0)
    each, wanted = sampled_gradients(model, credit, 100_000), torch.cat([g.flatten() for g in exact_gradient(model)])
    error = each.std(0) / math.sqrt(len(each))
    moved = error > 0.0
    assert bool(((each.mean(0) - wanted).abs()[moved] < 4.5 * error[moved]).all()) is right


def test_losses_have_the_proximal_point_as_their_minimum() -> None:
    """Regression for any sampler, pairs of the opponent: the gradient vanishes at argmax, by enumeration."""
    mu, anchor, opponent = (text_log_probs(policy(k), EVERY).detach() for k in (1, 2, 3))
    table = JUDGE.table[JUDGE.classes(EVERY)][:, JUDGE.classes(EVERY)]
    game = PreferenceGame.of(table, BETA, mu.exp())
    log_pi = game.proximal(table @ opponent.exp(), anchor, WEIGHT).requires_grad_()
    score = TOTAL * log_pi - BETA * mu - WEIGHT * anchor
    n = len(EVERY)
    first, second = torch.cartesian_prod(torch.arange(n), torch.arange(n)).T
    pairs = score[torch.stack([first, second], 1)]
    payoffs = (table @ opponent.exp())[torch.stack([first, second], 1)]
    sampler = text_log_probs(policy(4), EVERY).detach().exp()
    regression = sum(
        sampler[a] * sampler[b] * sampled_regression_loss(pairs[k : k + 1], payoffs[k : k + 1])
        for k, (a, b) in enumerate(zip(first, second, strict=True))
    )
    ipo = sum(
        opponent[a].exp() * opponent[b].exp() * pair_loss(pairs[k : k + 1], table[a, b].view(1))
        for k, (a, b) in enumerate(zip(first, second, strict=True))
    )
    for loss in (regression, ipo):
        (gradient,) = torch.autograd.grad(loss, log_pi, retain_graph=True)
        assert float(gradient.abs().max()) < 1e-13
    torch.testing.assert_close(
        dpo_loss(ReverseKl(), torch.tensor([[1.0, 0.0]]), torch.tensor([1.0]), 0.5),
        torch.tensor(0.5).neg().exp().log1p(),
    )


def grammar() -> Grammar:
    return Grammar(GrammarConfig(letters=2, longest=LONGEST, seed=1))


def test_the_grammar_knows_its_entropy() -> None:
    language = grammar()
    for k, start in enumerate(language.vocabulary.letters):
        texts = every_completion(torch.tensor([start]), LONGEST, language.vocabulary.letters, SYMBOLS)
        log_p = language.log_probs(texts)
        assert float(log_p.exp().sum()) == pytest.approx(1.0, abs=1e-12)
        assert float(-(log_p.exp() * log_p).sum()) == pytest.approx(float(language.entropy()[k]), abs=1e-12)
    texts = language.sample(torch.full((4000,), 2), torch.Generator().manual_seed(0))
    assert float(-language.log_probs(texts).mean()) == pytest.approx(float(language.entropy()[0]), abs=0.05)


def test_the_class_reduction_of_the_game() -> None:
    """pi*(y) = q*(c(y)) mu(y) / m(c(y)), and the published equilibrium of three classes."""
    m = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    small = PreferenceGame.of(circle_of_classes(), 0.1, m)
    q = equilibrium(small)
    torch.testing.assert_close(q.exp(), torch.tensor([0.38841417, 0.26693826, 0.34464757]).double(), rtol=0, atol=1e-7)
    assert float(small.gap(m.log())) == pytest.approx(0.02479367, abs=1e-8)
    mu = text_log_probs(policy(5), EVERY).detach()
    mu = torch.log_softmax(mu, -1)
    game = class_game(JUDGE, EVERY, mu, 0.1)
    classes = JUDGE.classes(EVERY)
    masses = torch.zeros(3, dtype=torch.float64).index_add_(0, classes, mu.exp())
    star = equilibrium(PreferenceGame.of(circle_of_classes(), 0.1, masses))
    torch.testing.assert_close(equilibrium(game), star[classes] + mu - masses.log()[classes], rtol=0, atol=1e-10)


def test_classes_are_what_they_say() -> None:
    tokens, mask = pad_right([[*WORDS.encode(row), WORDS.end] for row in ("ab", "", "bba")], WORDS.pad)
    given = Completions(torch.tensor([[2], [3], [3]]), torch.ones(3, 1, dtype=torch.bool), tokens, mask)
    last = LastLetterJudge([2, 3, 4], WORDS.end)
    assert last.classes(given).tolist() == [1, 1, 0]
    assert CountJudge(3).classes(given).tolist() == [1, 0, 2]
    assert last.masses(given).tolist() == pytest.approx([1 / 3, 2 / 3, 0.0])
    assert last(given[:1], given[2:]).tolist() == pytest.approx([0.1])


def agent_of(**settings: Any) -> tuple[NashLanguage, TextDuels]:
    """A small policy and its duels."""
    config = NashLanguageConfig(max_new_tokens=LONGEST, learning_rate=1e-2, **settings)
    model = policy(0, torch.float32).model
    assert isinstance(model, Transformer)
    agent = NashLanguage(WholeCopies(model, copies_needed(config)), SYMBOLS, config)
    prompts = Prompts([{"prompt": c} for c in "ab"], [WORDS.encode(c) for c in "ab"], WORDS.pad)
    referee = TokenReferee(JUDGE, torch.Generator().manual_seed(7))
    return agent, TextDuels(prompts, referee, 32, generator=torch.Generator().manual_seed(3))


SETTINGS = [
    {"method": "nash_mp", "loss": "regression"},
    {"method": "nash_mp", "loss": "gradient", "candidates": 3},
    {"method": "nash_mp", "loss": "ipo", "candidates": 1},
    {"method": "nash_md", "loss": "gradient"},
    {"method": "self_play", "loss": "ipo", "candidates": 1},
    {"method": "self_play", "loss": "dpo", "candidates": 1, "divergence": "Jensen-Shannon"},
    {"method": "self_play", "loss": "chi_po", "candidates": 1},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: f"{s['method']}-{s['loss']}")
def test_parts_of_a_batch_give_the_whole_gradient_and_resuming_the_same_bits(
    settings: dict[str, Any], tmp_path
) -> None:
    settings = settings | {"half_steps": 3, "full_steps": 2}
    agent, source = agent_of(**settings)
    parts, again = agent_of(**settings, rows_at_once=5)
    for _ in range(2):
        agent.update(source.next(agent))
        metrics = parts.update(again.next(parts))
        assert all(math.isfinite(float(value)) for value in metrics.values())
    for name, value in agent.state_dict().items():
        torch.testing.assert_close(value, parts.state_dict()[name], rtol=0, atol=1e-5, msg=name)
    agent.save(tmp_path / "agent")
    state = source.state_dict()
    agent.learn(source, 7)
    other, later = agent_of(**settings)
    other.load(tmp_path / "agent")
    later.load_state_dict(state)
    other.learn(later, 7)
    for name, value in agent.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_the_schedule_freezes_what_it_says() -> None:
    agent, source = agent_of(half_steps=2, full_steps=3)
    policies = [enumerated_log_probs(agent, EVERY)]
    for _ in range(5):
        agent.update(source.next(agent))
        policies.append(enumerated_log_probs(agent, EVERY))
        rival = {1: 0, 2: 2, 3: 2, 4: 2, 5: 5}[int(agent.step)]
        anchor = 5 if int(agent.step) == 5 else 0
        assert torch.equal(enumerated_log_probs(agent, EVERY, "rival"), policies[rival])
        assert torch.equal(enumerated_log_probs(agent, EVERY, "anchor"), policies[anchor])
        assert torch.equal(enumerated_log_probs(agent, EVERY, "reference"), policies[0])
    assert float(kl(policies[5], policies[0])) > 1e-4


def test_actions_are_texts() -> None:
    agent, _ = agent_of()
    obs = torch.tensor([[0, 2], [2, 3]])
    greedy, drawn = agent.act(obs), agent.act(obs, noise=torch.randn(2, LONGEST))
    assert greedy.shape == drawn.shape == (2, LONGEST)
    assert torch.equal(greedy, agent.act(obs))


def test_prompts_whose_pairs_failed_are_left_out() -> None:
    agent, source = agent_of()
    batch = source.next(agent)
    wins = batch.wins.clone()
    wins[::2, 1] = math.nan
    metrics = agent.update(replace(batch, wins=wins))
    assert metrics["judge/invalid"] == 0.5
    assert all(math.isfinite(float(value)) for value in metrics.values())
    assert all(bool(p.isfinite().all()) for p in agent.parameters())
    with pytest.raises(DataError, match="nothing is left to learn"):
        agent.update(replace(batch, wins=torch.full_like(wins, math.nan)))


def texts(*rows: str) -> Completions:
    tokens, mask = pad_right([WORDS.encode(row) for row in rows], WORDS.pad)
    return Completions(tokens[:, :1], mask[:, :1], tokens, mask)


ROWS = [{"prompt": "a", "wish": 1.0}, {"prompt": "b", "wish": 2.0}, {"prompt": "a", "wish": 3.0}]


def test_both_orders_are_asked_and_their_disagreement_is_told() -> None:
    def first_place(prompt: str, first: str, second: str) -> float:
        return 0.9 if len(first) >= len(second) else 0.5

    verdicts = TextReferee(CallableJudge(first_place), WORDS)(ROWS, texts("aa", "b", "a"), texts("b", "aa", "a"))
    assert verdicts.wins.tolist() == pytest.approx([0.7, 0.3, 0.5])
    assert (verdicts.queries, verdicts.asymmetry) == (4, pytest.approx(0.4))


class Hard(PairwiseJudge):
    """Names the longer text, and fails on what contains b."""

    def judge(
        self, prompts: Sequence[str], completions: Any, shuffle_order: bool = True, columns: Any = None
    ) -> list[int]:
        return [-1 if "b" in y + z else int(len(z) > len(y)) for y, z in completions]


def test_failures_and_ties_are_kept_apart() -> None:
    verdicts = TextReferee(Hard(), WORDS)(ROWS, texts("aa", "b", "a"), texts("a", "aa", "a"))
    assert verdicts.wins[[0, 2]].tolist() == [1.0, 0.5]
    assert bool(verdicts.wins[1].isnan())
    with pytest.raises(DataError, match="failed on all 1 pairs"):
        TextReferee(Hard(), WORDS)(ROWS[:1], texts("b"), texts("a"))


def test_rewards_see_the_columns_and_ranks_may_tie() -> None:
    def wish(prompts: list[str], completions: list[str], wish: list[float]) -> list[float]:
        return [w * len(y) for w, y in zip(wish, completions, strict=True)]

    verdicts = TextReferee(RewardJudge(wish), WORDS)(ROWS, texts("aa", "b", "a"), texts("b", "aa", "a"))
    sigma = [1.0 / (1.0 + math.exp(-x)) for x in (1.0, -2.0)]
    assert verdicts.wins.tolist() == pytest.approx([*sigma, 0.5])
    assert (verdicts.queries, verdicts.asymmetry) == (2, 0.0)
    ranks = RankJudge(lambda prompt, ys: [0 if len(y) > 1 else 1 for y in ys])
    assert TextReferee(ranks, WORDS)(ROWS, texts("aa", "b", "b"), texts("b", "aa", "a")).wins.tolist() == [1, 0, 0.5]


BROKEN = {
    "raised on a batch of 2 pairs: no": lambda *_: (_ for _ in ()).throw(RuntimeError("no\nmore")),
    "a probability, or -1, got 1.5 for pair 0": lambda *_: 1.5,
    "failed on all 2 pairs": lambda *_: math.nan,
}


@pytest.mark.parametrize("words", BROKEN)
def test_broken_judges_in_one_line(words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        TextReferee(CallableJudge(BROKEN[words]), WORDS)(ROWS[:2], texts("aa", "b"), texts("b", "aa"))
    assert "\n" not in str(caught.value)


def test_a_judge_that_counts_wrongly_in_one_line() -> None:
    class Short(Hard):
        def judge(self, *_: Any, **__: Any) -> list[int]:
            return [0]

    with pytest.raises(DataError, match="one answer for each of 2 pairs, got 1"):
        TextReferee(Short(), WORDS)(ROWS[:2], texts("aa", "b"), texts("b", "aa"))
    with pytest.raises(ConfigError, match="wrap a function in CallableJudge"):
        TextReferee(max, WORDS)  # type: ignore[arg-type]


REFUSED = {
    "beta must be": {"beta": 0.0},
    "a loss whose minimum is its step": {"loss": "dpo", "candidates": 1},
    "needs 2 candidates": {"candidates": 3},
    "needs 1 candidates": {"method": "self_play", "loss": "ipo"},
    "method must be one of": {"method": "ppo"},
    "no divergence is called 'reverse'; did you mean 'reverse KL'": {"divergence": "reverse"},
    "mixture must lie": {"mixture": 1.5},
    "half_steps must be at least 1": {"half_steps": 0},
    "decay_steps must be positive": {"decay_steps": 0.0},
}


@pytest.mark.parametrize("words", REFUSED)
def test_bad_settings_in_one_line(words: str) -> None:
    with pytest.raises((ConfigError, LookupError), match=words):
        agent_of(**REFUSED[words])
