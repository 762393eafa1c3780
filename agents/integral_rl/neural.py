"""Integral RL with a neural value function, weighted by the error bar of every window.

    min over theta of  sum_j (V(x_j) - e^{-beta T} V(x_j+) - I_j)^2 / s_j^2,   s_j^2 = sd_j^2 + (tolerance I_j)^2
    u+ = -1/2 R^-1 g'grad V

sd_j is the standard deviation of I_j by Bayesian quadrature; `tolerance` is the relative misfit that the network may
leave, without which the windows that are known best would count alone. The minimum is found by Gauss and Newton's
method with Levenberg and Marquardt's damping, in float64. Where V is linear in theta one undamped step is the linear
policy evaluation, so the same iteration results.
Source: Cao and Pan, ICLR 2024, for the equation; Marquardt, SIAM Journal 11, 1963, for the damping.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad

from rlcore.agents.integral_rl.agent import only_finite
from rlcore.agents.integral_rl.improvement import KnownParts
from rlcore.checks import check_integer, check_map, check_not_negative, check_positive
from rlcore.data import Windows
from rlcore.errors import ConfigError, NumericsError, ShapeError
from rlcore.functional.bases import StateMap
from rlcore.functional.quadrature import Rule
from rlcore.nn.gradients import per_sample_gradient
from rlcore.nn.graphs import Compiled, made
from rlcore.nn.steps import Named
from rlcore.training.agent import Agent, Metrics

LARGEST_DAMPING = 1e8


@dataclass(frozen=True)
class NeuralIntegralRlConfig:
    """Settings of `NeuralIntegralRl`."""

    discount_rate: float = 0.0
    """beta [1/s]."""
    tolerance: float = 1e-3
    """Relative misfit of a window that counts as much as its standard deviation."""
    least_decrease: float = 0.1
    """Under a new policy the former V must fall over every window by this share of its cost; exact: at least 1."""
    steps: int = 40
    """Largest number of Gauss-Newton steps in an update."""
    damping: float = 1e-3
    """First damping, as a share of the diagonal of the curvature."""
    stop: float = 1e-3
    """An update ends at a step that lowers the sum of squares by less than this share."""
    compiled: Compiled = False
    """Whether a step is two graphs of `torch.compile`: up to a minute once, then faster; equal to rounding only.
    'graph' records them on a GPU."""


@final
class NeuralIntegralRl(Agent[Windows]):
    """On-policy integral RL with V any differentiable module, [..., n] -> [...], float64.

    The first policy is `law`, or the best action against the module as it comes. An update evaluates the policy that
    made the windows and improves it. `PositiveDefinite` is the head to take: V > 0 then holds by construction, and what
    is left to watch is the misfit, `train/misfit` in units of s_j.
    """

    improvements: Tensor  # int64 []

    def __init__(
        self,
        value: nn.Module,
        known: KnownParts,
        rule: Rule,
        config: NeuralIntegralRlConfig = NeuralIntegralRlConfig(),
        *,
        law: StateMap | None = None,
    ) -> None:
        super().__init__()
        check_not_negative("discount_rate", config.discount_rate, "1/s")
        for name in ("tolerance", "damping", "stop"):
            check_positive(name, getattr(config, name))
        check_integer("steps", config.steps)
        if config.steps < 1:
            raise ConfigError(f"steps must be at least 1, got {config.steps}")
        self.network = value.double()
        self.known, self.rule, self.config, self.law = known, rule, config, law
        self.register_buffer("improvements", torch.zeros((), dtype=torch.int64))
        self.linearise: Callable[..., LinearModel] = made(self.linear_model, (), config.compiled)
        self.attempt: Callable[..., tuple[Named, Tensor]] = made(self.moved_by, (), config.compiled)

    def value(self, x: Tensor) -> Tensor:  # [..., n] -> [...]
        """V(x), a cost."""
        found: Tensor = self.network(x)
        return found

    def slope(self, x: Tensor) -> Tensor:  # [..., n] -> [..., n]
        """grad V."""
        found: Tensor = grad(lambda states: self.network(states).sum())(x)
        return found

    @torch.no_grad()
    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        if self.law is not None and int(self.improvements) == 0:
            return self.law(obs)
        x = obs.double()
        return self.known.improved_action(x, self.slope(x)).to(obs.dtype)

    @torch.no_grad()
    def update(self, batch: Windows) -> Metrics:
        self.check(batch)
        windows, finite = only_finite(batch.to(dtype=torch.float64), 0)
        if not bool(finite):
            raise NumericsError(
                f"update {int(self.improvements) + 1}: the policy must keep the state finite, but a path left for "
                "infinity; start from a stabilising policy and from more states, or lower the tolerance"
            )
        beta = self.config.discount_rate
        utility = self.known.utility(windows.states, windows.actions) * torch.exp(-beta * windows.elapsed)
        quadrature = self.rule.at(windows.elapsed)
        integral, deviation = quadrature.integral(utility), quadrature.deviation(utility)
        rows = Rows(
            windows.states[:, 0],
            windows.states[:, -1],
            torch.exp(-beta * windows.length),
            integral,
            (deviation.square() + (self.config.tolerance * integral).square()).sqrt(),
        )
        if int(self.improvements) > 0:
            self.check_decrease(rows)
        misfit, steps = self.fit(rows)
        self.improvements += 1
        return {
            "train/misfit": misfit,
            "train/steps": float(steps),
            "train/spread": (deviation / integral.abs()).max(),
            "train/window_deviation": deviation.max(),
        }

    def check(self, windows: Windows) -> None:
        """Raise `ShapeError` unless windows, network and known parts fit each other."""
        m = self.known.control_weight.shape[-1]
        if windows.states.ndim != 3 or windows.actions.shape[-1] != m:
            raise ShapeError(
                f"need windows of one problem, states [W, N, n] and actions [W, N, {m}], got "
                f"{list(windows.states.shape)} and {list(windows.actions.shape)}; gather all windows in W"
            )
        x = windows.states[:1, :1].double()
        check_map("the network", self.network, x, (1, 1))
        check_map("state_cost", self.known.state_cost, x, (1, 1))
        check_map("input_gain", self.known.input_gain, x, (1, 1, x.shape[-1], m))

    def check_decrease(self, rows: Rows) -> None:
        """Raise unless V falls over the windows of the policy improved from it, by their cost at least if exact."""
        missing = rows.residual(self.network) * rows.scale
        share = 1.0 + float((missing / torch.maximum(rows.integral, rows.integral.mean())).min())
        if not share >= self.config.least_decrease:
            raise NumericsError(
                f"update {int(self.improvements) + 1}: under the improved policy V must fall over every window by what "
                f"the window costs, but it fell by {share:.3g} times that; sample more states, or a larger network"
            )

    def fit(self, rows: Rows) -> tuple[Tensor, int]:
        """Levenberg and Marquardt's method; the root mean square of the residuals, and the steps that it took."""
        damping, parameters = self.config.damping, dict(self.network.named_parameters())
        for step in range(1, self.config.steps + 1):
            at = self.linearise({name: p.detach() for name, p in parameters.items()}, rows)
            if step == 1 and not bool(at.usable):
                raise NumericsError(
                    "V at the ends of the windows must depend on the parameters, and smoothly, but its derivatives are "
                    "all 0 or not finite; take another network or other first weights"
                )
            while True:
                moved, cost = self.attempt({name: p.detach() for name, p in parameters.items()}, rows, at.step(damping))
                if bool(cost < at.cost):
                    break
                damping *= 4.0
                if damping > LARGEST_DAMPING:  # rounding is all that is left to gain
                    return at.cost.sqrt(), step
            for name, p in parameters.items():
                p.copy_(moved[name])
            if float(cost) > (1.0 - self.config.stop) * float(at.cost):
                break
            damping = max(damping / 8.0, 1e-12)
        return cost.sqrt(), step

    def linear_model(self, parameters: Named, rows: Rows) -> LinearModel:
        """The residuals' mean square at the parameters, with what a step needs of their derivatives."""
        residual, jacobian = rows.residual(self.network, parameters), rows.jacobian(self.network, parameters)
        curvature, slope = jacobian.mT @ jacobian / len(residual), jacobian.mT @ residual / len(residual)
        usable = (jacobian.abs().amax() > 0.0) & jacobian.isfinite().all()
        return LinearModel(residual.square().mean(), curvature, slope, usable)

    def moved_by(self, parameters: Named, rows: Rows, move: Tensor) -> tuple[Named, Tensor]:
        """Where a step [p] leads, and the residuals' mean square there []."""
        parts = torch.split(move, [p.numel() for p in parameters.values()])
        moved = {name: p + part.view_as(p) for (name, p), part in zip(parameters.items(), parts, strict=True)}
        return moved, rows.residual(self.network, moved).square().mean()


