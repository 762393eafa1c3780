"""Integral RL on every control-affine problem with a known optimum: rules by systems, and what the policy costs.

rlcore run integral_rl_benchmarks quick
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from rlcore.agents.integral_rl import IntegralRl, RefusalError, SideBySide
from rlcore.envs.affine import (
    ArctanSpring,
    ControlAffine,
    CosineInput,
    CubicDecay,
    CubicGrowth,
    F16ShortPeriod,
    HyperbolicValue,
    LoadFrequency,
    QuarticValue,
    SaturatedInput,
    SineSystem,
    ThirdOrderLinear,
    TwoInputs,
)
from rlcore.errors import unknown_name
from rlcore.experiments.integral_rl_tasks import Task, task
from rlcore.functional.bases import Basis, Monomials
from rlcore.functional.quadrature import IntegratedWiener, Matern, Rule, Simpson, gauss_legendre
from rlcore.functional.saturation import excess_cost
from rlcore.reporting.lines import Chart, Line, plot_charts
from rlcore.simulation.policy import Feedback
from rlcore.training.closed_loop_source import ClosedLoopSource
from rlcore.training.recorder import SILENT, Recorder


class Setting(NamedTuple):
    """How one system is sampled and what V is looked for in."""

    env: Callable[..., ControlAffine]
    window: float
    """T [s], short beside the fastest mode of the first policies."""
    radius: float
    """Initial states lie in [-radius, radius]^n."""
    powers: tuple[tuple[int, ...], ...] = ()
    """Monomials where V* has no finite basis; empty takes the environment's basis."""
    first: float = 0.0
    """Weight of every square in the first V, where there is no finite basis."""


EVEN = tuple((k,) for k in (2, 4, 6, 8, 10))
EVEN_PLANE = tuple((k - j, j) for k in (2, 4, 6) for j in range(k + 1))
SYSTEMS: Mapping[str, Setting] = {
    "ThirdOrderLinear": Setting(ThirdOrderLinear, 0.2, 3.0),
    "F16ShortPeriod": Setting(F16ShortPeriod, 0.5, 1.0),
    "LoadFrequency": Setting(LoadFrequency, 0.05, 0.5),
    "SineSystem": Setting(SineSystem, 0.3, 2.0),
    "CosineInput": Setting(CosineInput, 0.1, 1.5),
    "ArctanSpring": Setting(ArctanSpring, 0.1, 1.0),
    "CubicDecay": Setting(CubicDecay, 0.2, 1.0, EVEN, 1.0),
    "CubicGrowth": Setting(CubicGrowth, 0.2, 1.0, EVEN, 3.0),
    "QuarticValue": Setting(QuarticValue, 0.2, 1.0),
    "HyperbolicValue": Setting(HyperbolicValue, 0.2, 1.0, EVEN_PLANE, 0.5),
    "TwoInputs": Setting(TwoInputs, 0.2, 1.0),
    "SaturatedInput": Setting(SaturatedInput, 0.3, 2.0),
}
RULES: Mapping[str, Callable[[float], Rule]] = {
    "trapezoid": lambda window: IntegratedWiener(0),
    "Simpson": lambda window: Simpson(),
    "Matern-7/2, l = 10 T": lambda window: Matern(3, 10.0 * window),
    "IWP2": lambda window: IntegratedWiener(2),
    "IWP3": lambda window: IntegratedWiener(3),
}
COLUMNS = ("weights", "bound", "value", "action", "cost", "iterations", "condition")
PROBES = 2000


@dataclass(frozen=True)
class Config:
    """Settings of the table."""

    systems: tuple[str, ...] = tuple(SYSTEMS)
    """Names of environments."""
    nodes: tuple[int, ...] = (5, 9)
    """Even nodes in each window, both ends among them."""
    starts: int = 20
    """Initial states, drawn once."""
    windows: int = 3
    """Windows from each of them."""
    iterations: int = 12
    """Of policy iteration; a problem that stands still earlier says so in its column."""


PRESETS = {"quick": Config(), "paper": Config(nodes=(5, 9, 17, 33))}


