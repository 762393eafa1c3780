"""Mean-variance investment without knowing the market: the published table of Sharpe ratios, learned anew.

rlcore run mean_variance quick
rlcore run mean_variance paper --agent q-learning
rlcore run mean_variance quick --history_years 20

The protocol of Jia and Zhou (2022, section 6): one stock of 14 pairs of return and volatility, one year of daily
trades, a mean of 1.4 wanted; all settings are the same in all cells. The agents see wealth, time and their own actions.
What is judged is the mean of the learned policy, which is linear in the wealth: its moments follow from a recursion.
The paper draws 20 000 batches of 128 paths from one history of 20 years, as `history_years` does; by default every
batch is new, so that what remains is the error of the agent and not that of the history.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

import torch
from torch import Tensor

from rlcore.agents.martingale import EpisodicActorCritic, EpisodicConfig, EpisodicQLearning
from rlcore.agents.martingale.mean_variance_forms import Multiplier, WealthPolicy, WealthValue, precision
from rlcore.data import Trajectory
from rlcore.envs.finance import MeanVariance, MeanVarianceConfig
from rlcore.errors import unknown_name
from rlcore.experiments.mean_variance_history import HistorySource
from rlcore.reporting.figures import INK, PALETTE, new_figure, save, set_titles
from rlcore.simulation import Feedback, begin, rollout
from rlcore.simulation.modes import Mode
from rlcore.timegrid import steps_in
from rlcore.training import PathSource, Phase
from rlcore.training.recorder import SILENT, Recorder
from rlcore.training.sources import Source

Learner = EpisodicActorCritic | EpisodicQLearning
AGENTS = ("actor-critic", "q-learning")


class Published(NamedTuple):
    """One row of the published table: Sharpe ratios of three agents, mean and variance of the offline actor-critic."""

    stock_return: float
    volatility: float
    emv: float
    mean: float
    variance: float
    offline: float
    online: float

    @property
    def name(self) -> str:
        return f"{self.stock_return:g}_{self.volatility:g}"


CELLS = tuple(
    Published(*row)
    for row in (
        (-0.5, 0.1, 6.69, 1.40, 0.00, 8.15, 7.43),
        (-0.3, 0.1, 3.59, 1.40, 0.01, 4.37, 3.84),
        (-0.1, 0.1, 1.25, 1.41, 0.09, 1.37, 1.24),
        (0.0, 0.1, 0.20, 1.13, 0.91, 0.12, 0.12),
        (0.1, 0.1, 0.81, 1.51, 0.47, 0.84, 0.85),
        (0.3, 0.1, 3.06, 1.41, 0.01, 3.71, 4.31),
        (-0.3, 0.2, 1.81, 1.40, 0.04, 2.10, 1.89),
        (0.3, 0.2, 1.54, 1.42, 0.06, 1.78, 1.94),
        (-0.3, 0.3, 1.20, 1.41, 0.10, 1.32, 1.23),
        (0.3, 0.3, 1.00, 1.44, 0.17, 1.12, 1.05),
        (0.5, 0.3, 2.01, 1.41, 0.03, 2.28, 2.10),
        (-0.3, 0.4, 0.86, 1.43, 0.24, 0.93, 0.90),
        (0.3, 0.4, 0.74, 1.53, 0.74, 0.73, 0.77),
        (0.5, 0.4, 1.44, 1.42, 0.07, 1.60, 1.52),
    )
)
"""Jia and Zhou, JMLR 23 (2022) 275; an interest rate of 2 % reproduces its row without drift."""


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    agent: str = "actor-critic"
    """'actor-critic' or 'q-learning'."""
    paths: int = 256
    """Paths of one year per update."""
    history_years: int = 0
    """Years of the one history that all paths are drawn from, on the CPU; 0 simulates new paths for every update."""
    iterations: int = 150
    """Updates."""
    value_rate: float = 0.4
    """First rate of the value, whose natural steps are increments per year."""
    policy_rate: float = 0.4
    """First rate of the policy, as a share of the way from log pi to q / gamma."""
    multiplier_rate: float = 1.0
    """First rate of the multiplier, as a share of a Newton step."""
    temperature: float = 0.1
    """gamma [money^2/year]."""
    repeats: int = 1
    """Independent runs of every cell, over which the standard deviation is taken."""
    evaluations: int = 10
    """How often a policy is evaluated on the way."""
    mode: Mode = "eager"
    """How rollouts are carried out: 'eager', 'compiled', 'graph' on a GPU, or 'auto', by device and size."""
    device: str = "cpu"
    """'cpu' or 'cuda'."""


PRESETS = {"quick": Config(iterations=100), "paper": Config(iterations=1000, repeats=10)}


class Moments(NamedTuple):
    """Terminal wealth of a policy."""

    mean: float
    variance: float
    sharpe: float


def make_env(cell: Published, config: Config) -> MeanVariance:
    """The market of a cell, in double precision."""
    market = MeanVarianceConfig(cell.stock_return, cell.volatility, temperature=config.temperature)
    return MeanVariance(market, dtype=torch.float64, device=config.device)


def make_agent(env: MeanVariance, config: Config) -> tuple[Learner, Multiplier]:
    """Value and policy of the papers' form, all parameters zero, the multiplier at the target."""
    gamma, target = config.temperature, env.config.target
    multiplier = Multiplier(target, target, rate=config.multiplier_rate)
    value, policy = WealthValue(multiplier, env.config.horizon), WealthPolicy(multiplier)
    weight = precision(value, policy)
    if config.agent == "actor-critic":
        settings = EpisodicConfig(0.0, gamma, config.value_rate, config.policy_rate / gamma, natural=True)
        return EpisodicActorCritic(value, policy, settings, weight=weight), multiplier
    settings = EpisodicConfig(0.0, gamma, config.value_rate, config.policy_rate, natural=True)
    if config.agent == "q-learning":
        return EpisodicQLearning(value, policy, settings, weight=weight), multiplier
    raise unknown_name("agent", config.agent, AGENTS)