class LinearModel(NamedTuple):
    """The sum of squares near some parameters."""

    cost: Tensor  # mean square of the residuals []
    curvature: Tensor  # J'J / W [p, p]
    slope: Tensor  # J'r / W [p]
    usable: Tensor  # bool [], whether J is finite and not 0

    def step(self, damping: float) -> Tensor:  # -> [p]
        """-(J'J + damping D)^-1 J'r, D the diagonal of J'J; not finite where that is singular."""
        size = self.curvature.diagonal()
        size = torch.maximum(size, 1e-6 * size.max())
        found: Tensor = torch.linalg.solve_ex(self.curvature + damping * torch.diag(size), -self.slope)[0]
        return found


class Rows(NamedTuple):
    """The windows as equations for V."""

    start: Tensor  # [W, n]
    end: Tensor  # [W, n]
    keep: Tensor  # e^{-beta T} []
    integral: Tensor  # I_j [W]
    scale: Tensor  # s_j [W]

    def residual(self, value: nn.Module, parameters: Named | None = None) -> Tensor:  # -> [W]
        """(V(x_j) - e^{-beta T} V(x_j+) - I_j) / s_j, with other parameters if they are given."""
        first, last = (functional_call(value, parameters or {}, (x,)) for x in (self.start, self.end))
        found: Tensor = (first - self.keep * last - self.integral) / self.scale
        return found

    def jacobian(self, value: nn.Module, parameters: Named) -> Tensor:  # -> [W, p]
        """Its derivatives by the parameters."""
        first, last = (per_sample_gradient(value, x, parameters) for x in (self.start, self.end))
        return (first - self.keep * last) / self.scale.unsqueeze(1)
