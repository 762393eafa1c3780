"""The market solved exactly: what each strength of a penalty leaves of both rewards, by sqrt(chi^2) and by KL.

rlcore run market_frontier
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from rlcore.envs.hacking.market import Market, MarketConfig
from rlcore.envs.hacking.market_law import (
    Gaussian,
    LinearRule,
    earned,
    held_rule,
    kullback_leibler,
    occupancy,
    root_chi2,
)
from rlcore.reporting.lines import Chart, Line, plot_charts
from rlcore.training.recorder import SILENT, Recorder

DISTANCES: dict[str, Callable[[Gaussian, Gaussian], float]] = {"sqrt_chi2": root_chi2, "kl": kullback_leibler}


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    env: MarketConfig = field(default_factory=MarketConfig)
    """The stock, its signal, the costs."""
    shares: tuple[float, ...] = (3.0, 2.0, 1.5, 1.0, 0.5, 0.3, 0.1, 0.03, 0.01)
    """Strengths in units of lambda*, from strong to weak: each optimum is where the search for the next begins."""


PRESETS = {"quick": Config(), "paper": Config(shares=tuple(3.0 * 0.8**k for k in range(30)))}


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Both rewards of the best linear rule for each penalty and strength, and whether it is certified; no sampling."""
    env = Market(config.env)
    c, desk = env.config, env.desk()
    reference = occupancy(c, desk)
    before = earned(c, reference)
    result = {"desk/true": before.true, "desk/proxy": before.proxy, "desk/r": before.r}
    for name, known_rule in (("Markowitz", env.markowitz()), ("best", env.best()), ("Merton", env.hold())):
        known = earned(c, occupancy(c, known_rule))
        result |= {f"{name}/true": known.true, f"{name}/proxy": known.proxy}
    lines: dict[str, list[Line]] = {"true": [], "proxy": []}
    for kind, distance in DISTANCES.items():
        rule: LinearRule | None = None
        curves: dict[str, list[float]] = {"true": [], "proxy": []}
        for share in config.shares:
            rule = held_rule(c, desk, share, distance, rule)
            law = occupancy(c, rule)
            found, root = earned(c, law), root_chi2(law, reference)
            p = (found.proxy - before.proxy) * c.dt / before.proxy_sd
            certificate = (p / root if root > 1e-3 else 1.0) - math.sqrt(1.0 - before.r**2)
            here = f"{kind}/{share:g}"
            result |= {f"{here}/true": found.true, f"{here}/proxy": found.proxy, f"{here}/certificate": certificate}
            curves["true"].append(found.true)
            curves["proxy"].append(found.proxy)
        for name, values in curves.items():
            lines[name].append(Line(kind, list(config.shares), values))
    figure = recorder.figure_path("market_frontier")
    if figure is not None:
        plot_charts([chart(name, lines[name], result) for name in ("true", "proxy")], figure)
    return recorder.finish(result)


def chart(name: str, lines: list[Line], result: dict[str, float]) -> Chart:
    """One reward against the strength, the desk and both optima across."""
    ends = [min(lines[0].x), max(lines[0].x)]
    across = [Line(who, ends, [result[f"{who}/{name}"]] * 2, theory=True) for who in ("desk", "best", "Markowitz")]
    title = f"{name.capitalize()} return, exactly"
    return Chart(
        title, "% of wealth a year", "lambda, in units of lambda*", "return", [*lines, *across], log_x=True, log_y=False
    )
