"""What every divergence loses of the reward at equal KL, the best of N beside its bound, f-DPO learning from pairs.

rlcore run preference_losses quick
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rlcore.checks import check_integer, check_positive
from rlcore.errors import ConfigError
from rlcore.functional.alignment import (
    best_of_n,
    best_of_n_bound,
    f_dpo_logits,
    preference_loss,
    regularised_optimum,
    tilt_at_divergence,
)
from rlcore.functional.divergence import INTERIOR, Divergence, PearsonChiSquared, kl
from rlcore.reporting.lines import Chart, Line, plot_charts
from rlcore.training.recorder import SILENT, Recorder

HELD: dict[str, Divergence] = INTERIOR | {"Pearson chi^2": PearsonChiSquared()}
SHOWN = ("forward KL", "Jensen-Shannon", "squared Hellinger", "Pearson chi^2", "chi^2 + KL")
LEARNT = ("reverse KL", "forward KL", "Jensen-Shannon", "alpha = 1/2", "squared Hellinger", "chi^2 + KL")


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    outcomes: int = 64
    """Outcomes of one prompt, in the charts of reward against KL and of the best of N."""
    points: int = 25
    """Strengths of the regularisation on each front."""
    small: int = 8
    """Outcomes in the study of learning."""
    pairs: tuple[int, ...] = (100, 1000, 10_000, 100_000)
    """Numbers of labelled pairs."""
    draws: int = 8
    """Data sets of each size; their median is drawn, with the whole range."""
    beta: float = 0.5
    """Strength of the regularisation in the study of learning, in units of the reward."""


PRESETS = {
    "quick": Config(),
    "paper": Config(points=60, pairs=(100, 300, 1000, 3000, 10_000, 100_000, 1_000_000), draws=50),
}


def problem(outcomes: int, seed: int) -> tuple[Tensor, Tensor]:
    """log-probabilities of a reference and rewards, both from standard normals: [n], [n]."""
    generator = torch.Generator().manual_seed(seed)
    mu = torch.log_softmax(torch.randn(outcomes, dtype=torch.float64, generator=generator), -1)
    return mu, torch.randn(outcomes, dtype=torch.float64, generator=generator)


def front(divergence: Divergence, mu: Tensor, reward: Tensor, points: int) -> tuple[list[float], list[float]]:
    """KL(pi | mu) and mean reward of the optimum, from weak to strong regularisation."""
    found = []
    for exponent in torch.linspace(-1.5, 1.5, points).tolist():
        log_pi = regularised_optimum(divergence, mu, reward, 10.0**exponent)
        found.append((float(kl(log_pi, mu)), float((log_pi.exp() * reward).sum())))
    found.sort()
    return [k for k, _ in found], [r for _, r in found]


def learnt(divergence: Divergence, mu: Tensor, wins: Tensor, beta: float) -> Tensor:  # wins [n, n] -> [n]
    """The policy that minimises the f-DPO loss of so many wins of i over j, from the reference on."""
    free = mu.clone().requires_grad_()
    share = wins / wins.sum()
    solver = torch.optim.LBFGS([free], lr=1.0, max_iter=500, tolerance_grad=1e-10, tolerance_change=0.0,
                               history_size=30, line_search_fn="strong_wolfe")  # fmt: skip

    def closure() -> Tensor:
        solver.zero_grad()
        d = torch.log_softmax(free, -1) - mu
        losses = preference_loss(f_dpo_logits(divergence, d.unsqueeze(1), d.unsqueeze(0), beta))  # [n, n]
        loss = (share * losses).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    solver.step(closure)  # type: ignore[no-untyped-call]
    return torch.log_softmax(free.detach(), -1)


def label(reward: Tensor, pairs: int, seed: int) -> Tensor:  # -> [n, n]
    """How often i was preferred to j in pairs drawn uniformly, under Bradley-Terry with this reward."""
    generator, n = torch.Generator().manual_seed(seed), len(reward)
    first = torch.randint(n, (pairs,), generator=generator)
    second = (first + torch.randint(1, n, (pairs,), generator=generator)) % n
    preferred = torch.rand(pairs, dtype=torch.float64, generator=generator) < torch.sigmoid(
        reward[first] - reward[second]
    )
    winner, loser = torch.where(preferred, first, second), torch.where(preferred, second, first)
    return torch.bincount(winner * n + loser, minlength=n * n).view(n, n).double()


def check(config: Config) -> None:
    """Raise unless the settings make sense together."""
    check_integer("sizes", config.outcomes, config.points, config.small, config.draws, *config.pairs)
    check_positive("beta", config.beta)
    if min(config.outcomes, config.small, config.points) < 2 or min(config.draws, *config.pairs) < 1:
        raise ConfigError("need at least two outcomes and points, and one draw and pair")


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Three studies, all but the last one exact."""
    check(config)
    result: dict[str, float] = {}
    charts = [fronts(config, seed, result), best_of_many(config, seed, result), learning(config, seed, result)]
    for step, chart in enumerate(charts, 1):
        recorder.log(step, {f"eval/{chart.title}/{line.label}": line.y[-1] for line in chart.lines})
    figure = recorder.figure_path("preference_losses")
    if figure is not None:
        plot_charts(charts, figure)
    return recorder.finish(result)


