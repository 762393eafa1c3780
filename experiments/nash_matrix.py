"""How fast Nash-MP and its rivals find the equilibrium of preference games, by beta and by the number of actions.

rlcore run nash_matrix quick
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rlcore.agents.nash import (
    Comal,
    Egpo,
    Iterate,
    Method,
    Mmd,
    Mpo,
    MultiplicativeWeights,
    NashMd,
    NashMp,
    NashProx,
    OnlineIpo,
    follow,
)
from rlcore.checks import check_integer, check_positive
from rlcore.envs.games.tables import random_policies, random_tables
from rlcore.errors import ConfigError
from rlcore.functional.divergence import kl
from rlcore.functional.games import MatrixPreference, PreferenceGame, equilibrium
from rlcore.reporting.lines import Chart, Line, plot_charts
from rlcore.training.recorder import SILENT, Recorder

FLOOR = 1e-20
"""Divergences below it are rounding, and are not drawn."""


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    games: int = 8
    """Random games of each size, and random references; lines are medians over them."""
    actions: int = 10
    """Actions n of the games in which the methods are compared."""
    betas: tuple[float, ...] = (0.01, 0.1, 1.0)
    """Strengths of the regularisation, in units of the preference; one chart each."""
    queries: int = 1000
    """Evaluations of P pi that each method may spend."""
    sizes: tuple[int, ...] = (3, 10, 30, 100)
    """Numbers of actions at which Nash-MP's queries are counted."""
    level: float = 1e-10
    """The queries are counted until KL(pi* | pi) is this share of what it was."""


PRESETS = {
    "quick": Config(),
    "paper": Config(games=32, queries=4000, sizes=(3, 10, 30, 100, 300, 1000)),
}


def random_game(config: Config, beta: float, n: int, seed: int) -> PreferenceGame:
    """Games side by side, each pair of actions with a probability of its own."""
    tables, references = random_tables(config.games, n, 2 * seed), random_policies(config.games, n, 2 * seed + 1)
    return PreferenceGame(MatrixPreference(tables), references, beta)


def methods(beta: float) -> dict[str, Method]:
    """What is compared. INPO with its default weight is MMD, and EGPO with 1 / (beta + 1/2) is Nash-MP."""
    return {
        "Nash-MP": NashMp(),
        "Nash-MP, least weight": NashMp(None),
        "Nash Prox, per game": NashProx(),
        "EGPO, paper's rate": Egpo(),
        "MMD, INPO": Mmd(),
        "Nash-MD, schedule": NashMd(),
        "Nash-MD, constant": NashMd(min(beta, 0.5)),
        "Online IPO": OnlineIpo(0.5 * beta),
        "multiplicative weights": MultiplicativeWeights(),
    }


def unregularised(beta: float) -> dict[str, Method]:
    """What is compared on the game without regularisation."""
    return {
        "Nash-MP": NashMp(),
        "MPO": Mpo(50),
        "COMAL, weight 1": Comal(50, 1.0 + beta),
        "multiplicative weights": MultiplicativeWeights(),
    }


def median_path(game: PreferenceGame, method: Method, queries: int, watch: Callable[[Iterate], Tensor]) -> Line:
    """Queries against the median over games of what is watched, down to the floor; [k] of [k + 1, games]."""
    spent, seen = follow(game, method, queries, watch, until=lambda d: bool(d.median() < FLOOR))
    median = seen.median(-1).values.tolist()
    return Line("", *thinned([(q, d) for q, d in zip(spent, median, strict=True) if q > 0 and d > FLOOR]))


def thinned(points: Sequence[tuple[int, float]], most: int = 40) -> tuple[list[float], list[float]]:
    """At most so many of the points, evenly by the logarithm of their place, the ends among them."""
    last = len(points) - 1
    chosen = {round(math.expm1(k * math.log1p(last) / (most - 1))) for k in range(most)} if last > 0 else {0}
    kept = [points[i] for i in sorted(chosen)] if points else []
    return [float(q) for q, _ in kept], [d for _, d in kept]


def named(label: str, line: Line) -> Line:
    """The line with its label."""
    return Line(label, line.x, line.y)


def queries_needed(config: Config, beta: float, n: int, seed: int) -> Tensor:  # -> [games]
    """Of Nash-MP, until KL(pi* | pi) has fallen to the level, for each game; inf if it has not."""
    game = random_game(config, beta, n, seed)
    star = equilibrium(game)
    goal = config.level * kl(star, game.log_reference)
    limit = 2 * math.ceil(-math.log(config.level) / math.log1p(2.0 * beta)) + 2  # by then the theorem is satisfied

    def arrived(at: Iterate) -> Tensor:
        return kl(star, at.log_policy) <= goal

    spent, seen = follow(game, NashMp(), limit, arrived, until=lambda d: bool(d.all()))
    first = torch.tensor(spent, dtype=torch.float64).unsqueeze(-1).where(seen, math.inf)
    return first.amin(0)


