"""Steps of stochastic approximation in physical time, and a clear end when they diverge.

    parameters += rate interval l(t) (sum_k xi_k delta_k) / (sum_k dt_k)

A rate is per second, so it stays when dt changes; sums over the B paths of a batch are averages over paths.
Source: Jia and Zhou, JMLR 23 (2022) 275, section 5, for the form and the schedule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from rlcore.errors import ConfigError, NumericsError
from rlcore.parallel import world

EXPLODED = 1e8  # mean size of the residual, reward per second: beyond it nothing is learned
RUNAWAY = 100.0  # size of a state, in its own units, beyond which instability is thought of


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
    own = [p for group in optimizer.param_groups for p in group["params"]]
    optimizer.zero_grad()
    (-objective).backward(inputs=own)  # type: ignore[no-untyped-call]
    world().average_([p.grad for p in own if p.grad is not None])
    if gradient_clip < math.inf:
        nn.utils.clip_grad_norm_(own, gradient_clip)
    optimizer.step()


def seconds_of(dt: Tensor) -> Tensor:  # [*] s -> [] s
    """The physical time of a batch, or of a mean share of it; raises unless every row has some."""
    if not bool((dt > 0).all()):
        index = (~(dt > 0)).nonzero()[0].tolist()
        raise NumericsError(
            f"time stamps must grow: every row needs dt > 0, got {float(dt[tuple(index)]):g} s at index {index}; "
            "drop repeated rows and sort by time"
        )
    return world().mean(dt.sum())


def unbounded(obs: Tensor, discount_rate: float) -> str | None:
    """What to say of states that may run away where no discount makes up for it; None if they are small."""
    largest = float(obs.abs().max())
    if discount_rate or largest < RUNAWAY:
        return None
    return (
        f"the states reach {largest:.1e}: if they grow for ever, the policy does not stabilise the problem, and a "
        "reward per second needs one that does: start from such a policy or give a discount rate; else lower the rates"
    )


def is_alive(delta: Tensor, dt: Tensor, seconds: Tensor) -> Tensor:  # [*], [*], [] -> bool []
    """Whether time grows in every row, and the residuals are numbers within bounds."""
    return (dt > 0).all() & (world().mean(delta.abs().sum()) / seconds < EXPLODED)


def check_alive(name: str, delta: Tensor, seconds: Tensor, elapsed: Tensor | None, why: Callable[[], str]) -> None:
    """Raise a `NumericsError` when the residuals are no longer numbers, or are beyond all bounds."""
    size = float(world().mean(delta.abs().sum()) / seconds)
    if not size < EXPLODED:
        after = "" if elapsed is None else f" after {float(elapsed):.6g} s per path"
        raise NumericsError(
            f"{name} diverged{after}: the mean residual must stay below "
            f"{EXPLODED:.0e} per second, got {size:.3g}; {why()}"
        )
