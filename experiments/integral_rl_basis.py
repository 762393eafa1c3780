"""What the basis leaves: errors of value and policy against the number of parameters, monomials beside networks.

V* of these two systems is no polynomial. The quadrature is exact to rounding here, so the error is the basis' alone,
and any effort to integrate better is wasted.

rlcore run integral_rl_basis quick
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from rlcore.agents.integral_rl import (
    IntegralRl,
    IntegralRlConfig,
    KnownParts,
    NeuralIntegralRl,
    NeuralIntegralRlConfig,
    OwnNodes,
)
from rlcore.envs.affine import ControlAffine, CubicDecay, HyperbolicValue
from rlcore.errors import ConfigError
from rlcore.functional.bases import Monomials
from rlcore.functional.quadrature import IntegratedWiener, gauss_legendre
from rlcore.functional.saturation import excess_cost
from rlcore.nn.mlp import Mlp
from rlcore.nn.positive import PositiveDefinite
from rlcore.reporting.lines import Chart, Line, plot_charts
from rlcore.simulation.closed_loop import SmoothPaths
from rlcore.simulation.policy import Feedback
from rlcore.training.closed_loop_source import ClosedLoopSource
from rlcore.training.recorder import SILENT, Recorder


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    degrees: tuple[int, ...] = (2, 4, 6, 8, 10, 12)
    """Largest degree of the even monomials on the scalar system."""
    plane_degrees: tuple[int, ...] = (2, 4, 6)
    """The same on the system with two states."""
    widths: tuple[int, ...] = (4, 8)
    """Hidden units of the networks."""
    plane_widths: tuple[int, ...] = (8, 16)
    """The same on the system with two states."""
    iterations: int = 8
    """Policy iterations of the networks; monomials take 10."""


PRESETS = {"quick": Config(), "paper": Config(widths=(2, 4, 8, 16), plane_widths=(4, 8, 16, 32))}


class Quality(NamedTuple):
    """How far a learned value and its policy are from the optimum."""

    parameters: int
    value: float  # sup of |V - V*| over the box
    action: float  # sup of |u - u*|
    cost: float  # excess cost along 10 s from the corners, as a share of V*


@dataclass(frozen=True, eq=False)
class Study:
    """One system: where its paths start, and how long they are watched."""

    env: ControlAffine
    starts: Tensor  # [S, n]
    window: float  # T [s]
    count: int

    @property
    def known(self) -> KnownParts:
        return KnownParts(self.env.state_cost, self.env.input_gain, self.env.control_weight)

    def source(self, nodes: int | Tensor) -> ClosedLoopSource:
        """Windows of the closed loop, exact to rounding."""
        paths = SmoothPaths(self.env.problem.velocity)
        return ClosedLoopSource(paths, self.starts, window=self.window, count=self.count, nodes=nodes)

    def judge(self, value: Callable[[Tensor], Tensor], act: Callable[[Tensor], Tensor], parameters: int) -> Quality:
        """Errors on a fine grid of the box [-1, 1]^n, and what the policy costs."""
        env, n = self.env, self.env.spec.state_dim
        axis = torch.linspace(-1.0, 1.0, 2001 if n == 1 else 41, dtype=torch.float64)
        x = torch.cartesian_prod(*[axis] * n).reshape(-1, n)
        rule = gauss_legendre(12)
        places = torch.cat([rule.times.new_zeros(1), rule.times, rule.times.new_ones(1)])
        corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * n).reshape(-1, n)
        paths = SmoothPaths(env.problem.velocity)
        path = ClosedLoopSource(paths, corners, window=0.5, count=20, nodes=places).next(Feedback(act))
        states, actions = path.states[:, 1:-1], path.actions[:, 1:-1]
        rate = excess_cost(actions, env.optimal_action(states), env.control_weight)
        return Quality(
            parameters,
            float((value(x) - env.optimal_value(x)).abs().max()),
            float((act(x) - env.optimal_action(x)).abs().max()),
            float((rate * rule.weights * 0.5).sum() / env.optimal_value(corners).sum()),
        )


def scalar() -> Study:
    """dx = (-x^3 + u) dt from 0.1, 0.2, ..., 1 and their negatives."""
    side = torch.linspace(0.1, 1.0, 10, dtype=torch.float64)
    return Study(CubicDecay(dtype=torch.float64), torch.cat([side, -side]).unsqueeze(1), 0.1, 30)


def plane() -> Study:
    """The system whose value holds cosh(x1), from a grid of the box."""
    axis = torch.linspace(-1.0, 1.0, 5, dtype=torch.float64)
    starts = torch.cartesian_prod(axis, axis)
    return Study(HyperbolicValue(dtype=torch.float64), starts[starts.abs().sum(1) > 0.0], 0.2, 12)


def monomials(study: Study, degree: int, nodes: int = 16) -> tuple[IntegralRl, Quality]:
    """Even monomials up to a degree, from V = |x|^2, by Gauss and Legendre's rule, whose error is rounding here."""
    n = study.env.spec.state_dim
    powers = [(k,) for k in range(2, degree + 1, 2)] if n == 1 else []
    powers = powers or [(k - j, j) for k in range(2, degree + 1, 2) for j in range(k + 1)]  # type: ignore[misc]
    first = torch.tensor([float(max(power) == 2 == sum(power)) for power in powers], dtype=torch.float64)
    rule = OwnNodes(gauss_legendre(nodes))
    agent = IntegralRl(Monomials(*powers), study.known, rule, first, IntegralRlConfig(least_decrease=-1e6))
    source = study.source(rule.places)
    for _ in range(10):
        agent.update(source.next(agent))
    return agent, study.judge(agent.value, agent.act, len(powers))