def prepare(name: str, starts: int, seed: int) -> tuple[Task, Basis, Tensor]:
    """The task, the basis and the weights of the first policy."""
    setting = SYSTEMS[name]
    env = setting.env(dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    box = 2.0 * torch.rand(starts, env.spec.state_dim, generator=generator, dtype=torch.float64) - 1.0
    found = task(env, (setting.radius * box).tolist())
    if not setting.powers:
        return found, found.basis, env.admissible_weights
    squares = [setting.first * (max(power) == 2 == sum(power)) for power in setting.powers]
    return found, Monomials(*setting.powers), torch.tensor(squares, dtype=torch.float64)


def solve(name: str, nodes: int, config: Config, seed: int) -> Mapping[str, Tensor]:
    """Policy iteration with all rules side by side; every column of the table, [R]."""
    setting = SYSTEMS[name]
    found, basis, first = prepare(name, config.starts, seed)
    rules, R = SideBySide([rule(setting.window) for rule in RULES.values()]), len(RULES)
    agent = IntegralRl(basis, found.known, rules, first.expand(R, -1))
    starts = found.starts.expand(R, *found.starts.shape)
    source = ClosedLoopSource(found.paths, starts, window=setting.window, count=config.windows, nodes=nodes)
    history = [agent.weights.clone()]
    try:
        for _ in range(config.iterations):
            agent.update(source.next(agent))
            history.append(agent.weights.clone())
    except RefusalError:
        pass  # every rule was refused: the verdict below says so
    assert agent.evaluation is not None
    assert agent.verdict is not None
    change = torch.stack(history).diff(dim=0).norm(dim=-1) / agent.weights.norm(dim=-1)
    bound = agent.evaluation.weight_bound
    columns = {
        "weights": torch.full((R,), torch.nan) if setting.powers else found.error(agent.weights),
        "bound": torch.full((R,), torch.nan) if bound is None else bound.norm(dim=-1),
        "iterations": (change > 1e-9).sum(0).double() + 1.0,
        "condition": agent.evaluation.fit.condition,
        **quality(found, agent, setting),
    }
    return {key: torch.where(agent.verdict.fine, value, torch.nan) for key, value in columns.items()}


def quality(found: Task, agent: IntegralRl, setting: Setting) -> dict[str, Tensor]:
    """Errors of value and action in root mean square over the box, beside the optimum's; the excess beside its cost.

    The excess is int (u - u*)'R (u - u*) dt along 10 s of the learned policy: an identity, in which nothing cancels.
    """
    env, n, R = found.env, found.env.spec.state_dim, len(agent.weights)
    generator = torch.Generator().manual_seed(1)
    box = 2.0 * torch.rand(PROBES, n, generator=generator, dtype=torch.float64) - 1.0
    x = (setting.radius * box).expand(R, -1, -1)
    best, action = env.optimal_value(x), env.optimal_action(x)
    value_error = (agent.value(x) - best).square().mean(-1) / best.square().mean(-1)
    action_error = (agent.act(x) - action).square().mean((-2, -1)) / action.square().mean((-2, -1))
    rule = gauss_legendre(12)
    places = torch.cat([rule.times.new_zeros(1), rule.times, rule.times.new_ones(1)])
    starts, window = found.starts.expand(R, *found.starts.shape), 0.25
    source = ClosedLoopSource(found.paths, starts, window=window, count=40, nodes=places)
    paths = source.next(Feedback(agent.act))
    states, actions = paths.states[..., 1:-1, :], paths.actions[..., 1:-1, :]
    rate = excess_cost(actions, env.optimal_action(states), env.control_weight, env.saturation)
    total = (rate * rule.weights * window).sum((-2, -1)) / found.env.optimal_value(found.starts).sum()
    return {"value": value_error.sqrt(), "action": action_error.sqrt(), "cost": total}


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """The whole table; returns the value errors at the largest number of nodes."""
    for name in config.systems:
        if name not in SYSTEMS:
            raise unknown_name("system", name, SYSTEMS)
    table: dict[tuple[str, int], Mapping[str, Tensor]] = {}
    for step, name in enumerate(config.systems, 1):
        for nodes in config.nodes:
            table[name, nodes] = solve(name, nodes, config, seed)
        last = table[name, config.nodes[-1]]["value"]
        recorder.log(step, {f"eval/value/{rule}": float(last[i]) for i, rule in enumerate(RULES)})
    figure = recorder.figure_path("integral_rl_benchmarks")
    if figure is not None:
        plot_charts([chart(rule, config, table) for rule in ("trapezoid", "Simpson", "IWP3")], figure)
        write_table(table, figure.with_name("integral_rl_benchmarks_table.csv"))
    return recorder.finish(
        {
            f"eval/value/{name}/{rule}": float(table[name, config.nodes[-1]]["value"][i])
            for name in config.systems
            for i, rule in enumerate(RULES)
        }
    )


def chart(rule: str, config: Config, table: Mapping[tuple[str, int], Mapping[str, Tensor]]) -> Chart:
    """Error of the value of every system with one rule."""
    row, steps = list(RULES).index(rule), [nodes - 1 for nodes in config.nodes]
    rows = {name: [float(table[name, nodes]["value"][row]) for nodes in config.nodes] for name in config.systems}
    lines = [Line(name, steps, errors) for name, errors in rows.items()]
    subtitle = f"{config.starts} random starts, {config.windows} windows each; flat lines end at the error of the basis"
    return Chart(f"Integral RL with {rule}", subtitle, "N - 1 intervals per window", "relative error of V", lines)


def write_table(table: Mapping[tuple[str, int], Mapping[str, Tensor]], path: Path) -> None:
    """One row for each system, number of nodes and rule."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["system", "nodes", "rule", *COLUMNS])
        for (name, nodes), columns in table.items():
            for i, rule in enumerate(RULES):
                writer.writerow([name, nodes, rule, *(repr(float(columns[column][i])) for column in COLUMNS)])