def check(config: Config) -> None:
    """Raise unless the settings make sense together."""
    check_integer("games, actions, queries, sizes", config.games, config.actions, config.queries, *config.sizes)
    if min(config.games, config.queries) < 1 or min(config.actions, *config.sizes) < 2:
        raise ConfigError("need games, queries >= 1, and at least two actions")
    for beta in config.betas:
        check_positive("beta", beta)
    if not 0.0 < config.level < 1.0:
        raise ConfigError(f"level must lie strictly between 0 and 1, got {config.level}")


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Paths of every method at every beta, queries by size, and exploitability without regularisation."""
    check(config)
    result: dict[str, float] = {}
    charts = [rates(config, beta, seed, result) for beta in config.betas]
    charts += [sizes(config, seed, result), exploitability(config, seed, result)]
    for step, chart in enumerate(charts, 1):
        recorder.log(step, {f"eval/{chart.title}/{line.label}": line.y[-1] for line in chart.lines if line.y})
    figure = recorder.figure_path("nash_matrix")
    if figure is not None:
        plot_charts(charts[: len(config.betas)], figure)
        plot_charts(charts[len(config.betas) :], figure.with_name("nash_matrix_sizes"))
    return recorder.finish(result)


def rates(config: Config, beta: float, seed: int, result: dict[str, float]) -> Chart:
    """KL(pi* | pi) against queries, beside the theorem's line."""
    game = random_game(config, beta, config.actions, seed)
    star = equilibrium(game)
    lines = []
    for name, method in methods(beta).items():
        most = config.queries // 5 if isinstance(method, NashProx) else config.queries  # each step solves a game
        line = median_path(game, method, most, lambda at: kl(star, at.log_policy))
        result[f"eval/log10_kl/beta {beta:g}/{name}"] = math.log10(line.y[-1])
        lines.append(named(name, line))
    start = float(kl(star, game.log_reference).median())
    end = min(config.queries, 2.0 * math.log(start / FLOOR) / math.log1p(2.0 * beta))
    spent = [2.0 * (end / 2.0) ** (k / 39) for k in range(40)]
    theory = [start * (1.0 + 2.0 * beta) ** (-q / 2.0) for q in spent]
    lines.append(Line("theorem", spent, theory, theory=True))
    subtitle = f"{config.games} random games, n = {config.actions}, seed {seed}, medians"
    return Chart(f"beta = {beta:g}", subtitle, "queries of P pi", "KL(pi* | pi)", lines)


def sizes(config: Config, seed: int, result: dict[str, float]) -> Chart:
    """Queries of Nash-MP against the number of actions: medians and the whole range over games."""
    lines = []
    for beta in config.betas:
        found = [queries_needed(config, beta, n, seed + 1000) for n in config.sizes]
        median, low, high = ([float(f(x)) for x in found] for f in (torch.median, torch.amin, torch.amax))
        lines.append(Line(f"beta = {beta:g}", config.sizes, median, low, high))
        limit = -2.0 * math.log(config.level) / math.log1p(2.0 * beta)
        lines.append(Line(f"theorem, {beta:g}", config.sizes, [limit] * len(config.sizes), theory=True))
        result[f"eval/queries/beta {beta:g}/largest over smallest median, n >= 10"] = ratio(config.sizes, median)
        result[f"eval/queries/beta {beta:g}/most over the theorem's"] = max(high) / limit
    subtitle = f"Nash-MP to {config.level:g} KL_0, {config.games} games each, range"
    return Chart("Any number of actions", subtitle, "actions n", "queries of P pi", lines)


def ratio(sizes: Sequence[int], median: Sequence[float]) -> float:
    """The largest over the smallest of the medians of games with ten actions and more."""
    kept = [m for n, m in zip(sizes, median, strict=True) if n >= 10] or list(median)
    return max(kept) / min(kept)


def exploitability(config: Config, seed: int, result: dict[str, float]) -> Chart:
    """max P pi - 1/2, without regularisation: rivals that drop it, and what beta costs those that keep it."""
    beta = config.betas[len(config.betas) // 2]
    game = random_game(config, beta, config.actions, seed)
    lines = []
    for name, method in unregularised(beta).items():
        line = median_path(game, method, config.queries, lambda at: game.exploitability(at.log_policy))
        lines.append(named(name, line))
        result[f"eval/exploitability/{name}"] = line.y[-1]
    total = torch.zeros_like(game.log_reference)

    def average(at: Iterate) -> Tensor:
        total.add_(at.log_policy.exp())
        return game.exploitability((total / total.sum(-1, keepdim=True)).log())

    line = median_path(game, MultiplicativeWeights(), config.queries, average)
    lines.append(named("their average", line))
    result["eval/exploitability/average of multiplicative weights"] = line.y[-1]
    subtitle = f"{config.games} random games, n = {config.actions}; Nash-MP keeps beta = {beta:g}"
    return Chart("max P pi - 1/2 of P alone", subtitle, "queries of P pi", "exploitability", lines)
