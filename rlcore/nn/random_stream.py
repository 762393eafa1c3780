"""Random numbers that belong to a module: their generator is saved and restored with its parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from rlcore.parallel import world


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
        """Standard normals [..., N, m]."""
        return self._drawn(torch.randn, shape, like)

    def uniform(self, *shape: int, like: Tensor) -> Tensor:
        """Uniform in [-1, 1), [..., N, m]."""
        return self._drawn(torch.rand, shape, like).mul_(2.0).sub_(1.0)

    def _drawn(self, draw: Callable[..., Tensor], shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Among several processes, this one's rows of what one process would draw for the rows of all."""
        here = world()
        every = (*shape[:-2], shape[-2] * here.size, shape[-1])
        drawn = draw(every, generator=self.on(like.device), device=like.device, dtype=like.dtype)
        return here.own(drawn, -2).contiguous()

    def get_extra_state(self) -> dict[str, Any]:
        return {"device": str(self.generator.device), "state": self.generator.get_state()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.generator = torch.Generator(state["device"])
        self.generator.set_state(state["state"].cpu())
