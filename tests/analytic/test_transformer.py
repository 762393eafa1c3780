"""A transformer with a memory gives what one pass over the text gives, and generation samples what it says."""

import math

import pytest
import torch
from torch import Tensor

from rlcore.data.texts import Completions, Vocabulary, pad_left, pad_right, texts_of
from rlcore.errors import ConfigError, DataError, ShapeError
from rlcore.nn.generation import (
    CausalModel,
    PartlyMixed,
    Readout,
    Symbols,
    TokenMixture,
    draw,
    every_completion,
    generate,
    stepwise_logits,
    text_log_probs,
    token_log_probs,
    token_logits,
)
from rlcore.nn.transformer import Transformer, TransformerConfig

WORDS = Vocabulary("abc")
SYMBOLS = Symbols(WORDS.pad, WORDS.end)
SIZES = TransformerConfig(len(WORDS), width=16, layers=2, heads=2)


def transformer(seed: int, dtype: torch.dtype = torch.float32, spread: float = 1.0) -> Transformer:
    """One whose logits differ."""
    generator = torch.Generator().manual_seed(seed)
    model = Transformer(SIZES, generator=generator)
    torch.nn.init.normal_(model.head.weight, std=spread * SIZES.width**-0.5, generator=generator)
    return model.to(dtype)


def prompts() -> tuple[Tensor, Tensor]:
    return pad_left([WORDS.encode(text) for text in ("a", "bca", "cc", "abcab")], WORDS.pad)


def uniforms(rows: int, length: int, seed: int = 0) -> Tensor:
    return torch.rand(rows, length, generator=torch.Generator().manual_seed(seed))


def completions(model: CausalModel, length: int = 8, seed: int = 0) -> Completions:
    prompt, mask = prompts()
    return generate(model, prompt, mask, uniforms(len(prompt), length, seed), length, SYMBOLS)


MODELS = {
    "policy": lambda: transformer(0),
    "mixture": lambda: TokenMixture(transformer(0), transformer(1), 0.5),
    "mixture of mixtures": lambda: TokenMixture(TokenMixture(transformer(0), transformer(1), 0.2), transformer(2), 0.7),
    "tempered": lambda: Readout(transformer(0), 0.7),
}


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_memory_gives_the_logits_of_teacher_forcing(name: str) -> None:
    model = MODELS[name]()
    texts = completions(model)
    cached, forced = stepwise_logits(model, texts), token_logits(model, texts)
    real = texts.mask
    assert float((cached - forced)[real].abs().max()) < 1e-5
    assert float(forced[real].std()) > 0.3, "the logits differ, so that the test can see a wrong one"


class SharedMemory(TokenMixture):
    """The broken mixture: policy and reference read into one memory."""

    def start(self) -> tuple[object, object]:
        memory = self.policy.start()
        return memory, memory


def test_a_shared_memory_is_refused() -> None:
    with pytest.raises(ShapeError, match="memory of its own"):
        completions(SharedMemory(transformer(0), transformer(1), 0.5))


@torch.no_grad()
def test_policy_and_mixture_in_one_batch_are_those_of_two() -> None:
    policy, reference, (prompt, mask) = transformer(0), transformer(1), prompts()
    u = uniforms(8, 6)
    both = generate(PartlyMixed(policy, reference, 0.3, 4), prompt.repeat(2, 1), mask.repeat(2, 1), u, 6, SYMBOLS)
    own = generate(policy, prompt, mask, u[:4], 6, SYMBOLS)
    mixture = generate(TokenMixture(policy, reference, 0.3), prompt, mask, u[4:], 6, SYMBOLS)
    assert torch.equal(both.tokens, torch.cat([own.tokens, mixture.tokens]))
    assert not torch.equal(own.tokens, generate(policy, prompt, mask, u[4:], 6, SYMBOLS).tokens)


@torch.no_grad()
def test_padding_changes_nothing() -> None:
    model, (prompt, mask) = transformer(3), prompts()
    texts = completions(model)
    together = token_log_probs(model, texts)
    for row in range(len(prompt)):
        alone = Completions(prompt[row : row + 1][:, mask[row]], torch.ones(1, int(mask[row].sum()), dtype=torch.bool),
                            texts.tokens[row : row + 1], texts.mask[row : row + 1])  # fmt: skip
        torch.testing.assert_close(token_log_probs(model, alone)[0], together[row], rtol=0, atol=2e-6)
    assert bool((together[~texts.mask] == 0.0).all())


@torch.no_grad()
def test_a_row_depends_on_its_own_numbers_only() -> None:
    model, (prompt, mask) = transformer(4), prompts()
    u = uniforms(4, 6)
    texts = generate(model, prompt, mask, u, 6, SYMBOLS)
    two = generate(model, prompt[1:3], mask[1:3], u[1:3], 6, SYMBOLS)
    assert torch.equal(two.tokens, texts.tokens[1:3])
    assert not torch.equal(generate(model, prompt, mask, 1.0 - u, 6, SYMBOLS).tokens, texts.tokens)
    greedy = generate(model, prompt, mask, None, 6, SYMBOLS)
    likeliest = token_logits(model, greedy).argmax(-1)
    assert torch.equal(likeliest[greedy.mask], greedy.tokens[greedy.mask])


