"""The free pendulum theta'' = 15 sin(theta) by torchdiffeq, every state kept: fixed steps of order 4, and dopri5."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

STEPS, DT, PULL = 32, 0.05, 15.0


def solved(start: Any, method: str) -> Any:
    """States at all times [T, B, 2]."""
    import torch
    from torchdiffeq import odeint

    times = torch.linspace(0.0, STEPS * DT, STEPS + 1)

    def right(t: Any, x: Any) -> Any:
        return torch.stack([x[:, 1], PULL * torch.sin(x[:, 0])], 1)

    with torch.no_grad():
        if method == "rk4":
            return odeint(right, start, times, method="rk4")
        return odeint(right, start, times, method=method, rtol=1e-4, atol=1e-4)


def workload(batch: int, method: str) -> Callable[[], int]:
    """All paths to the end; a step is an interval between two times that are kept."""
    import torch

    torch.set_num_threads(1)
    start = torch.erf(torch.randn(batch, 2, generator=torch.Generator().manual_seed(0)))

    def work() -> int:
        solved(start, method)
        return batch * STEPS

    return work


def end(start: list[list[float]]) -> Any:
    """The last states from given ones."""
    import torch

    return solved(torch.tensor(start), "rk4")[-1].tolist()


WORKLOADS = {
    "rk4": lambda batch: workload(batch, "rk4"),
    "dopri5": lambda batch: workload(batch, "dopri5"),
}
CHECKS: dict[str, Callable[..., Any]] = {"rk4": end}
LIBRARIES = {"rk4": ("torchdiffeq", "torch"), "dopri5": ("torchdiffeq", "torch")}
