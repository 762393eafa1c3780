"""Nash-MP from sampled duels, with networks over contexts: gap to the equilibrium of every context, by estimator.

rlcore run nash_contextual quick --seeds 3
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from rlcore.agents.nash.contextual import Estimator, NashContextual, NashContextualConfig
from rlcore.checks import check_integer
from rlcore.envs.games.bandit import PreferenceBandit, PreferenceBanditConfig
from rlcore.errors import ConfigError
from rlcore.nn.mlp import Mlp
from rlcore.reporting.evaluation import evaluate
from rlcore.reporting.lines import Chart, Line, plot_charts
from rlcore.seeding import Streams
from rlcore.training import DuelSource, Phase
from rlcore.training.recorder import SILENT, Recorder

FLOOR = 1e-9
"""Gaps below it are single precision, and are not drawn."""


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    env: PreferenceBanditConfig = field(default_factory=PreferenceBanditConfig)
    agent: NashContextualConfig = field(default_factory=NashContextualConfig)
    estimators: tuple[Estimator, ...] = ("exact", "regression", "gradient")
    """Ways to estimate a proximal step, each with an agent of its own."""
    hidden: tuple[int, ...] = ()
    """Widths of hidden layers; none gives a table over contexts."""
    rows: int = 256
    """Contexts per batch, with two candidates each."""
    iterations: int = 3000
    """Batches; each is one update, and with duels 2 rows of them."""
    evaluations: int = 30
    """Points of each curve."""


PRESETS = {
    "quick": Config(),
    "paper": Config(rows=512, iterations=8000, hidden=(64,), env=PreferenceBanditConfig(contexts=16, actions=12)),
}


def gaps(env: PreferenceBandit, agent: NashContextual) -> tuple[Tensor, Tensor]:
    """Exact gap of each context, and total variation to its equilibrium: [C], [C]."""
    with torch.no_grad():
        log_pi = torch.log_softmax(agent.act(torch.eye(env.config.contexts)).double(), -1)
    star = env.log_equilibrium.double()
    return env.game.gap(log_pi), 0.5 * (log_pi.exp() - star.exp()).abs().sum(-1)


def make_agent(env: PreferenceBandit, config: Config, estimator: Estimator, seed: int) -> NashContextual:
    """A policy that begins at the reference."""
    contexts, actions = env.config.contexts, env.config.actions
    network = Mlp(contexts, config.hidden, actions, generator=Streams(seed)["network"], output_gain=0.0)
    settings = replace(config.agent, estimator=estimator, beta=config.env.beta)
    return NashContextual(network, lambda obs: obs @ env.log_reference, settings)


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """One agent per estimator, on the same games."""
    check_integer("rows, iterations, evaluations", config.rows, config.iterations, config.evaluations)
    if min(config.rows, config.iterations, config.evaluations) < 1 or not config.estimators:
        raise ConfigError("need at least one row, iteration, evaluation and estimator")
    env = PreferenceBandit(config.env)
    result: dict[str, float] = {}
    curves: dict[str, list[tuple[int, float, float]]] = {}
    for estimator in config.estimators:
        agent = make_agent(env, config, estimator, seed)
        source = DuelSource(env.table, agent.opponent, config.rows, generator=Streams(seed)[f"duels {estimator}"],
                            exact=estimator == "exact")  # fmt: skip
        curve = curves[estimator] = []

        def measure(
            agent: NashContextual = agent, curve: list[tuple[int, float, float]] = curve
        ) -> Mapping[str, float]:
            gap, apart = gaps(env, agent)
            curve.append((int(agent.step), float(gap.mean()), float(gap.max())))
            return {"eval/gap": curve[-1][1], "eval/worst_gap": curve[-1][2], "eval/worst_tv": float(apart.max())}

        measure()
        phases = [Phase("duels", source, config.iterations, agent.update)]
        every = max(1, config.iterations // config.evaluations)
        child = recorder.child(estimator, estimator=estimator)
        found = child.train(agent, phases, evaluate=measure, evaluate_every=every, main_metric="eval/gap")
        child.finish(found)
        result |= {f"{estimator}/{name}": value for name, value in found.items() if name.startswith("eval/")}
        result[f"{estimator}/eval/reward against the exploiter"] = evaluate(agent, env, paths=256).mean / 10.0
        result[f"{estimator}/duels"] = float(source.steps)
    figure = recorder.figure_path("nash_contextual")
    if figure is not None:
        plot_charts(charts(config, curves, seed), figure)
    return recorder.finish(result)


def charts(config: Config, curves: Mapping[str, list[tuple[int, float, float]]], seed: int) -> list[Chart]:
    """Mean and worst gap over contexts against updates."""
    subtitle = f"{config.env.contexts} contexts, {config.env.actions} actions, beta = {config.env.beta:g}, seed {seed}"
    found = []
    for column, title in ((1, "Mean gap over contexts"), (2, "Worst gap over contexts")):
        lines = []
        for name, curve in curves.items():
            points = [(k, row) for k, *row in curve if k > 0 and row[column - 1] > FLOOR]
            label = "exact" if name == "exact" else f"{name}, {2 * config.rows} duels each"
            lines.append(Line(label, [float(k) for k, _ in points], [row[column - 1] for _, row in points]))
        found.append(Chart(title, subtitle, "updates", "gap", lines))
    return found
