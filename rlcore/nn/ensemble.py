"""Ensembles of networks of one shape as one batched network, for any number of members and of seeds.

Member e of seed s has its own weights, stacked as [S E, inputs, outputs]; every layer is one batched product, so that
ten critics, or the critics of ten independent runs, cost about as many calls as one network.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from rlcore.checks import check_integer, check_positive
from rlcore.errors import ConfigError


@dataclass(frozen=True)
class Layers:
    """The hidden layers of a network: Linear, LayerNorm if wanted, activation; orthogonal weights, zero biases."""

    hidden: tuple[int, ...] = (256, 256)
    """Widths."""
    layer_norm: bool = False
    """Whether each hidden layer is normalised over its units."""
    norm_eps: float = 1e-5
    """Added to the variance by the normalisation; Flax uses 1e-6."""
    gain: float = math.sqrt(2.0)
    """Scale of the orthogonal first weights."""
    last_hidden_gain: float = math.sqrt(2.0)
    """The same for the last hidden layer; WSRL's configurations use 0.01 here on some tasks."""
    output_gain: float = math.sqrt(2.0)
    """The same for the output layer; 0.01 starts a policy near the middle of its box."""
    activation: Literal["relu", "tanh", "leaky_relu"] = "relu"
    """What follows each hidden layer; the slope of leaky_relu below zero is 0.01."""


def tanh(x: Tensor) -> Tensor:
    """tanh x, in a compiled graph for a CPU as 2 / (1 + exp(-2 x)) - 1: the same to 1e-7, at a fifth of the time."""
    if torch.compiler.is_compiling() and x.device.type == "cpu":
        return 2.0 * torch.sigmoid(2.0 * x) - 1.0
    return torch.tanh(x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": tanh,
    "leaky_relu": nn.functional.leaky_relu,
}


def picked(stack: Tensor, chosen: Tensor | slice | None) -> Tensor:  # [M, ...] -> [M or those chosen, ...]
    """The maps chosen of a stack.

    Where a compiled graph takes their gradient, by a product with rows of zeros and ones: the gradient of indexing is a
    scatter, which the compiler of torch 2.13 may run after what reads its result.
    """
    if chosen is None:
        return stack
    if isinstance(chosen, slice) or not (torch.compiler.is_compiling() and torch.is_grad_enabled()):
        return stack[chosen]
    rows = one_of(chosen, len(stack), stack)
    return (rows @ stack.flatten(1)).view(-1, *stack.shape[1:])


def one_of(chosen: Tensor, count: int, like: Tensor) -> Tensor:  # [...] -> [..., count]
    """A one at each chosen place, zeros elsewhere."""
    return (chosen.unsqueeze(-1) == torch.arange(count, device=chosen.device)).to(like.dtype)


class StackedLinear(nn.Module):
    """M linear maps at once, [M, N, inputs] -> [M, N, outputs], each with orthogonal weights of its own."""

    def __init__(self, maps: int, inputs: int, outputs: int, gain: float, *, generator: torch.Generator) -> None:
        super().__init__()
        weight = torch.empty(maps, inputs, outputs)
        for one in weight:
            nn.init.orthogonal_(one, gain=gain, generator=generator)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(maps, 1, outputs))

    def forward(self, x: Tensor, chosen: Tensor | slice | None = None) -> Tensor:
        return torch.bmm(x, picked(self.weight, chosen)) + picked(self.bias, chosen)


class StackedNorm(nn.Module):
    """M layer normalisations over the last dimension, [M, N, width] -> the same."""

    def __init__(self, maps: int, width: int, eps: float) -> None:
        super().__init__()
        self.width, self.eps = width, eps
        self.gain = nn.Parameter(torch.ones(maps, 1, width))
        self.shift = nn.Parameter(torch.zeros(maps, 1, width))

    def forward(self, x: Tensor, chosen: Tensor | slice | None = None) -> Tensor:
        x = nn.functional.layer_norm(x, (self.width,), eps=self.eps)
        return torch.addcmul(picked(self.shift, chosen), x, picked(self.gain, chosen))


class Ensemble(nn.Module):
    """S groups of E networks: [S, N, inputs] -> [S, E, N, outputs].

    With `shared_head` the members of a group end in one output layer, as in the published code of WSRL; otherwise each
    has its own, as in REDQ.
    """

    def __init__(
        self,
        seeds: int,
        members: int,
        inputs: int,
        outputs: int,
        layers: Layers,
        *,
        generator: torch.Generator,
        shared_head: bool = False,
    ) -> None:
        super().__init__()
        check_integer("seeds, members, inputs, outputs and hidden", seeds, members, inputs, outputs, *layers.hidden)
        if min(seeds, members, inputs, outputs, *layers.hidden) < 1 or not layers.hidden:
            raise ConfigError(f"an ensemble needs every size at least 1 and a hidden layer, got {layers.hidden}")
        check_positive("norm_eps", layers.norm_eps)
        if layers.activation not in ACTIVATIONS:
            raise ConfigError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {layers.activation!r}")
        self.activation = ACTIVATIONS[layers.activation]
        self.seeds, self.members, self.shared_head = seeds, members, shared_head
        self.hidden, self.norms = nn.ModuleList(), nn.ModuleList()
        width = inputs
        for k, after in enumerate(layers.hidden):
            gain = layers.last_hidden_gain if k == len(layers.hidden) - 1 else layers.gain
            self.hidden.append(StackedLinear(seeds * members, width, after, gain, generator=generator))
            self.norms.append(StackedNorm(seeds * members, after, layers.norm_eps) if layers.layer_norm else Same())
            width = after
        heads = seeds if shared_head else seeds * members
        self.head = StackedLinear(heads, width, outputs, layers.output_gain, generator=generator)

    def forward(self, x: Tensor, chosen: Tensor | int | None = None) -> Tensor:
        """`chosen` [S, k], members of each group, evaluates only those: -> [S, k, N, outputs]; a number, that one."""
        groups, rows, count = *x.shape[:2], self.members
        flat: Tensor | slice | None = None
        if isinstance(chosen, int):
            count, flat = 1, slice(chosen, None, self.members)
        elif chosen is not None:
            first = torch.arange(self.seeds, device=chosen.device).unsqueeze(1) * self.members
            count, flat = chosen.shape[1], (first + chosen).flatten()  # [S k]
        x = x.unsqueeze(1).expand(-1, count, -1, -1).reshape(groups * count, rows, -1)
        for linear, norm in zip(self.hidden, self.norms, strict=True):
            x = self.activation(norm(linear(x, flat), flat))
        if self.shared_head:
            out: Tensor = self.head(x.view(groups, count * rows, -1))
        else:
            out = self.head(x, flat)
        return out.view(groups, count, rows, -1)


class Same(nn.Module):
    """No normalisation."""

    def forward(self, x: Tensor, chosen: Tensor | slice | None = None) -> Tensor:
        return x


def draw_members(
    seeds: int, members: int, count: int, *, generator: torch.Generator, replacement: bool = False
) -> Tensor:  # int64 [S, count]
    """`count` members of each group at random; with replacement some draws hold one member twice."""
    if count < 1 or (count > members and not replacement):
        raise ConfigError(f"cannot draw {count} of {members} members; ask for 1 to {members}")
    device = generator.device
    if replacement:
        return torch.randint(members, (seeds, count), generator=generator, device=device)
    return torch.rand(seeds, members, generator=generator, device=device).argsort(dim=1)[:, :count]
