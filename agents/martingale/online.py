"""What the online agents share: steps of stochastic approximation in physical time, and a clear end when they diverge.

    parameters += rate interval l(t) (sum_k xi_k delta_k) / (sum_k dt_k)

A rate is per second, so it stays when dt changes; sums over the B paths of a batch are averages over paths.
Source: Jia and Zhou, JMLR 23 (2022) 275, section 5, for the form and the schedule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from rlcore.errors import ConfigError, NumericsError
from rlcore.nn.gradients import per_sample_gradient

EXPLODED = 1e8  # mean size of the residual, reward per second: beyond it nothing is learned


def check_clip(gradient_clip: float) -> None:
    """Raise unless the bound is positive."""
    if math.isnan(gradient_clip) or gradient_clip <= 0:
        raise ConfigError(f"gradient_clip must be positive, got {gradient_clip}; inf does not clip")


def rated_optimizer(
    optimizer: Callable[[Any], Optimizer], groups: Iterable[tuple[Sequence[nn.Parameter], float]]
) -> Optimizer:
    """An optimiser with one rate per second for each group of parameters; empty groups are left out."""
    return optimizer([{"params": list(p), "lr": rate, "rate": rate} for p, rate in groups if p])


def named(module: nn.Module, name: str) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The parameters of a module that are called `name`, and the others."""
    chosen = [p for key, p in module.named_parameters() if key == name]
    return chosen, [p for key, p in module.named_parameters() if key != name]


def climb(optimizer: Optimizer, objective: Tensor, seconds_per_step: float, gradient_clip: float) -> None:
    """One step up the gradient of `objective` (per second), of length rate times `seconds_per_step`."""
    for group in optimizer.param_groups:
        group["lr"] = group["rate"] * seconds_per_step
    optimizer.zero_grad()
    (-objective).backward()  # type: ignore[no-untyped-call]
    if gradient_clip < math.inf:
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], gradient_clip)
    optimizer.step()


def check_alive(name: str, delta: Tensor, seconds: Tensor, elapsed: Tensor, why: Callable[[], str]) -> None:
    """Raise a `NumericsError` when the residuals are no longer numbers, or are beyond all bounds."""
    size = float(delta.abs().sum() / seconds)
    if not size < EXPLODED:
        raise NumericsError(
            f"{name} diverged after {float(elapsed):.6g} s per path: the mean residual must stay below "
            f"{EXPLODED:.0e} per second, got {size:.3g}; {why()}"
        )


class TestFunctionShare(nn.Module):
    """The largest share that one row has in the running sum of xi^2, over the components of xi = w dJ/dtheta.

    It falls like 1 / n only if E xi^2 is finite. With tails P(xi^2 > s) ~ s^-p and p < 1 it does not fall at all, and
    stochastic approximation diverges. For J linear in its parameters it is a property of the data alone.
    """

    __test__ = False  # pytest takes names that begin with Test for test cases

    largest: Tensor  # [p]
    total: Tensor  # [p]
    rows: Tensor  # []

    def __init__(self, value: nn.Module) -> None:
        super().__init__()
        size = sum(parameter.numel() for parameter in value.parameters())
        for name, shape in (("largest", (size,)), ("total", (size,)), ("rows", ())):
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))

    def see(self, value: nn.Module, obs: Tensor, weight: Tensor | float) -> None:  # J, [*, d], [*]
        """Count the rows of a batch."""
        gradient = per_sample_gradient(value, obs).double()  # [*, p]
        scale = weight.unsqueeze(-1) if isinstance(weight, Tensor) else weight
        squares = ((scale * gradient) ** 2).flatten(0, -2)  # [N, p]
        self.largest.copy_(torch.maximum(self.largest, squares.amax(0)))
        self.total += squares.sum(0)
        self.rows += len(squares)

    @property
    def share(self) -> Tensor:  # []
        return (self.largest / self.total.clamp(min=torch.finfo(torch.float64).tiny)).max()

    @property
    def heavy(self) -> bool:
        """Whether one row weighs more than n^(-1/3) of the sum: for light tails it weighs about 1 / n."""
        return float(self.rows) > 1000 and float(self.share) > float(self.rows) ** (-1.0 / 3.0)
