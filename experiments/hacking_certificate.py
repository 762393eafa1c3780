"""When a proxy can be trusted: bounds on the true reward over random problems, and the certificate along training.

rlcore run hacking_certificate quick
rlcore run hacking_certificate paper
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.func import vmap

from rlcore.checks import check_integer, check_positive
from rlcore.envs.hacking.tomato import Tomato
from rlcore.errors import ConfigError
from rlcore.experiments import orpo_tomato
from rlcore.experiments.hacking_arm import Arm, check_arms
from rlcore.experiments.hacking_runs import Estimates, estimates
from rlcore.functional.occupancy import (
    FiniteProblem,
    best_lambda,
    bound_a,
    bound_b,
    bound_t,
    chi_squared,
    moments,
    penalty,
)
from rlcore.functional.occupancy.tabular import occupancies
from rlcore.reporting.lines import Chart, Line, plot_charts
from rlcore.training.recorder import SILENT, Recorder

DOUBLE = torch.float64
FLAT: dict[str, bool] = {"log_x": False, "log_y": False}


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    draws: int = 10_000
    """Random problems, each with a proxy, a true reward, a policy and a reference."""
    states: tuple[int, ...] = (3, 5, 8, 11)
    """Numbers of states, in turn."""
    actions: int = 3
    """Actions."""
    discounts: tuple[float, ...] = (0.5, 0.9, 0.97, 0.99)
    """Discounts per step, in turn."""
    temperature: float = 0.15
    """tau of the tomato garden's reference [reward]."""
    iterations: int = 160
    """Exact natural policy gradient steps in the garden."""
    rate: float = 0.1
    """Size of such a step per unit of the action value."""
    learned: tuple[Arm, ...] = ()
    """Arms that are learned from samples in the garden, their estimated certificate beside the exact one."""
    learning: orpo_tomato.Config = field(default_factory=lambda: orpo_tomato.Config(iterations=60))
    """How those are learned; its temperature and arms are not looked at."""


PRESETS = {
    "quick": Config(),
    "paper": Config(draws=100_000, iterations=400, learned=(Arm(), Arm("none"))),
}


@dataclass(frozen=True)
class Draws:
    """What random problems found, one number per problem."""

    p: Tensor
    y: Tensor
    c: Tensor
    r: Tensor

    def figures(self) -> dict[str, float]:
        """Violations of the bounds, and what the certificate is worth."""
        a, b, t = (bound(self.p, self.c, self.r) for bound in (bound_a, bound_b, bound_t))
        slack = 1e-9 * (1.0 + self.c)
        certified = a >= 0.0
        hacked = (self.p > 0.0) & (self.y < 0.0)
        return {
            "draws": float(len(a)),
            "violations/A": float((self.y < a - slack).sum()),
            "violations/B": float((self.y < b - slack).sum()),
            "violations/T": float((self.y < t - slack).sum()),
            "signs of A and T apart": float(((a > slack) != (t > slack)).sum()),
            "T below A or B": float((t < torch.maximum(a, b) - slack).sum()),
            "|p| above C": float((self.p.abs() > self.c + slack).sum()),
            "certified": float(certified.sum()),
            "certified and worse": float((certified & (self.y < -slack)).sum()),
            "not certified and hacked": float((~certified & hacked).sum()),
            "median slack/A": float((self.y - a).median()),
            "median slack/B": float((self.y - b).median()),
            "median slack/T": float((self.y - t).median()),
        }


def draw(count: int, states: int, actions: int, discount: float, generator: torch.Generator) -> Draws:
    """Random problems of one size; those whose rewards do not correlate positively are left out."""

    def simplex(*shape: int) -> Tensor:
        return torch.softmax(1.5 * torch.randn(count, *shape, dtype=DOUBLE, generator=generator), -1)

    def normal() -> Tensor:
        return torch.randn(count, states * actions, dtype=DOUBLE, generator=generator)

    transition, start = simplex(states, actions, states), simplex(states)
    reference = simplex(states, actions)
    step = 10.0 ** -(3.0 * torch.rand(count, 1, 1, dtype=DOUBLE, generator=generator))
    policy = (1.0 - step) * reference + step * simplex(states, actions)  # near the reference and far away
    base, mu = (occupancies(transition, start, discount, law).flatten(1) for law in (reference, policy))
    proxy = normal()
    share = torch.rand(count, 1, dtype=DOUBLE, generator=generator)
    true = share * proxy + (1.0 - share) * normal()
    found = vmap(moments)(proxy, true, base)
    p = ((mu * proxy).sum(1) - found.proxy_mean) / found.proxy_sd
    y = ((mu * true).sum(1) - found.true_mean) / found.true_sd
    keep = found.correlation > 0.0
    c = vmap(chi_squared)(mu, base).clamp(min=0.0).sqrt()
    return Draws(*(x[keep] for x in (p, y, c, found.correlation)))


def random_problems(config: Config, seed: int) -> Draws:
    """Problems of all sizes and discounts."""
    generator = torch.Generator().manual_seed(seed)
    kinds = [(n, g) for n in config.states for g in config.discounts]
    parts = [draw(math.ceil(config.draws / len(kinds)), n, config.actions, g, generator) for n, g in kinds]
    return Draws(*(torch.cat([getattr(part, name) for part in parts]) for name in ("p", "y", "c", "r")))


@dataclass(frozen=True)
class Path:
    """A run in the garden, exactly: what is known after every step."""

    true: list[float]
    proxy: list[float]
    certificate: list[float]


