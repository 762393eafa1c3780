"""A small causal transformer with a memory of keys and values, for texts that are padded on either side.

    x <- x + attention(norm(x)),   x <- x + mlp(norm(x)),   logits = head(norm(x))

Positions are sines and cosines beside the embeddings, so that nothing limits the length. They count real tokens only: a
row gives the same logits whatever its padding.
Letters: B rows, L tokens of a call, M tokens read before it, H heads, D width of a head, V symbols.
Source: Vaswani et al., NeurIPS 2017; Xiong et al., ICML 2020, for the norms.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from rlcore.checks import check_integer
from rlcore.errors import ConfigError, ShapeError

LONGEST_WAVE = 10_000.0  # tokens per radian of the slowest wave


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes of `Transformer`."""

    vocabulary: int = 32
    """Symbols, padding and end of text among them."""
    width: int = 64
    """Numbers that stand for a token between the layers."""
    layers: int = 2
    """Blocks of attention and a perceptron."""
    heads: int = 4
    """Parts of the width that attend each on its own; the width is a multiple of their number."""
    expansion: int = 4
    """Width of the perceptron's hidden layer over `width`."""


class Memory:
    """Keys and values of what one model has read, [layers, 2, B, H, capacity, D]; it grows by doubling."""

    def __init__(self) -> None:
        self.kept: Tensor | None = None
        self.used = 0

    def extend(self, layer: int, new: Tensor) -> Tensor:  # [2, B, H, L, D] -> [2, B, H, M + L, D]
        """What the layer has read, with the new keys and values behind it."""
        assert self.kept is not None
        end = self.used + new.shape[3]
        self.kept[layer, :, :, :, self.used : end] = new
        return self.kept[layer, :, :, :, :end]

    def reserve(self, layers: int, like: Tensor, length: int) -> None:  # like [2, B, H, 0, D]
        """Room for `length` more tokens."""
        need, have = self.used + length, 0 if self.kept is None else self.kept.shape[4]
        if need > have:
            two, rows, heads, _, depth = like.shape
            wider = like.new_zeros(layers, two, rows, heads, max(need, 2 * have, 16), depth)
            if self.kept is not None:
                wider[:, :, :, :, : self.used] = self.kept[:, :, :, :, : self.used]
            self.kept = wider


class Block(nn.Module):
    """Attention and a perceptron, each behind a norm and beside a straight way through."""

    def __init__(self, config: TransformerConfig, generator: torch.Generator) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.attention_norm, self.mlp_norm = nn.RMSNorm(width), nn.RMSNorm(width)
        self.attend = linear(width, 3 * width, generator)
        self.gather = linear(width, width, generator, gain=(2.0 * config.layers) ** -0.5)
        self.widen = linear(width, config.expansion * width, generator)
        self.narrow = linear(config.expansion * width, width, generator, gain=(2.0 * config.layers) ** -0.5)

    def keys_of(self, x: Tensor) -> tuple[Tensor, Tensor]:  # [B, L, width]
        """Queries [B, H, L, D], and keys and values [2, B, H, L, D]."""
        rows, length, _ = x.shape
        parts = self.attend(self.attention_norm(x)).view(rows, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return parts[0], parts[1:]

    def forward(self, x: Tensor, query: Tensor, known: Tensor, seen: Tensor | None) -> Tensor:
        """`seen` [B, 1, L, M + L] says which tokens each may look at; None lets all look at all before them."""
        key, value = known.unbind()
        heard = scaled_dot_product_attention(query, key, value, attn_mask=seen, is_causal=seen is None)
        x = x + self.gather(heard.transpose(1, 2).flatten(2))
        return x + self.narrow(gelu(self.widen(self.mlp_norm(x))))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """Next-token logits of every token read; it begins as the uniform distribution over symbols.

    It is a `CausalModel` (`rlcore.nn.generation`): `read(tokens, mask, memory)` continues what the memory holds.
    """

    def __init__(self, config: TransformerConfig = TransformerConfig(), *, generator: torch.Generator) -> None:
        super().__init__()
        sizes = (config.vocabulary, config.width, config.layers, config.heads, config.expansion)
        check_integer("sizes of the transformer", *sizes)
        if min(sizes) < 1 or config.width % config.heads or config.width % 2:
            raise ConfigError(
                f"a transformer needs sizes of at least 1 and an even width that is a multiple of heads, got {config}"
            )
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        nn.init.normal_(self.embedding.weight, generator=generator)
        self.blocks = nn.ModuleList(Block(config, generator) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width)
        self.head = linear(config.width, config.vocabulary, generator, gain=0.0)

    def start(self) -> Memory:
        """An empty memory. Two models never share one: their keys mean different things."""
        return Memory()

    def read(self, tokens: Tensor, mask: Tensor, memory: Memory | None = None, last: bool = False) -> Tensor:
        """Logits [B, L, V] of tokens [B, L], or of the last one alone, [B, 1, V].

        `mask` [B, M + L] is true where a token is real, those in the memory included; padding may stand on the left of
        a text and on its right.
        """
        length, before = tokens.shape[1], 0 if memory is None else memory.used
        if mask.shape[1] != before + length:
            raise ShapeError(
                f"mask must cover {before} tokens of the memory and {length} new ones, got {mask.shape[1]}; give every "
                "model a memory of its own"
            )
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -length:]  # [B, L]
        x = self.embedding(tokens)
        x = x + waves(positions, self.config.width).to(x.dtype)
        seen = None if memory is None and bool(mask.all()) else visible(mask, length)
        for number, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            query, known = block.keys_of(x)
            if memory is not None:
                if number == 0:
                    memory.reserve(self.config.layers, known[:, :, :, :0], length)
                known = memory.extend(number, known)
            x = block(x, query, known, seen)
        if memory is not None:
            memory.used += length
        return self.head(self.norm(x[:, -1:] if last else x))  # type: ignore[no-any-return]

    def forward(self, tokens: Tensor) -> Tensor:  # [B, L] -> [B, L, V]
        """Logits of whole texts without padding."""
        return self.read(tokens, torch.ones_like(tokens, dtype=torch.bool))


def visible(mask: Tensor, length: int) -> Tensor:  # [B, M + L] -> [B, 1, L, M + L]
    """Real tokens that are not later; padding sees itself, so that its softmax has something to sum."""
    whole = mask.shape[1]
    place = torch.arange(whole, device=mask.device)
    asking = place[-length:].unsqueeze(1)
    return ((place <= asking) & mask.unsqueeze(1) | (place == asking)).unsqueeze(1)


def waves(positions: Tensor, width: int) -> Tensor:  # [B, L] -> [B, L, width]
    """Cosines and sines of each position, with a geometric row of wavelengths."""
    slower = torch.arange(0, width, 2, device=positions.device, dtype=torch.float64) / width
    angle = positions.unsqueeze(-1) * LONGEST_WAVE**-slower
    return torch.cat([angle.cos(), angle.sin()], -1)


def linear(inputs: int, outputs: int, generator: torch.Generator, gain: float = 1.0) -> nn.Linear:
    """A map without bias whose weights have variance gain^2 / inputs."""
    layer = nn.Linear(inputs, outputs, bias=False)
    nn.init.normal_(layer.weight, std=gain * inputs**-0.5, generator=generator)
    return layer
