"""Random numbers that belong to a module: their generator is saved and restored with its parameters."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class RandomStream(nn.Module):
    """A `torch.Generator` in a module's state, on the device of what is asked for."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.generator = torch.Generator().manual_seed(seed)

    def on(self, device: torch.device) -> torch.Generator:
        """The generator; it begins anew when the device changes."""
        if self.generator.device.type != device.type:
            self.generator = torch.Generator(device).manual_seed(self.seed)
        return self.generator

    def normal(self, *shape: int, like: Tensor) -> Tensor:
        """Standard normals."""
        return torch.randn(shape, generator=self.on(like.device), device=like.device, dtype=like.dtype)

    def uniform(self, *shape: int, like: Tensor) -> Tensor:
        """Uniform in [-1, 1)."""
        drawn = torch.rand(shape, generator=self.on(like.device), device=like.device, dtype=like.dtype)
        return drawn.mul_(2.0).sub_(1.0)

    def get_extra_state(self) -> dict[str, Any]:
        return {"device": str(self.generator.device), "state": self.generator.get_state()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.generator = torch.Generator(state["device"])
        self.generator.set_state(state["state"].cpu())
