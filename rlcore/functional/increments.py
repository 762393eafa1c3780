"""How the increments of the martingale are read off a sampled path: every rule is linear in the value function.

    delta_k = change_k(J) + earned_k - running_k dt_k

`running` is what the martingale subtracts per second beyond discounting: the average reward, or q(X, a). A rule takes
any function of the observation, features included, so that linear solvers and gradients share it.

| rule          | change                                         | earned                         | order in dt |
|---------------|------------------------------------------------|--------------------------------|-------------|
| `Left`        | J' - J - beta J dt                             | r dt                           | 1           |
| `Exponential` | exp(-beta dt) J' - J                           | r dt                           | 1           |
| `Trapezoid`   | exp(-beta dt) J' - J                           | (r + exp(-beta dt) r') dt / 2  | 2           |
| `PhiBe`       | (b . grad J + Sigma : hess J / 2 - beta J) dt  | r dt                           | its own     |

In `PhiBe`, b and Sigma are differences of the path over one or two steps.
Sources: Jia and Zhou, JMLR 23 (154), 2022; Zhu, "PhiBE", arXiv 2405.12535, for the last.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rlcore.checks import check_not_negative
from rlcore.data import Trajectory
from rlcore.errors import ConfigError, NumericsError

Function = Callable[[Tensor], Tensor]  # [..., d] -> [...] or [..., p]


def per_step(weight: Tensor, values: Tensor) -> Tensor:
    """A weight [K], [K, 1] or [K, B] shaped so that it multiplies values [K, B] or [K, B, p]."""
    weight = weight.unsqueeze(1) if weight.dim() == 1 else weight
    return weight.reshape(weight.shape + (1,) * (values.dim() - 2)).to(values.dtype)


@dataclass(frozen=True)
class Increments(ABC):
    """A rule for the increments."""

    discount_rate: float = 0.0
    """beta [1/s]."""
    endless: bool = field(default=False, kw_only=True)
    """It is known that no path ends, so nothing is masked; for compiled code, which cannot look."""

    def __post_init__(self) -> None:
        check_not_negative("discount_rate", self.discount_rate, "1/s")

    @abstractmethod
    def change(self, function: Function, batch: Trajectory) -> Tensor:  # -> [K, B] or [K, B, p]
        """The part that is linear in the function; 0 is taken for it where the path has ended."""

    def ends(self, values: Tensor, batch: Trajectory) -> tuple[Tensor, Tensor]:  # [K+1, ...] -> 2 [K, ...]
        """A function at both ends of every step, 0 at the right one of an ended path."""
        before, after = values[:-1], values[1:]
        if self.endless or not (torch.compiler.is_compiling() or bool(batch.terminated.any())):
            return before, after  # a pass over the memory is saved
        return before, after * per_step(~batch.terminated, after)

    def earned(self, batch: Trajectory) -> Tensor:  # -> [K, B]
        """The reward of each step."""
        return batch.reward

    def usable(self, batch: Trajectory) -> Tensor:  # -> bool [K, B]
        """The steps whose increment the rule can form: those that started alive, unless the rule looks further."""
        return batch.alive

    def decay(self, batch: Trajectory) -> Tensor:  # -> [K]
        """exp(-beta dt)."""
        return torch.exp(-self.discount_rate * batch.dt)


def check_times(batch: Trajectory) -> None:
    """Raise unless time grows from each observation to the next, by dt; the distances may differ."""
    if not bool((batch.dt > 0).all()):
        k = int((~(batch.dt > 0)).nonzero()[0])
        raise NumericsError(
            f"time stamps must grow, got {float(batch.t[k]):g} s and {float(batch.t[k + 1]):g} s at steps {k} and "
            f"{k + 1}; drop repeated rows and sort by time"
        )
    apart = (batch.t.diff() / batch.dt - 1.0).abs()
    if not bool((apart < 1e-3).all()):
        k = int(apart.argmax())
        raise NumericsError(
            f"dt must be the difference of the time stamps, got dt = {float(batch.dt[k]):g} s and stamps "
            f"{float(batch.t[k]):g} s and {float(batch.t[k + 1]):g} s at step {k}; set dt = t.diff()"
        )


@dataclass(frozen=True)
class Left(Increments):
    """Everything at the left end, as in the papers."""

    def change(self, function: Function, batch: Trajectory) -> Tensor:
        before, after = self.ends(function(batch.obs), batch)
        return after - before * per_step(1.0 + self.discount_rate * batch.dt, before)


@dataclass(frozen=True)
class Exponential(Increments):
    """Discounted exactly over the step; the reward still at the left end."""

    def change(self, function: Function, batch: Trajectory) -> Tensor:
        before, after = self.ends(function(batch.obs), batch)
        return after * per_step(self.decay(batch), after) - before

    def earned(self, batch: Trajectory) -> Tensor:
        decay = self.decay(batch).unsqueeze(1).to(batch.reward.dtype)
        return torch.where(batch.terminated, decay * batch.reward, batch.reward)  # a terminal reward comes at the end


@dataclass(frozen=True)
class Trapezoid(Exponential):
    """Discounted exactly, the reward rate averaged over both ends: one order more for nothing.

    The rate at the right end is that of the next step, so the last step of a path that goes on is left out. A step that
    ends a path holds the terminal reward, which comes at its right end; that step, and the one before it, keep the left
    rate, which is one local error of second order per path.
    """

    def earned(self, batch: Trajectory) -> Tensor:
        decay, dt = self.decay(batch).unsqueeze(1).to(batch.reward.dtype), batch.dt.unsqueeze(1).to(batch.reward.dtype)
        rate = batch.reward / dt
        following = torch.cat([rate[1:], rate[-1:]])
        ends_next = torch.cat([batch.terminated[1:], batch.terminated[-1:]])
        right = torch.where(ends_next, rate, following)
        return torch.where(batch.terminated, decay * batch.reward, 0.5 * dt * (rate + decay * right))

    def usable(self, batch: Trajectory) -> Tensor:
        last = torch.zeros_like(batch.terminated)
        last[-1] = ~batch.terminated[-1]
        return batch.alive & ~last


@dataclass(frozen=True)
class PhiBe(Increments):
    """The generator applied to J, with drift and covariance estimated from the path itself over `order` steps.

    Over the times s_1 < s_2 after t_k the weights w_j solve sum_j w_j f(s_j) = f'(0) for polynomials f of degree
    `order` with f(0) = 0; on a regular grid they are (1) and (2, -1/2), over dt. J is differentiated with respect to
    the observation, which must therefore be the state. It has no form for paths that end.
    """

    order: int = 1
    """1 or 2."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.order not in (1, 2):
            raise ConfigError(f"PhiBE is written for order 1 and 2, got {self.order}")

    def change(self, function: Function, batch: Trajectory) -> Tensor:
        obs, dt, order = batch.obs, batch.dt, self.order
        here = obs[:-1]
        if order == 1:
            moved = directional(function, here, obs[1:] - here)
        else:
            near, far = dt[:-1], dt[:-1] + dt[1:]
            first = far / (near * (far - near)) * near  # weights times dt: the rule is an increment
            second = -near / (far * (far - near)) * near
            one = directional(function, here[:-1], obs[1:-1] - here[:-1])
            two = directional(function, here[:-1], obs[2:] - here[:-1])
            moved = per_step(first, one) * one + per_step(second, two) * two
            moved = torch.cat([moved, torch.zeros_like(moved[:1])])  # the last step is not usable
        value = function(here)
        return moved - per_step(self.discount_rate * dt, value) * value

    def usable(self, batch: Trajectory) -> Tensor:
        if not (self.endless or torch.compiler.is_compiling()) and bool(batch.terminated.any()):
            raise ConfigError("PhiBE has no rule for paths that end; use Left or Trapezoid")
        usable = batch.alive.clone()
        if self.order == 2:
            usable[-1] = False
        return usable


def directional(function: Function, x: Tensor, v: Tensor) -> Tensor:  # [K, B, d], [K, B, d] -> [K, B, ...]
    """v . grad f + v' (hess f) v / 2, by forward differentiation along v alone."""

    def slope(y: Tensor) -> Tensor:
        found: Tensor = torch.func.jvp(function, (y,), (v,))[1]
        return found

    try:
        slopes: tuple[Tensor, Tensor] = torch.func.jvp(slope, (x,), (v,))[:2]
    except NotImplementedError as error:
        raise ConfigError(
            "PhiBE differentiates the value twice forward, which torch cannot do for one of its operations "
            f"({str(error).splitlines()[0]}); build the value of others, such as Tanh"
        ) from error
    return slopes[0] + 0.5 * slopes[1]
