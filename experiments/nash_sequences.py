"""Nash-MP over sequences that are written token by token: every context at its own equilibrium, by estimator.

rlcore run nash_sequences quick
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from rlcore.agents.nash import NashContextual, NashContextualConfig, SequenceNetwork, TokenTable
from rlcore.agents.nash.contextual import Estimator
from rlcore.envs.games.sequences import PreferenceSequences, PreferenceSequencesConfig
from rlcore.experiments.nash_duels import Course, chart, check_study, summary, together, train
from rlcore.nn.mlp import Mlp
from rlcore.reporting.lines import Chart, plot_charts
from rlcore.seeding import Streams
from rlcore.training import DuelSource
from rlcore.training.recorder import SILENT, Recorder

CONSTANT = 1e12
"""Updates after which a step size is halved that does not fall at all."""


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    env: PreferenceSequencesConfig = field(default_factory=PreferenceSequencesConfig)
    agent: NashContextualConfig = field(
        default_factory=lambda: NashContextualConfig(lr=0.05, half_steps=25, full_steps=25, decay=200.0)
    )
    estimators: tuple[Estimator, ...] = ("exact", "regression", "gradient")
    """Ways to estimate a proximal step, each with an agent of its own."""
    hidden: tuple[int, ...] = ()
    """Widths of hidden layers of the network that scores the next token; none gives a table over prefixes."""
    rows: int = 512
    """Contexts per batch, with two candidates each."""
    iterations: int = 1900
    """Batches; each is one update, and with duels 2 rows of them."""
    draws: int = 3
    """Streams of duels for each estimator that samples; medians are drawn, with the whole range."""
    evaluations: int = 25
    """Points of each curve."""


PRESETS = {
    "quick": Config(),
    "paper": Config(
        env=PreferenceSequencesConfig(contexts=6, letters=3, length=5), iterations=6000, draws=5, hidden=(64, 64)
    ),
}


def distances(env: PreferenceSequences, agent: NashContextual) -> dict[str, Tensor]:
    """Of each context: exact gap, total variation to the equilibrium over classes and over sequences; each [C]."""
    with torch.no_grad():
        log_pi = torch.log_softmax(agent.act(torch.eye(env.config.contexts, dtype=env.dtype)).double(), -1)
    pi, star = log_pi.exp(), env.log_equilibrium.double().exp()
    classes = env.game.preference.reduce(pi - star)
    return {
        "gap": env.game.gap(log_pi),
        "class_tv": 0.5 * classes.abs().sum(-1),
        "tv": 0.5 * (pi - star).abs().sum(-1),
    }


def make_agent(env: PreferenceSequences, config: Config, settings: NashContextualConfig, seed: int) -> NashContextual:
    """A policy that begins at the reference."""
    contexts, tree = env.config.contexts, env.tree
    inputs, generator = env.spec.observation_dim, Streams(seed)["network"]
    scores = (
        Mlp(inputs, config.hidden, tree.tokens, generator=generator, output_gain=0.0).to(env.dtype)
        if config.hidden
        else TokenTable(contexts, tree, env.dtype)
    )
    log_mu = tree.sequences(env.reference)
    network = SequenceNetwork(tree, scores, env.reference)
    return NashContextual(network, lambda obs: log_mu[obs.argmax(-1)], settings)


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Agents by estimator and draw on one game, and what a step size does that does not fall."""
    check_study(config.rows, config.iterations, config.evaluations, config.draws, config.estimators)
    env = PreferenceSequences(config.env)
    result: dict[str, float] = {}

    def study(name: str, estimator: Estimator, decay: float) -> Course:
        settings = replace(config.agent, estimator=estimator, beta=config.env.beta, decay=decay)
        courses = []
        for draw in range(1 if estimator == "exact" else config.draws):
            part = f"{name} {draw}"
            agent = make_agent(env, config, settings, seed)
            source = DuelSource(env.judge, agent.opponent, config.rows, contexts=env.config.contexts,
                                generator=Streams(seed)[f"duels {part}"], exact=estimator == "exact")  # fmt: skip
            child = recorder.child(part.replace(" ", "-"), estimator=estimator, decay=decay, draw=draw)
            course, _ = train(agent, source, config.iterations, config.evaluations,
                              lambda agent=agent: distances(env, agent), child)  # type: ignore[misc]  # fmt: skip
            courses.append(course)
            result[f"{name}/duels"] = float(source.steps)
        found = together(courses)
        result.update({f"{name}/{key}": value for key, value in summary(found).items()})
        return found

    courses: dict[str, Course] = {name: study(name, name, config.agent.decay) for name in config.estimators}
    sampled = next((name for name in config.estimators if name != "exact"), None)
    steps = {}
    if sampled is not None:
        steps = {
            f"lr / (1 + k / {config.agent.decay:g})": courses[sampled],
            "constant lr": study("constant", sampled, CONSTANT),
        }
    figure = recorder.figure_path("nash_sequences")
    if figure is not None:
        plot_charts(charts(config, env, courses, steps, sampled, seed), figure)
    return recorder.finish(result)


def charts(
    config: Config,
    env: PreferenceSequences,
    courses: Mapping[str, Course],
    steps: Mapping[str, Course],
    sampled: str | None,
    seed: int,
) -> list[Chart]:
    """Gap and classes by estimator, and the gap by the fall of the step size."""
    where = f"{env.config.contexts} contexts, {env.tree.count} sequences, beta = {env.config.beta:g}, seed {seed}"
    how = f"{2 * config.rows} duels an update, {config.draws} draws: medians, range"
    found = [
        chart("Worst gap over contexts", where, "gap", "worst_gap", courses),
        chart("Masses of the classes", how, "total variation to the equilibrium", "worst_class_tv", courses),
    ]
    if sampled is not None:
        found.append(chart(f"The step size, {sampled}", how, "gap", "worst_gap", steps))
    return found
