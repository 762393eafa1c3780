"""Named random streams from one seed, for what happens outside the hot loop (initial weights, replay draws, ...).

Inside the hot loop noise is counter-based and needs no saved state: see `rlcore.simulation.noise`.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def derive_seed(seed: int, name: str) -> int:
    """A 63-bit seed that belongs to (seed, name); different names give unrelated streams."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


class Streams:
    """`torch.Generator`s by name, made on first use, saved and restored together.

    >>> streams = Streams(seed=0)
    >>> torch.randint(10, (3,), generator=streams["replay"]).shape
    torch.Size([3])
    """

    def __init__(self, seed: int, device: str | torch.device = "cpu") -> None:
        self.seed = seed
        self.device = torch.device(device)
        self._generators: dict[str, torch.Generator] = {}

    def __getitem__(self, name: str) -> torch.Generator:
        if name not in self._generators:
            self._generators[name] = torch.Generator(self.device).manual_seed(derive_seed(self.seed, name))
        return self._generators[name]

    def state_dict(self) -> dict[str, Tensor]:
        return {name: generator.get_state() for name, generator in self._generators.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for name, value in state.items():
            self[name].set_state(value.cpu())
