"""Multilayer perceptrons and linear-in-features functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class Mlp(nn.Module):
    """A fully connected network, [..., inputs] -> [..., outputs], with orthogonal initial weights.

    `output_gain` scales the last layer's first weights; 0.01 starts a policy near zero. `generator` draws the weights.
    `input_scale` multiplies the inputs, to bring quantities of different units to order one.
    """

    input_scale: Tensor  # [inputs]

    def __init__(
        self,
        inputs: int,
        hidden: Sequence[int],
        outputs: int,
        *,
        generator: torch.Generator,
        activation: Callable[[], nn.Module] = nn.Tanh,
        output_gain: float = 1.0,
        input_scale: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("input_scale", torch.tensor([1.0] * inputs if input_scale is None else list(input_scale)))
        widths = [inputs, *hidden, outputs]
        layers: list[nn.Module] = []
        for k, (before, after) in enumerate(pairwise(widths)):
            layer = nn.Linear(before, after)
            last = k == len(hidden)
            nn.init.orthogonal_(layer.weight, gain=output_gain if last else 2.0**0.5, generator=generator)
            nn.init.zeros_(layer.bias)
            layers += [layer] if last else [layer, activation()]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x * self.input_scale)  # type: ignore[no-any-return]


class LinearInFeatures(nn.Module):
    """f(x) = features(x) @ theta, starting at zero: [..., d] -> [...] for a vector theta, [..., m] for a matrix."""

    def __init__(self, features: Callable[[Tensor], Tensor], *shape: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.features = features
        self.theta = nn.Parameter(torch.zeros(shape, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x) @ self.theta


class Scalar(nn.Module):
    """A network's single output as a number per row: [..., d] -> [...]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x).squeeze(-1)  # type: ignore[no-any-return]
