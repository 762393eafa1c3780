"""Euler-Maruyama of dX = -X dt + 0.5 dW in four dimensions, 100 steps of 0.1 s, ten kept: torchsde in good form.

torchsde's Brownian motion is `BrownianInterval(dt=...)` or `BrownianPath`. On [0, 1] with dt = 0.01 and the default one
it falls into a linear search (google-research/torchsde issue 109), which would flatter whoever is beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

DIM, STEPS, DT, KEPT, RATE, SIGMA = 4, 100, 0.1, 10, 1.0, 0.5


def in_torchsde(batch: int, motion: str) -> Callable[[], int]:
    """`sdeint` with its Euler method for Ito's integral."""
    import torch
    import torchsde

    torch.set_num_threads(1)

    class Linear(torch.nn.Module):
        noise_type, sde_type = "diagonal", "ito"

        def f(self, t: Any, x: Any) -> Any:
            return -RATE * x

        def g(self, t: Any, x: Any) -> Any:
            return torch.full_like(x, SIGMA)

    sde, start = Linear(), torch.zeros(batch, DIM)
    times = torch.linspace(0.0, STEPS * DT, KEPT + 1)

    def brownian() -> Any:
        if motion == "path":
            return torchsde.BrownianPath(t0=0.0, w0=torch.zeros(batch, DIM))
        return torchsde.BrownianInterval(t0=0.0, t1=STEPS * DT, size=(batch, DIM), dt=DT)

    @torch.no_grad()
    def work() -> int:
        torchsde.sdeint(sde, start, times, bm=brownian(), method="euler", dt=DT)
        return batch * STEPS

    return work


WORKLOADS = {
    "interval": lambda batch: in_torchsde(batch, "interval"),
    "path": lambda batch: in_torchsde(batch, "path"),
}
LIBRARIES = {"interval": ("torchsde", "torch"), "path": ("torchsde", "torch")}
