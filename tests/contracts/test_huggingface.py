"""Models of Hugging Face, built from a configuration: the same promises as the own transformer."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

transformers = pytest.importorskip("transformers")

from rlcore.data.texts import Completions, pad_left  # noqa: E402
from rlcore.errors import ConfigError, ShapeError  # noqa: E402
from rlcore.interop.huggingface import HuggingFaceModel, HuggingFaceTokeniser, causal, tokeniser_of  # noqa: E402
from rlcore.nn.generation import Symbols, TokenMixture, generate, stepwise_logits, token_log_probs, token_logits  # noqa: E402

SYMBOLS = Symbols(0, 1)


def gpt2() -> Any:
    return transformers.GPT2Config(
        vocab_size=12, n_embd=16, n_layer=2, n_head=2, n_positions=48, initializer_range=0.3,
        bos_token_id=1, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip


def llama() -> Any:
    return transformers.LlamaConfig(
        vocab_size=12, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=48, initializer_range=0.3,
        bos_token_id=1, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip


CONFIGS = {"gpt2": gpt2, "llama": llama}


def model_of(kind: str, seed: int = 0) -> HuggingFaceModel:
    torch.manual_seed(seed)
    return HuggingFaceModel(transformers.AutoModelForCausalLM.from_config(CONFIGS[kind]()))


def prompts() -> tuple[Tensor, Tensor]:
    return pad_left([[2], [3, 4, 5], [6, 7], [2, 3, 4, 5, 6]], 0)


def completions(model: Any, length: int = 8) -> Completions:
    prompt, mask = prompts()
    return generate(model, prompt, mask, torch.rand(4, length, generator=torch.Generator().manual_seed(0)), length,
                    SYMBOLS)  # fmt: skip


@pytest.mark.parametrize("mixture", [False, True])
@pytest.mark.parametrize("kind", CONFIGS)
@torch.no_grad()
def test_the_cache_gives_the_logits_of_teacher_forcing(kind: str, mixture: bool) -> None:
    model = model_of(kind).eval()
    read = TokenMixture(model, model_of(kind, seed=1).eval(), 0.5) if mixture else model
    texts = completions(read)
    apart = (stepwise_logits(read, texts) - token_logits(read, texts))[texts.mask]
    assert float(apart.abs().max()) < 1e-5


class OneCache(TokenMixture):
    """The broken mixture of the field: policy and reference read into one cache, which nobody checks."""

    def start(self) -> tuple[Any, Any]:
        cache = self.policy.start()
        return cache, cache


def unchecked(model: HuggingFaceModel, tokens: Tensor, mask: Tensor, memory: Any = None, last: bool = False) -> Tensor:
    """As a wrapper calls its models that leaves positions and caches to them."""
    columns = tokens.shape[1] if memory is None else memory.get_seq_length() + tokens.shape[1]
    wide = torch.ones(len(tokens), columns, dtype=torch.long)
    logits = model.model(input_ids=tokens, attention_mask=wide, past_key_values=memory, use_cache=memory is not None)
    return logits.logits[:, -1:] if last else logits.logits


@torch.no_grad()
def test_one_cache_for_two_models_is_refused_and_would_be_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, reference = model_of("gpt2").eval(), model_of("gpt2", seed=1).eval()
    broken, whole = OneCache(policy, reference, 0.5), TokenMixture(policy, reference, 0.5)
    with pytest.raises(ShapeError, match="cache of its own"):
        completions(broken)
    texts = completions(whole, length=3)
    monkeypatch.setattr(HuggingFaceModel, "read", unchecked)
    full = texts[3:4]  # the prompt without padding: nothing but the cache is wrong
    wrong, forced = stepwise_logits(broken, full), token_logits(whole, full)
    assert float((wrong - forced)[full.mask].abs().max()) > 0.1


@pytest.mark.parametrize("kind", CONFIGS)
@torch.no_grad()
def test_padding_changes_nothing(kind: str) -> None:
    model, (prompt, mask) = model_of(kind).eval(), prompts()
    texts = completions(model)
    together = token_log_probs(model, texts)
    for row in range(len(prompt)):
        alone = Completions(prompt[row : row + 1][:, mask[row]], torch.ones(1, int(mask[row].sum()), dtype=torch.bool),
                            texts.tokens[row : row + 1], texts.mask[row : row + 1])  # fmt: skip
        torch.testing.assert_close(token_log_probs(model, alone)[0], together[row], rtol=0, atol=5e-6)


@pytest.mark.parametrize("kind", CONFIGS)
@torch.no_grad()
def test_greedy_texts_are_those_of_the_library(kind: str) -> None:
    model, (prompt, mask) = model_of(kind).eval(), prompts()
    own = generate(model, prompt, mask, None, 6, SYMBOLS).tokens
    theirs = model.model.generate(
        input_ids=prompt, attention_mask=mask.long(), max_new_tokens=6, do_sample=False, pad_token_id=0, eos_token_id=1
    )[:, prompt.shape[1] :]
    assert torch.equal(own[:, : theirs.shape[1]], theirs)


def test_what_is_no_language_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="AutoModelForCausalLM"):
        causal(nn.Linear(2, 2))
    assert isinstance(causal(model_of("gpt2").model), HuggingFaceModel)


class Words:
    """A tokeniser of their kind, in memory."""

    pad_token_id, eos_token_id = 0, 1

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": [*(2 + "abc".index(c) for c in text), 1]}

    def decode(self, symbols: list[int], skip_special_tokens: bool) -> str:
        return "".join("abc"[s - 2] for s in symbols if s > 1)


def test_tokenisers() -> None:
    words = tokeniser_of(Words())
    assert isinstance(words, HuggingFaceTokeniser)
    assert (words.pad, words.end, words.encode("ab"), words.decode([3, 2, 1])) == (0, 1, [2, 3], "ba")
    for missing in ("pad", "eos"):
        bad = Words()
        setattr(bad, f"{missing}_token_id", None)
        with pytest.raises(ConfigError, match=f"{missing}_token_id is None"):
            tokeniser_of(bad)