def network(study: Study, width: int, iterations: int, seed: int) -> tuple[NeuralIntegralRl, Quality]:
    """V = |psi(x) - psi(0)|^2 + epsilon |x|^2 with one hidden layer, from the policy of V = |x|^2 / 2."""
    if width < 1 or iterations < 1:
        raise ConfigError(f"widths and iterations must be at least 1, got {width} and {iterations}")
    n = study.env.spec.state_dim
    psi = Mlp(n, (width,), max(2, width // 2), generator=torch.Generator().manual_seed(seed))
    agent = NeuralIntegralRl(
        PositiveDefinite(psi),
        study.known,
        IntegratedWiener(3),
        NeuralIntegralRlConfig(),
        law=lambda x: study.known.improved_action(x, x),
    )
    source = study.source(9)
    for _ in range(iterations):
        agent.update(source.next(agent))
    with torch.no_grad():
        return agent, study.judge(agent.value, agent.act, sum(p.numel() for p in psi.parameters()))


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Both systems; returns the sup errors of the largest basis and of the largest network."""
    one, two = scalar(), plane()
    found: Mapping[str, list[Quality]] = {
        "scalar, monomials": [monomials(one, degree)[1] for degree in config.degrees],
        "scalar, networks": [network(one, width, config.iterations, seed)[1] for width in config.widths],
        "plane, monomials": [monomials(two, degree)[1] for degree in config.plane_degrees],
        "plane, networks": [network(two, width, config.iterations, seed)[1] for width in config.plane_widths],
    }
    for step, (name, rows) in enumerate(found.items(), 1):
        recorder.log(step, {f"eval/value_{name}": rows[-1].value, f"eval/cost_{name}": rows[-1].cost})
    figure = recorder.figure_path("integral_rl_basis")
    if figure is not None:
        titles = {"scalar": "f = -x^3, V* with asinh", "plane": "two states, V* with cosh"}
        plot_charts([chart(title, key, found) for key, title in titles.items()], figure)
    return recorder.finish(
        {f"eval/value_{name}": rows[-1].value for name, rows in found.items()}
        | {f"eval/action_{name}": rows[-1].action for name, rows in found.items()}
        | {f"eval/cost_{name}": rows[-1].cost for name, rows in found.items()}
    )


def chart(title: str, key: str, found: Mapping[str, list[Quality]]) -> Chart:
    """Sup errors of value and policy against parameters."""
    lines = []
    for family in ("monomials", "networks"):
        rows = found[f"{key}, {family}"]
        for field in ("value", "action"):
            lines.append(Line(f"{field}, {family}", [r.parameters for r in rows], [getattr(r, field) for r in rows]))
    return Chart(title, "largest error over the box [-1, 1]^n", "parameters", "|V - V*|, |u - u*|", lines)