def ascend(
    problem: FiniteProblem, proxy: Tensor, true: Tensor, start: Tensor, strength: float, config: Config
) -> tuple[Path, float]:
    """Natural policy gradient on <mu, P> - lambda sqrt(chi^2), from the reference; (the path, r)."""
    base = problem.occupancy(start)
    found = moments(proxy, true, base)
    r = float(found.correlation)
    theta, path = start.log(), Path([], [], [])
    for _ in range(config.iterations + 1):
        policy = torch.softmax(theta, -1)
        mu = problem.occupancy(policy)
        root = chi_squared(mu, base).clamp(min=1e-12).sqrt()
        p = ((mu * proxy).sum() - found.proxy_mean) / found.proxy_sd
        returns = problem.episode(policy, true, proxy, steps=100)
        path.true.append(returns[0])
        path.proxy.append(returns[1])
        path.certificate.append(float(p / root) - math.sqrt(1.0 - r * r))
        reward = proxy - strength * penalty("sqrt_chi2", (mu / base).clamp(min=1e-30).log(), root)
        theta = theta + config.rate * problem.action_values(policy, reward)
        theta = theta - theta.logsumexp(-1, keepdim=True)
    return path, r


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Random problems, then the garden with and without the penalty."""
    check_integer("draws, iterations", config.draws, config.iterations)
    if min(config.draws, config.iterations) < 1 or not config.states or not config.discounts:
        raise ConfigError("need at least one draw, iteration, number of states and discount")
    check_integer("states, actions", *config.states, config.actions)
    if min(*config.states, config.actions) < 2:
        raise ConfigError(f"states and actions must be 2 or more, got {config.states} and {config.actions}")
    check_positive("rate", config.rate)
    check_positive("temperature", config.temperature)
    check_arms(config.learned)
    draws = random_problems(config, seed)
    result = draws.figures()
    model = Tomato().model()
    start = model.softened(config.temperature)
    found = moments(model.proxy, model.true, model.problem.occupancy(start))
    strengths = {"none": 0.0, "lambda*": best_lambda(float(found.proxy_sd), float(found.correlation))}
    paths = {n: ascend(model.problem, model.proxy, model.true, start, s, config)[0] for n, s in strengths.items()}
    for name, path in paths.items():
        below = [t < path.true[0] - 1e-9 for t in path.true]
        flagged = [c < 0.0 for c in path.certificate]
        result |= {
            f"{name}/true": path.true[-1],
            f"{name}/proxy": path.proxy[-1],
            f"{name}/certificate": path.certificate[-1],
            f"{name}/hacked and not flagged": float(sum(b and not f for b, f in zip(below, flagged, strict=True))),
        }
    learning = replace(config.learning, temperature=config.temperature)
    runs = {arm.name: estimates(learning, arm, seed) for arm in config.learned}
    result |= {f"learned {arm}/{name}": value for arm, run in runs.items() for name, value in run.figures().items()}
    recorder.log(0, result)
    figure = recorder.figure_path("hacking_certificate")
    if figure is not None:
        plot_charts(charts(config, draws, paths), figure)
        if runs:
            plot_charts(along_runs(runs, learning), figure.with_name("hacking_runs.png"))
    return recorder.finish(result)


def charts(config: Config, draws: Draws, paths: dict[str, Path]) -> list[Chart]:
    """Share of harmful policies by certificate, and both returns and the certificate along training."""
    margin = draws.p / draws.c.clamp(min=1e-300) - (1.0 - draws.r.square()).sqrt()
    edges = torch.linspace(-1.5, 0.6, 22, dtype=DOUBLE)
    x: list[float] = []
    worse: list[float] = []
    for low, high in itertools.pairwise(edges):
        inside = (margin >= low) & (margin < high)
        if int(inside.sum()) >= max(1, len(margin) // 500):
            x.append(float(0.5 * (low + high)))
            worse.append(float((draws.y[inside] < 0.0).double().mean()))
    steps = [float(k) for k in range(len(next(iter(paths.values())).true))]

    def along(name: str, column: str) -> Line:
        return Line(name, steps, getattr(paths[name], column))

    garden = f"exact policy gradient from the reference, tau = {config.temperature:g}"
    drawn = f"{len(draws.p)} random problems; right of 0 is certified"
    return [
        Chart(
            "Policies that lower the true reward",
            drawn,
            "kappa - sqrt(1 - r²)",
            "share",
            [Line("share", x, worse)],
            **FLAT,
        ),
        Chart(
            "True return of an episode", garden, "steps of ascent", "return", [along(n, "true") for n in paths], **FLAT
        ),
        Chart(
            "Certificate",
            garden,
            "steps of ascent",
            "kappa - sqrt(1 - r²)",
            [along(n, "certificate") for n in paths],
            **FLAT,
            known=0.0,
        ),
    ]


def along_runs(runs: Mapping[str, Estimates], learning: orpo_tomato.Config) -> list[Chart]:
    """What each learned run was certified, batch by batch, beside the exact certificate; and sqrt(chi^2) likewise."""
    subtitle = f"estimated from {learning.paths} episodes, dashed exactly; tau = {learning.temperature:g}"
    certificates: list[Line] = []
    roots: list[Line] = []
    for name, run in runs.items():
        batches = [float(k) for k in range(len(run.exact))]
        certificates += [Line(name, batches, run.certificate), Line(f"{name}, exact", batches, run.exact, theory=True)]
        roots += [Line(name, batches, run.root), Line(f"{name}, exact", batches, run.exact_root, theory=True)]
    return [
        Chart("Certificate", subtitle, "batches", "kappa - sqrt(1 - r²)", certificates, **FLAT, known=0.0),
        Chart("C = sqrt(chi²)", subtitle, "batches", "C", roots, log_x=False),
    ]