def make_source(env: MeanVariance, config: Config, seed: int) -> Source[Trajectory]:
    """New paths at every call, or windows of one history."""
    if config.history_years:
        return HistorySource(env, config.paths, config.history_years, seed=seed)
    return PathSource(env, config.paths, steps_in(env.config.horizon, env.config.dt), seed=seed, mode=config.mode)


def linear_moments(env: MeanVariance, gain: float, multiplier: float) -> Moments:
    """Terminal wealth under a = -phi (x - w), exactly: y = x - w is multiplied by 1 - phi R every day.

    E y_n = y_0 (1 - phi b h)^n and E y_n^2 = y_0^2 ((1 - phi b h)^2 + phi^2 sigma^2 h)^n with b = mu - r.
    """
    c, steps = env.config, steps_in(env.config.horizon, env.config.dt)
    kept, start = 1.0 - gain * (c.stock_return - c.interest_rate) * c.dt, c.initial_wealth - multiplier
    spread = gain**2 * c.volatility**2 * c.dt
    mean = multiplier + start * kept**steps
    variance = start**2 * kept ** (2 * steps) * math.expm1(steps * math.log1p(spread / kept**2))
    return Moments(mean, variance, (mean - c.initial_wealth) / math.sqrt(variance) if variance > 0.0 else 0.0)


def simulated_moments(env: MeanVariance, policy: Callable[[Tensor], Tensor], paths: int, seed: int) -> Moments:
    """The same for any feedback, by simulation."""
    steps = steps_in(env.config.horizon, env.config.dt)
    wealth = rollout(env, Feedback(policy), begin(env, paths, seed=seed), steps)[0].obs[-1, :, 0]
    mean, variance = float(wealth.mean()), float(wealth.var())
    return Moments(mean, variance, (mean - env.config.initial_wealth) / math.sqrt(variance))


def learned_moments(env: MeanVariance, agent: Learner, multiplier: Multiplier) -> Moments:
    """Terminal wealth under the mean of the learned policy."""
    return linear_moments(env, float(agent.policy.phi[0].detach()), float(multiplier.value))


