"""What each part of WSRL is worth in the point maze, 5 seeds, from the lines of `wsrl_ablations quick`."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from rlcore.experiments import wsrl_ablations
from rlcore.experiments.wsrl_ablations import WITHOUT_ANYTHING, Panel, variants
from rlcore.reporting.acceptance import Measurement, row
from rlcore.reporting.statistics import mean, stratified_bootstrap
from rlcore.training.recorder import SILENT

SYSTEM = "wsrl"
CONFIG = wsrl_ablations.PRESETS["quick"]
compute = cache(lambda: wsrl_ablations.runner(CONFIG, 0, SILENT))


def scores(panel: Panel, *names: str, last: int | None = None) -> dict[str, Tensor]:  # each [S]
    """Share of arrivals of the lines of a panel (all, or those of these names), the mean online or over its end."""
    torch.set_num_threads(1)
    lines = {label: line for label, line in variants(CONFIG, panel).items() if not names or label in names}
    found = {label: compute()(label, line)["score"].values["score"].double() for label, line in lines.items()}
    return {label: (score[1:] if last is None else score[-last:]).mean(0) for label, score in found.items()}


def listed(found: dict[str, Tensor]) -> str:
    """Every mean."""
    return ", ".join(f"{label} {float(score.mean()):.2f}" for label, score in found.items())


def gains(found: dict[str, Tensor], label: str) -> list[Tensor]:  # each [S]
    """What the line `label` has more than each of the others."""
    return [found[label] - score for name, score in found.items() if name != label]


def is_most(found: dict[str, Tensor], label: str) -> bool:
    """Whether no other mean is higher."""
    return all(float(gain.mean()) >= 0.0 for gain in gains(found, label))


def is_not_below(found: dict[str, Tensor], label: str) -> bool:
    """Whether the 95 % interval of every gain over another line reaches 0."""
    return all(stratified_bootstrap(gain.numpy(), mean).high >= 0.0 for gain in gains(found, label))


@row(
    SYSTEM,
    "L4",
    "share of arrivals, mean over 1000 steps, for K = 0, 1000, 5000, 20000: 0 is the least, and 5000 not below any",
    "95 % interval of the difference reaches 0",
    slow=True,
)
def length_of_warm_up() -> Measurement:
    found = scores("length")
    least = min(found, key=lambda label: float(found[label].mean()))
    passed = least == "K = 0" and is_not_below(found, "K = 5000")
    return Measurement("K = 0 least, K = 5000 not below", listed(found), passed)


@row(SYSTEM, "L5", "the same after 5000 steps of the policy, and of random actions", "the policy's more", slow=True)
def whose_warm_up() -> Measurement:
    found = scores("warm-up")
    return Measurement("> 0", listed(found), is_most(found, "WSRL"))


@row(SYSTEM, "L6", "the same with all handed over, policy only, critics only, nothing", "all is the most", slow=True)
def what_is_handed_over() -> Measurement:
    found = scores("start")
    return Measurement(">= 0", listed(found), is_most(found, "WSRL"))


@row(
    SYSTEM,
    "L7",
    "the same with 5 critics, layer norm and 4 updates, and with 2, without it, with 1: not below any",
    "95 % interval of the difference reaches 0",
    slow=True,
)
def ensemble_norm_and_updates() -> Measurement:
    found = scores("ensemble")
    found |= scores("updates", "1 update")
    return Measurement(">= 0", listed(found), is_not_below(found, "5 critics"))


@row(
    SYSTEM,
    "L9",
    "share of arrivals at the end, without data: WSRL above CQL, Cal-QL and IQL that go on with K = 0",
    "the most",
    slow=True,
)
def beside_who_keeps_learning_offline() -> Measurement:
    found = scores("learner", "WSRL", *(f"{name}, K = 0" for name in WITHOUT_ANYTHING), last=3)
    return Measurement("> 0", listed(found), all(float(gain.mean()) > 0.0 for gain in gains(found, "WSRL")))
