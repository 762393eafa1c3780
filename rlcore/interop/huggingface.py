"""Causal language models and tokenisers of Hugging Face, as models and tokenisers of this library.

Whatever `AutoModelForCausalLM` loads will do. Positions are counted over real tokens, so that padding on the left
changes nothing, and every model reads into a cache of its own.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from rlcore.data.texts import Tokeniser
from rlcore.errors import ConfigError, MissingExtraError, ShapeError


def extra(module: str) -> Any:
    """A module of the extra `lm`, or one line that says how to get it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(f"this needs {module}: pip install 'rlcore-lab[lm]' ({error})") from error


class HuggingFaceModel(nn.Module):
    """A causal model of Hugging Face as a `CausalModel`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.cache = extra("transformers").DynamicCache
        self.takes = frozenset(inspect.signature(getattr(model, "get_base_model", lambda: model)().forward).parameters)

    def start(self) -> Any:
        """An empty cache, of the kind that the model's layers ask for."""
        return self.cache(config=self.model.config)

    def read(self, tokens: Tensor, mask: Tensor, memory: Any = None, last: bool = False) -> Tensor:
        """Logits [B, L, V] after tokens [B, L], or after the last one alone; mask [B, M + L]."""
        length, before = tokens.shape[1], 0 if memory is None else memory.get_seq_length()
        if mask.shape[1] != before + length:
            raise ShapeError(
                f"mask must cover {before} tokens of the cache and {length} new ones, got {mask.shape[1]}; give every "
                "model a cache of its own"
            )
        given: dict[str, Any] = {"use_cache": memory is not None}
        if not bool(mask.all()):  # without padding the models have quicker ways
            given["attention_mask"] = mask.long()
        if memory is not None:
            given["past_key_values"] = memory
        if "position_ids" in self.takes:
            given["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)[:, -length:]
        if last and "logits_to_keep" in self.takes:
            given["logits_to_keep"] = 1
        logits: Tensor = self.model(input_ids=tokens, **given).logits
        return logits[:, -1:] if last else logits


class HuggingFaceTokeniser:
    """A tokeniser of Hugging Face as a `Tokeniser`; it needs a padding token and an end of text."""

    def __init__(self, tokeniser: Any) -> None:
        for name, word in (("pad", "padding"), ("eos", "end-of-text")):
            if getattr(tokeniser, f"{name}_token_id", None) is None:
                cure = "tokenizer.pad_token = tokenizer.eos_token" if name == "pad" else "tokenizer.eos_token = '</s>'"
                raise ConfigError(f"the tokeniser has no {word} token ({name}_token_id is None); set {cure}")
        self.tokeniser, self.pad, self.end = tokeniser, int(tokeniser.pad_token_id), int(tokeniser.eos_token_id)

    def encode(self, text: str) -> list[int]:
        """Symbols of a text with the tokeniser's own beginning, without an end."""
        found = list(self.tokeniser(text)["input_ids"])
        return found[:-1] if found and found[-1] == self.end else found

    def decode(self, symbols: Sequence[int]) -> str:
        """The text, without special tokens."""
        return str(self.tokeniser.decode(list(symbols), skip_special_tokens=True))


def causal(model: nn.Module) -> Any:
    """The model itself if it can `read`, such as `Transformer`; otherwise taken for one of Hugging Face."""
    if callable(getattr(model, "read", None)) and callable(getattr(model, "start", None)):
        return model
    if not hasattr(model, "config") or not hasattr(model, "generation_config"):
        raise ConfigError(
            f"the model must be a causal language model of Hugging Face or have start and read, got a "
            f"{type(model).__name__}; load it with AutoModelForCausalLM"
        )
    return HuggingFaceModel(model)


def tokeniser_of(tokeniser: Any) -> Tokeniser:
    """The same if it is a `Tokeniser`; otherwise one of Hugging Face."""
    if isinstance(getattr(tokeniser, "pad", None), int) and isinstance(getattr(tokeniser, "end", None), int):
        return tokeniser  # type: ignore[no-any-return]
    return HuggingFaceTokeniser(tokeniser)
