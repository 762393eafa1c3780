"""Nash-MP from sampled duels, with networks over contexts: gap to the equilibrium of every context, by estimator.

rlcore run nash_contextual quick
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from rlcore.agents.nash.contextual import Estimator, NashContextual, NashContextualConfig
from rlcore.envs.games.bandit import PreferenceBandit, PreferenceBanditConfig
from rlcore.experiments.nash_duels import Course, chart, check_study, summary, together, train
from rlcore.nn.mlp import Mlp
from rlcore.reporting.evaluation import evaluate
from rlcore.reporting.lines import plot_charts
from rlcore.seeding import Streams
from rlcore.training import DuelSource
from rlcore.training.recorder import SILENT, Recorder


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
    draws: int = 3
    """Streams of duels for each estimator that samples; medians are drawn, with the whole range."""
    evaluations: int = 30
    """Points of each curve."""


PRESETS = {
    "quick": Config(),
    "paper": Config(rows=512, iterations=8000, hidden=(64,), env=PreferenceBanditConfig(contexts=16, actions=12)),
}


def distances(env: PreferenceBandit, agent: NashContextual) -> dict[str, Tensor]:
    """Exact gap of each context, and total variation to its equilibrium: [C], [C]."""
    with torch.no_grad():
        log_pi = torch.log_softmax(agent.act(torch.eye(env.config.contexts)).double(), -1)
    star = env.log_equilibrium.double()
    return {"gap": env.game.gap(log_pi), "tv": 0.5 * (log_pi.exp() - star.exp()).abs().sum(-1)}


def make_agent(env: PreferenceBandit, config: Config, estimator: Estimator, seed: int) -> NashContextual:
    """A policy that begins at the reference."""
    contexts, actions = env.config.contexts, env.config.actions
    network = Mlp(contexts, config.hidden, actions, generator=Streams(seed)["network"], output_gain=0.0)
    settings = replace(config.agent, estimator=estimator, beta=config.env.beta)
    return NashContextual(network, lambda obs: obs @ env.log_reference, settings)


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Agents by estimator and draw, on the same games."""
    check_study(config.rows, config.iterations, config.evaluations, config.draws, config.estimators)
    env = PreferenceBandit(config.env)
    result: dict[str, float] = {}
    courses: dict[str, Course] = {}
    for estimator in config.estimators:
        found = []
        for draw in range(1 if estimator == "exact" else config.draws):
            part = f"{estimator} {draw}"
            agent = make_agent(env, config, estimator, seed)
            source = DuelSource(env.table, agent.opponent, config.rows, generator=Streams(seed)[f"duels {part}"],
                                exact=estimator == "exact")  # fmt: skip
            child = recorder.child(part.replace(" ", "-"), estimator=estimator, draw=draw)
            course, _ = train(agent, source, config.iterations, config.evaluations,
                              lambda agent=agent: distances(env, agent), child)  # type: ignore[misc]  # fmt: skip
            found.append(course)
            result[f"{estimator}/eval/reward against the exploiter"] = evaluate(agent, env, paths=256).mean / 10.0
            result[f"{estimator}/duels"] = float(source.steps)
        courses[estimator] = together(found)
        result |= {f"{estimator}/{name}": value for name, value in summary(courses[estimator]).items()}
    figure = recorder.figure_path("nash_contextual")
    if figure is not None:
        where = f"{config.env.contexts} contexts, {config.env.actions} actions, beta = {config.env.beta:g}, seed {seed}"
        how = f"{2 * config.rows} duels an update, {config.draws} draws, lr / (1 + k / {config.agent.decay:g})"
        charts = [
            chart("Mean gap over contexts", where, "gap", "mean_gap", courses),
            chart("Worst gap over contexts", how, "gap", "worst_gap", courses),
        ]
        plot_charts(charts, figure)
    return recorder.finish(result)
