"""Off-policy integral RL, drift and input gain unknown: errors with their bounds, and a start from an unstable system.

rlcore run integral_rl_off_policy quick
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from rlcore.agents.integral_rl import OffPolicyIntegralRl
from rlcore.envs.affine import ControlAffine, LinearRegulator, SineSystem, ThirdOrderLinear
from rlcore.experiments.integral_rl_tasks import RULES, STARTS
from rlcore.functional.bases import quadratic
from rlcore.functional.quadrature import IntegratedWiener, Rule
from rlcore.reporting.lines import Chart, Line, plot_charts
from rlcore.training.excited_source import ExcitedSource
from rlcore.training.recorder import SILENT, Recorder

FREQUENCIES = (0.7, 1.9, 3.1, 4.7, 6.1, 7.3)  # rad / s
SHOWN = ("trapezoid", "Simpson", "Matern-7/2, l = 0.3", "Matern-7/2, l = 10 T", "IWP3")


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    nodes: tuple[int, ...] = (5, 9, 17, 33)
    """Even nodes per window, both ends among them."""
    window: float = 0.1
    """Length of a window [s]."""
    count: int = 60
    """Windows, one after the other on one path."""


PRESETS = {"quick": Config(), "paper": Config(nodes=(5, 7, 9, 13, 17, 25, 33, 49, 65))}


def identity(x: Tensor) -> Tensor:
    """Actor features of a linear policy."""
    return x


def sine_features(x: Tensor) -> Tensor:  # [..., 2] -> [..., 4]
    """Actor features of the sine system: those of u*, and the state, which u* does not need."""
    return torch.cat([torch.sin(x[..., :1]) * x, x], dim=-1)


def excited(env: ControlAffine, starts: Tensor, *, window: float, count: int, nodes: int) -> ExcitedSource:
    """Windows of an environment under its policy and six sinusoids."""
    return ExcitedSource(
        env.problem.velocity, env.spec.action_dim, starts, FREQUENCIES, window=window, count=count, nodes=nodes
    )


def learn_linear(env: LinearRegulator, source: ExcitedSource, rule: Rule, first: Tensor | None) -> OffPolicyIntegralRl:
    """u = F x and V = x'P x of a linear regulator; `first` None: value iteration finds one."""
    n = env.spec.state_dim
    agent = OffPolicyIntegralRl(n, quadratic(n), identity, env.state_cost, env.control_weight, rule, first)
    agent.update(source.next(agent))
    return agent


def gain_error(name: str, *, window: float, count: int, nodes: int) -> tuple[float, float]:
    """|K - K*| on the third-order system from u = 0, and its bound (nan for a rule without a prior)."""
    env = ThirdOrderLinear(dtype=torch.float64)
    start = torch.tensor(STARTS[3][:1], dtype=torch.float64)
    source = excited(env, start, window=window, count=count, nodes=nodes)
    agent = learn_linear(env, source, RULES[name](window), torch.zeros(1, 3, dtype=torch.float64))
    return float((agent.policy + env.optimal_gain).norm()), float(agent.policy_bound.norm())


def pendulum_error(nodes: int, window: float) -> tuple[float, float]:
    """The same on an inverted pendulum near upright, where no stabilising gain is given: value iteration starts."""
    env = LinearRegulator(
        ((0.0, 1.0), (9.81, -0.1)), ((0.0,), (1.0,)), ((1.0, 0.0), (0.0, 1.0)), ((1.0,),), dtype=torch.float64
    )
    starts = torch.tensor([[0.1, 0.0], [0.0, 0.1], [-0.1, 0.1]], dtype=torch.float64)
    source = excited(env, starts, window=window, count=10, nodes=nodes)
    agent = learn_linear(env, source, IntegratedWiener(3), None)
    return float((agent.policy + env.optimal_gain).norm()), float(agent.policy_bound.norm())


def sine_error(nodes: int, window: float) -> tuple[float, float]:
    """|(w, F) - (w*, F*)| on the sine system, by integrated Wiener quadrature, and its bound."""
    env = SineSystem(dtype=torch.float64)
    first = torch.tensor([[-1.5, -1.5, 0.0, 0.0]], dtype=torch.float64)
    rule = IntegratedWiener(3)
    agent = OffPolicyIntegralRl(2, env.features, sine_features, env.state_cost, env.control_weight, rule, first)
    source = excited(env, torch.tensor(STARTS[2], dtype=torch.float64), window=window, count=20, nodes=nodes)
    agent.update(source.next(agent))
    best = torch.cat([env.optimal_weights, torch.tensor([0.0, -1.0, 0.0, 0.0], dtype=torch.float64)])
    found = torch.cat([agent.weights, agent.policy[0]])
    bound = torch.cat([agent.weight_bound, agent.policy_bound[0]])
    return float((found - best).norm()), float(bound.norm())


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Every rule on the linear system, one on the sine system and on the pendulum; returns the last errors."""
    linear = {
        name: [gain_error(name, window=config.window, count=config.count, nodes=N) for N in config.nodes]
        for name in SHOWN
    }
    other = {
        "sine system": [sine_error(N, config.window) for N in config.nodes],
        "pendulum, no first gain": [pendulum_error(N, config.window) for N in config.nodes],
    }
    for step, N in enumerate(config.nodes, 1):
        errors = {f"eval/error_{name}": found[step - 1][0] for name, found in (linear | other).items()}
        recorder.log(step, {"eval/nodes": N} | errors)
    figure = recorder.figure_path("integral_rl_off_policy")
    if figure is not None:
        about = f"{config.count} windows of {config.window:g} s, six sinusoids, from u = 0"
        plot_charts(
            [
                Chart("Third-order system: error of the gain", about, "nodes", "|K - K*|", lines(config, linear)),
                Chart(
                    "Integrated Wiener 3: error and bound", "", "nodes", "error of all weights", bounds(config, other)
                ),
            ],
            figure,
        )
    covered = [error / bound for found in (linear | other).values() for error, bound in found if bound == bound]
    return recorder.finish(
        {f"eval/error_{name}": found[-1][0] for name, found in (linear | other).items()}
        | {"eval/largest_error_over_bound": max(covered)}
    )


def lines(config: Config, found: Mapping[str, list[tuple[float, float]]]) -> list[Line]:
    """The errors."""
    return [Line(name, config.nodes, [error for error, _ in pairs]) for name, pairs in found.items()]


def bounds(config: Config, found: Mapping[str, list[tuple[float, float]]]) -> list[Line]:
    """The errors, each with its bound as a thin line."""
    thin = [
        Line(f"its bound, {name}", config.nodes, [bound for _, bound in pairs], theory=True)
        for name, pairs in found.items()
    ]
    return lines(config, found) + thin
