"""Texts of a policy and of its mixture with a reference per CPU second, beside generation without caches and TRL's.

GPT-2 of 4 layers and width 128, prompts of 16 tokens, one thread. TRL is measured where `trl.experimental.nash_md` can
be imported (1.13.0 was the last release with it): its default recomputes the whole text for every token.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor, nn

from rlcore.interop.huggingface import HuggingFaceModel, extra
from rlcore.nn.generation import CausalModel, PartlyMixed, Readout, Symbols, TokenMixture, draw, generate

SYMBOLS, PROMPT, SYMBOLS_OF_TEXT = Symbols(0, 1), 16, 256
SIZES = ((32, 32), (32, 64), (16, 128), (8, 256))
"""Texts side by side, and new tokens of each."""


def hugging_face(
    kind: str, vocabulary: int, width: int, layers: int, *, seed: int, spread: float = 0.02
) -> HuggingFaceModel:
    """A random GPT-2 or Llama from a configuration, without a download."""
    library = extra("transformers")
    common = {"vocab_size": vocabulary, "bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0,
              "initializer_range": spread}  # fmt: skip
    if kind == "gpt2":
        config = library.GPT2Config(n_embd=width, n_layer=layers, n_head=4, n_positions=512, **common)
    else:
        config = library.LlamaConfig(
            hidden_size=width, intermediate_size=2 * width, num_hidden_layers=layers, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=512, **common,
        )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = library.AutoModelForCausalLM.from_config(config)
        return HuggingFaceModel(model.eval())


@torch.no_grad()
def without_memory(model: CausalModel, prompt: Tensor, uniform: Tensor) -> Tensor:
    """The same texts as `generate` gives, each token by a pass over all before it."""
    tokens = prompt
    for t in range(uniform.shape[1]):
        mask = torch.ones_like(tokens, dtype=torch.bool)
        found = draw(model.read(tokens, mask, None, True)[:, -1], uniform[:, t])
        tokens = torch.cat([tokens, found.unsqueeze(1)], 1)
    return tokens[:, prompt.shape[1] :]


def trl_work(
    policy: HuggingFaceModel, reference: HuggingFaceModel, prompt: Tensor, length: int
) -> Callable[[], Any] | None:
    """Policy and mixture as `NashMDTrainer` generates them by default; None without TRL."""
    try:
        wrapper = import_module("trl.experimental.nash_md.nash_md_trainer").GeometricMixtureWrapper
    except ImportError:
        return None
    settings = extra("transformers").GenerationConfig(
        max_new_tokens=length, do_sample=True, temperature=0.9, top_k=0, top_p=1.0, use_cache=False,
        pad_token_id=0, eos_token_id=None,
    )  # fmt: skip
    mask = torch.ones_like(prompt)
    mixture = wrapper(policy.model, reference.model, settings, 0.5, torch.device("cpu"))

    @torch.no_grad()
    def work() -> None:
        for model in (policy.model, mixture):
            model.generate(input_ids=prompt, attention_mask=mask, generation_config=settings)  # type: ignore[operator]

    return work


def seconds(work: Callable[[], Any], rounds: int) -> float:
    """Least CPU time of some rounds."""
    best = math.inf
    for _ in range(rounds):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return best


def measure(
    sizes: Sequence[tuple[int, int]] = SIZES, rounds: int = 3, width: int = 128, layers: int = 4
) -> list[dict[str, Any]]:
    """Tokens per CPU second of every way, with the ratio of ours."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        pair = [hugging_face("gpt2", SYMBOLS_OF_TEXT, width, layers, seed=seed) for seed in (0, 1)]
        return [row for rows, length in sizes for row in one_size(pair, rows, length, rounds)]
    finally:
        torch.set_num_threads(threads)


def one_size(pair: list[HuggingFaceModel], rows: int, length: int, rounds: int) -> list[dict[str, Any]]:
    """Policy and mixture samples of one batch; no text ends early."""
    policy, reference = (Readout(model, barred=(SYMBOLS.pad, SYMBOLS.end)) for model in pair)
    ways: tuple[CausalModel, CausalModel] = (policy, TokenMixture(policy, reference, 0.5))
    generator = torch.Generator().manual_seed(0)
    prompt = torch.randint(2, SYMBOLS_OF_TEXT, (rows, PROMPT), generator=generator)
    mask, uniform = torch.ones_like(prompt, dtype=torch.bool), torch.rand(2, rows, length, generator=generator)
    found: dict[str, list[Tensor]] = {}

    def ours() -> None:
        both = PartlyMixed(policy, reference, 0.5, rows)
        twice = [torch.cat([x, x]) for x in (prompt, mask)]
        tokens = generate(both, twice[0], twice[1], uniform.flatten(0, 1), length, SYMBOLS).tokens
        found["ours"] = list(tokens.chunk(2))

    def plain() -> None:
        found["plain"] = [without_memory(m, prompt, u) for m, u in zip(ways, uniform, strict=True)]

    workloads: dict[str, Callable[[], Any]] = {"a cache for each model": ours, "no cache": plain}
    peer = trl_work(pair[0], pair[1], prompt, length)
    if peer is not None:
        workloads[f"TRL {version('trl')}"] = peer
    times = {name: seconds(work, rounds) for name, work in workloads.items()}
    same = sum(float((a == b).float().mean()) for a, b in zip(found["ours"], found["plain"], strict=True)) / 2.0
    return [
        {
            "workload": name,
            "texts": rows,
            "new tokens": length,
            "tokens/CPU-s": 2 * rows * length / spent,
            "ours is": f"{spent / times['a cache for each model']:.1f}x",
            "same tokens": f"{same:.4f}" if "TRL" not in name else "",
            "threads": 1,
            "versions": versions(),
        }
        for name, spent in times.items()
    ]


def versions() -> str:
    """Of what is compared."""
    parts = []
    for name in ("torch", "transformers", "trl"):
        try:
            parts.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(parts)
