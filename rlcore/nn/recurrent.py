"""Recurrent cells of S independent runs: GRU and LSTM layers, one step at a time, with the memory as one vector.

GRU:   r, z = sigma(W x + U h);  n = tanh(W_n x + r (U_n h));  h' = (1 - z) n + z h
LSTM:  i, f, o = sigma(W x + U h);  c' = f c + i tanh(W_c x + U_c h);  h' = o tanh(c')

Source: Cho et al., EMNLP 2014, with the reset gate after the product, as in PyTorch; Hochreiter and Schmidhuber, 1997.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from rlcore.errors import ConfigError
from rlcore.nn.ensemble import StackedLinear

Cell = Literal["gru", "lstm"]
GATES = {"gru": 3, "lstm": 4}


class RecurrentLayers(nn.Module):
    """Layers of one width on top of each other: [S, N, inputs], memory [S, N, M] -> output [S, N, width], memory.

    The memory of a layer is h for a GRU and h, c for an LSTM; `memory` is M, that of all layers.
    """

    def __init__(
        self, cell: Cell, seeds: int, inputs: int, width: int, layers: int, *, generator: torch.Generator
    ) -> None:
        super().__init__()
        if cell not in GATES:
            raise ConfigError(f"cell must be gru or lstm, got {cell!r}")
        self.cell, self.width = cell, width
        self.each = width if cell == "gru" else 2 * width
        self.memory = layers * self.each
        gates = GATES[cell] * width
        self.inward, self.recurrent = nn.ModuleList(), nn.ModuleList()
        for k in range(layers):
            self.inward.append(StackedLinear(seeds, inputs if k == 0 else width, gates, 1.0, generator=generator))
            self.recurrent.append(StackedLinear(seeds, width, gates, 1.0, generator=generator))

    def forward(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        kept = []
        parts = torch.split(memory, self.each, -1)
        for inward, recurrent, before in zip(self.inward, self.recurrent, parts, strict=True):
            h = before[..., : self.width]
            given, own = inward(x), recurrent(h)
            if self.cell == "gru":
                (r, z, n), (own_r, own_z, own_n) = given.chunk(3, -1), own.chunk(3, -1)
                z = torch.sigmoid(z + own_z)
                n = torch.tanh(n + torch.sigmoid(r + own_r) * own_n)
                x = n + z * (h - n)
                kept.append(x)
            else:
                i, f, g, o = (given + own).chunk(4, -1)
                c = torch.sigmoid(f + 1.0) * before[..., self.width :] + torch.sigmoid(i) * torch.tanh(g)  # keeps first
                x = torch.sigmoid(o) * torch.tanh(c)
                kept += [x, c]
        return x, torch.cat(kept, -1)