def train(cell: Published, config: Config, seed: int, recorder: Recorder = SILENT) -> tuple[Learner, Multiplier]:
    """One cell, one seed."""
    env = make_env(cell, config)
    agent, multiplier = make_agent(env, config)
    agent.to(config.device)

    def update(batch: Trajectory) -> Mapping[str, Tensor | float]:
        metrics = agent.update(multiplier.rewarded(batch))
        multiplier.update(batch)
        return metrics

    def measure() -> Mapping[str, float]:
        found = learned_moments(env, agent, multiplier)
        gain, w = float(agent.policy.phi[0].detach()), float(multiplier.value)
        named = {f"eval/{name}": value for name, value in found._asdict().items()}
        return named | {"eval/gain": gain, "eval/multiplier": w}

    source = make_source(env, config, seed)
    recorder.hparams({"agent": config.agent, "cell": cell.name})
    recorder.train(
        agent,
        [Phase("episodes", source, config.iterations, update)],
        evaluate=measure,
        evaluate_every=max(1, config.iterations // config.evaluations),
        log_every=max(1, config.iterations // 50),
        main_metric="eval/sharpe",
    )
    return agent, multiplier


class Result(NamedTuple):
    """One cell over its repeats."""

    cell: Published
    optimum: float
    """Sharpe ratio of the optimal feedback, rebalanced daily."""
    runs: Sequence[Moments]

    def mean(self, name: str) -> float:
        return fmean(getattr(run, name) for run in self.runs)

    def deviation(self, name: str) -> float:
        return stdev(getattr(run, name) for run in self.runs) if len(self.runs) > 1 else 0.0


def run_cell(cell: Published, config: Config, seed: int, recorder: Recorder = SILENT) -> Result:
    """All repeats of one cell."""
    env, runs = make_env(cell, config), []
    for k in range(seed, seed + config.repeats):
        child = recorder.child(f"{cell.name}-seed-{k}", cell=cell.name, part_seed=k)
        runs.append(learned_moments(env, *train(cell, config, k, child)))
    return Result(cell, env.rebalanced_sharpe_ratio(), runs)


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """The whole table; returns mean, variance and Sharpe ratio of every cell, and the least share of the optimum."""
    results = [run_cell(cell, config, seed, recorder) for cell in CELLS]
    figure = recorder.figure_path("mean_variance.png")
    if figure is not None:
        plot(results, config, figure)
        write(results, figure.with_suffix(".csv"))
    found = {f"eval/{tag}/{r.cell.name}": r.mean(tag) for r in results for tag in Moments._fields}
    ahead = min(r.mean("sharpe") / r.cell.offline for r in results)
    return recorder.finish(found | {"eval/least_ratio_to_published": ahead})


def write(results: Sequence[Result], path: Path) -> None:
    """The table as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = ("mean", "variance", "sharpe")
    columns = [*Published._fields[:2], *names, *(f"{name}_sd" for name in names), "repeats", "optimum_daily"]
    columns += [f"published_{name}" for name in Published._fields[2:]]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for r in results:
            ours = [*(r.mean(name) for name in names), *(r.deviation(name) for name in names)]
            writer.writerow([*r.cell[:2], *ours, len(r.runs), r.optimum, *r.cell[2:]])


def plot(results: Sequence[Result], config: Config, path: Path) -> None:
    """Sharpe ratio, its share of the optimum, and mean of every cell: ours, published, optimum; in its order."""
    ordered = sorted(results, key=lambda r: r.optimum)
    new = f"{config.paths * config.iterations} simulated years"
    years = f"{config.agent}, {f'one history of {config.history_years} years' if config.history_years else new}"
    many = f"mean of {config.repeats} runs, bars: 1 s.d." if config.repeats > 1 else "one run"
    panels = (
        ("Sharpe ratio", f"{years}, {many}", "sharpe", [1.0] * len(ordered), [r.optimum for r in ordered]),
        (
            "Share of the optimum",
            "Sharpe ratio / optimum",
            "sharpe",
            [r.optimum for r in ordered],
            [1.0] * len(ordered),
        ),
        ("Mean terminal wealth", "the target is 1.4", "mean", [1.0] * len(ordered), [1.4] * len(ordered)),
    )
    figure, every = new_figure(len(panels))
    rows, style = list(range(len(ordered))), {"linestyle": "none", "markersize": 6}
    for axes, (title, subtitle, name, unit, known) in zip(every, panels, strict=True):
        set_titles(axes, title, subtitle, title, "mean return, volatility")
        old = [(r.cell.offline if name == "sharpe" else r.cell.mean) / u for r, u in zip(ordered, unit, strict=True)]
        ours = [r.mean(name) / u for r, u in zip(ordered, unit, strict=True)]
        spread = [r.deviation(name) / u for r, u in zip(ordered, unit, strict=True)]
        axes.plot(known, rows, label="optimum, daily", marker="|", color=INK, ms=14, mew=1.8, linestyle="none")
        axes.plot(old, rows, label="published, offline actor-critic", marker="D", color=PALETTE[1], **style)
        axes.errorbar(ours, rows, xerr=spread if config.repeats > 1 else None, label="ours", fmt="o", color=PALETTE[0])
        axes.set_yticks(rows, [f"{r.cell.stock_return:+.1f}, {r.cell.volatility:.1f}" for r in ordered])
        axes.margins(x=0.05, y=0.04)
    every[0].set_xscale("log")
    every[0].legend(frameon=False, loc="lower right")
    save(figure, path)