@torch.no_grad()
def test_texts_end_at_their_end() -> None:
    texts = completions(transformer(5), length=12)
    for tokens, mask in zip(texts.tokens.tolist(), texts.mask.tolist(), strict=True):
        real = [s for s, kept in zip(tokens, mask, strict=True) if kept]
        assert mask == sorted(mask, reverse=True)
        assert WORDS.end not in real[:-1]
        assert real[-1] == WORDS.end or len(real) == 12
        assert all(s == WORDS.pad for s in tokens[len(real) :])


def barred(model: Transformer) -> CausalModel:
    """Without the padding symbol, which enumeration leaves out."""
    return Readout(model, barred=(WORDS.pad,))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@torch.no_grad()
def test_probabilities_of_all_outcomes_sum_to_one(dtype: torch.dtype, tolerance: float) -> None:
    model = barred(transformer(6, dtype))
    texts = every_completion(torch.tensor(WORDS.encode("ab")), 4, WORDS.letters, SYMBOLS)
    assert len(texts) == sum(3**t for t in range(5))
    log_p = text_log_probs(model, texts, rows=50)
    assert float(log_p.double().exp().sum()) == pytest.approx(1.0, abs=tolerance)
    torch.testing.assert_close(log_p, text_log_probs(model, texts))


@pytest.mark.parametrize("seed", range(3))
@torch.no_grad()
def test_samples_have_the_probabilities_of_the_model(seed: int) -> None:
    """Chi-square of 2e4 samples against the enumerated probabilities, p > 1e-3."""
    from scipy.stats import chi2

    model = TokenMixture(barred(transformer(7)), barred(transformer(8)), 0.4)
    every = every_completion(torch.tensor(WORDS.encode("ab")), 3, WORDS.letters, SYMBOLS)
    n = 20_000
    prompt, mask = every.prompt[:1].expand(n, -1), every.prompt_mask[:1].expand(n, -1)
    texts = generate(model, prompt, mask, uniforms(n, 3, seed), 3, SYMBOLS)
    weights = torch.tensor([25, 5, 1])
    codes, code = (every.tokens * weights).sum(1), (texts.tokens * weights).sum(1)
    count = (code.unsqueeze(1) == codes).sum(0).double()
    expected = n * text_log_probs(model, every).double().exp()
    assert int(count.sum()) == n
    statistic = float(((count - expected).square() / expected).sum())
    assert chi2.sf(statistic, len(expected) - 1) > 1e-3


def test_draws_never_take_what_is_impossible() -> None:
    logits = torch.tensor([[-math.inf, 0.0, -math.inf, 0.0, -math.inf]]).expand(4, -1)
    assert draw(logits, torch.tensor([0.0, 0.49, 0.5, 1.0 - 2**-24])).tolist() == [1, 1, 3, 3]


@torch.no_grad()
def test_it_begins_uniform_and_is_causal() -> None:
    fresh = Transformer(SIZES, generator=torch.Generator().manual_seed(0))
    assert bool((fresh(torch.tensor([[2, 3, 4]])) == 0.0).all())
    model, tokens = transformer(9), torch.tensor([[2, 3, 4, 2, 2]])
    other = tokens.clone()
    other[0, 3] = 4
    torch.testing.assert_close(model(tokens)[:, :3], model(other)[:, :3])
    assert float((model(tokens) - model(other))[:, 3:].abs().max()) > 1e-2


def test_bad_input_in_one_line() -> None:
    with pytest.raises(ConfigError, match="multiple of heads"):
        Transformer(TransformerConfig(width=10, heads=4), generator=torch.Generator())
    with pytest.raises(ConfigError, match=r"lie in \[0, 1\]"):
        TokenMixture(transformer(0), transformer(1), 1.5)
    with pytest.raises(DataError, match="which is none of 'abc'"):
        WORDS.encode("abd")
    with pytest.raises(DataError, match="at least one token"):
        pad_left([[2], []], 0)
    with pytest.raises(ConfigError, match="at most 2"):
        every_completion(torch.tensor([2]), 30, WORDS.letters, SYMBOLS)
    with pytest.raises(ShapeError, match="masks must have"):
        Completions(torch.zeros(1, 2), torch.zeros(1, 3), torch.zeros(1, 2), torch.zeros(1, 2))
    tokens, mask = pad_right([WORDS.encode("ab"), WORDS.encode("c")], WORDS.pad)
    texts = Completions(tokens, mask, tokens, mask)
    assert texts_of(texts, WORDS) == ["ab", "c"]