def fronts(config: Config, seed: int, result: dict[str, float]) -> Chart:
    """What each divergence loses of the reward that the tilt, which no policy beats, has at the same KL(pi | mu)."""
    mu, reward = problem(config.outcomes, seed)
    every = {name: front(HELD[name], mu, reward, config.points) for name in SHOWN}
    best = [best_of_n(mu, reward, math.log(2.0) * k) for k in range(1, 11)]
    every["best of N"] = [float(kl(p, mu)) for p in best], [float((p.exp() * reward).sum()) for p in best]
    most, lines = -float(mu[reward.argmax()]), []
    for name, (nats, rewards) in every.items():
        points = [(k, r) for k, r in zip(nats, rewards, strict=True) if 1e-2 < k < 0.99 * most]
        lost = [float((tilt_at_divergence(mu, reward, k).exp() * reward).sum()) - r for k, r in points]
        lines.append(Line(name, [k for k, _ in points], lost))
        result[f"eval/most reward lost/{name}"] = max(lost)
    subtitle = f"{config.outcomes} outcomes, seed {seed}, exact"
    return Chart("Reward lost beside the tilt", subtitle, "KL(pi | mu) in nats", "mean reward lost", lines, log_y=False)


def best_of_many(config: Config, seed: int, result: dict[str, float]) -> Chart:
    """KL of the best of N from uniform outcomes, beside what it can be at most."""
    sizes = [math.log(2.0) * k for k in range(1, 13)]
    lines, numbers = [], [math.exp(s) for s in sizes]
    for outcomes in (4, 16, 256, 4096):
        mu = torch.full((outcomes,), -math.log(outcomes), dtype=torch.float64)
        order = torch.arange(outcomes, dtype=torch.float64)
        found = [float(kl(best_of_n(mu, order, log_n), mu)) for log_n in sizes]
        lines.append(Line(f"{outcomes} outcomes", numbers, found))
        over = max(f - best_of_n_bound(s) for f, s in zip(found, sizes, strict=True))
        result[f"eval/best of N, most above its bound/{outcomes}"] = over
    lines.append(Line("log N - (N - 1) / N", numbers, [best_of_n_bound(s) for s in sizes], theory=True))
    return Chart("The best of N", "uniform reference, exact", "N", "KL(best of N | mu)", lines, log_y=False)


def learning(config: Config, seed: int, result: dict[str, float]) -> Chart:
    """KL from the regularised optimum of the true reward to what f-DPO learns from labelled pairs."""
    mu, reward = problem(config.small, seed + 1)
    lines = []
    for name in LEARNT:
        star = regularised_optimum(HELD[name], mu, reward, config.beta)
        rows = []
        for count in config.pairs:
            tables = [label(reward, count, 10_000 * seed + draw) for draw in range(config.draws)]
            apart = torch.stack([kl(star, learnt(HELD[name], mu, wins, config.beta)) for wins in tables])
            rows.append((float(apart.median()), float(apart.amin()), float(apart.amax())))
        median, low, high = (list(column) for column in zip(*rows, strict=True))
        lines.append(Line(name, config.pairs, median, low, high))
        result[f"eval/learnt, KL from the optimum/{name}"] = median[-1]
    first = max(line.y[0] for line in lines)
    theory = [first * config.pairs[0] / count for count in config.pairs]
    lines.append(Line("1 / pairs", config.pairs, theory, theory=True))
    subtitle = f"{config.small} outcomes, beta = {config.beta:g}, {config.draws} data sets each: medians, range"
    return Chart("f-DPO from labelled pairs", subtitle, "pairs", "KL(optimum | learnt)", lines)
