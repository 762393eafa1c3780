"""What is learned: ratios of known laws, the garden with and without the penalty, the bandit, PPO's speed."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

import torch

from rlcore.agents.orpo import RatioConfig, RatioNetworks
from rlcore.agents.orpo.ratio import divergences
from rlcore.experiments import hacking_runs, orpo_bandit, orpo_tomato
from rlcore.experiments.benchmark import ppo
from rlcore.experiments.hacking_arm import Arm
from rlcore.reporting.acceptance import Measurement, at_least, row

SYSTEM = "orpo"
RUNS = 5


def estimated(shift: float, seed: int = 0, count: int = 20_000) -> tuple[float, float, float]:
    """chi^2 of unit Gaussians a shift apart from samples of both, its calibration, and trained over held out."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, count, 1, generator=generator) + shift
    base = torch.randn(count, 1, generator=generator)
    fold, ones = torch.arange(count) % 2, torch.ones(count)
    networks = RatioNetworks(1, RatioConfig(rows=512), seed=seed + 1)
    found = networks.fit(x, ones.unsqueeze(0), fold, base, ones, fold)
    share = ones.unsqueeze(0) / count
    chi2, own = (float(divergences(d, share)[0]) for d in (found.log_ratio, found.own))
    return chi2, float(found.calibration), own / chi2


@row(SYSTEM, "ratio-1", "chi^2 of Gaussians 1 apart, 20 000 samples, until flat: 1.718; trained over held out", "10 %")
def ratio_one() -> Measurement:
    chi2, calibration, overfit = estimated(1.0)
    holds = abs(chi2 / math.expm1(1.0) - 1.0) <= 0.1 and 0.8 <= overfit <= 1.25
    return Measurement("1.718; 0.8 to 1.25", f"{chi2:.3f}; {overfit:.3f}; calibration {calibration:+.3f}", holds)


@row(SYSTEM, "ratio-1.5", "the same 1.5 apart: 8.488", "10 %")
def ratio_one_and_a_half() -> Measurement:
    chi2 = estimated(1.5)[0]
    return Measurement(8.488, chi2, abs(chi2 / math.expm1(2.25) - 1.0) <= 0.1)


@lru_cache(maxsize=8)
def learned(kind: str, strength: float | None, iterations: int = 80) -> dict[str, float]:
    """The garden from a random start, five runs side by side.

    Where occupancies are not penalised nothing that is learned depends on their ratio, and one step of it is enough.
    """
    arm = Arm(kind, strength)  # type: ignore[arg-type]
    only_watched = kind == "none" or kind.startswith("ad_")
    ratio = replace(orpo_tomato.RATIO, steps=1, rounds=1) if only_watched else orpo_tomato.RATIO
    config = orpo_tomato.Config(arms=(arm,), runs=RUNS, iterations=iterations, evaluations=1, ratio=ratio)
    found = orpo_tomato.run(config, seed=0)
    return {name.removeprefix(f"{arm.name}/"): value for name, value in found.items()}


def runs_of(kind: str, strength: float | None) -> list[tuple[float, float]]:
    """True and proxy return of each of the five runs."""
    found = learned(kind, strength)
    return [(found[f"eval/true_{k}"], found[f"eval/proxy_{k}"]) for k in range(RUNS)]


def shown(runs: list[tuple[float, float]], count: int) -> str:
    """How many runs hold, and the returns of all."""
    return f"{count} of {RUNS}: " + ", ".join(f"{true:.2f}/{proxy:.2f}" for true, proxy in runs)


@row(
    SYSTEM, "learn-tomato", "ORPO at lambda* from random starts, 240 000 steps: true return >= 9.3", "4 of 5", slow=True
)
def learn_tomato() -> Measurement:
    runs = runs_of("sqrt_chi2", None)
    count = sum(true >= 9.3 for true, _ in runs)
    return Measurement("4 of 5", shown(runs, count), count >= 4)


@row(SYSTEM, "collapse", "the same without the penalty: true <= 2.5, proxy >= 47 of 47.36", "4 of 5", slow=True)
def collapse() -> Measurement:
    runs = runs_of("none", None)
    count = sum(true <= 2.5 and proxy >= 47.0 for true, proxy in runs)
    return Measurement("4 of 5", shown(runs, count), count >= 4)


@row(SYSTEM, "beats-kl", "mean true return less that of KL on occupancies at its best lambda, .1", ">= 1.2", slow=True)
def beats_kl() -> Measurement:
    return at_least(learned("sqrt_chi2", None)["eval/true"] - learned("kl", 0.1)["eval/true"], 1.2)


@row(SYSTEM, "beats-ad-kl", "the same against KL on actions at its best lambda, 2", "> 0", slow=True)
def beats_ad_kl() -> Measurement:
    return at_least(learned("sqrt_chi2", None)["eval/true"] - learned("ad_kl", 2.0)["eval/true"], 1e-6)


def watched(kind: str, temperature: float, iterations: int) -> dict[str, float]:
    """What one run of the garden was certified."""
    config = orpo_tomato.Config(temperature=temperature, iterations=iterations)
    return hacking_runs.estimates(config, Arm(kind), seed=1).figures()  # type: ignore[arg-type]


@row(
    SYSTEM,
    "detection-learned",
    "batches of learning without a penalty, tau .25 and .15: hacked and certified; last certificates at lambda*",
    "0 missed, > 0",
    slow=True,
)
def detection_learned() -> Measurement:
    free = [watched("none", temperature, 50) for temperature in (0.25, 0.15)]
    held = [watched("sqrt_chi2", temperature, 60)["last certificate"] for temperature in (0.25, 0.15)]
    hacked, missed = (sum(f[name] for f in free) for name in ("hacked", "hacked and certified"))
    got = f"{missed:.0f} missed of {hacked:.0f}; certificates {held[0]:.3f} and {held[1]:.3f}"
    return Measurement("0 missed, > 0", got, missed == 0 and hacked > 10 and min(held) > 0.0)


@row(SYSTEM, "bandit", "gold of the bandit: least along sqrt(chi^2), and last without penalty, 5 seeds", ">= 0, < 0")
def bandit() -> Measurement:
    found = [orpo_bandit.run(orpo_bandit.Config(), seed) for seed in range(5)]
    held = min(f["sqrt_chi2/gold lowest"] for f in found)
    free = max(f["none/gold"] for f in found)
    return Measurement(">= 0 and < 0", f"{held:.3f} and {free:.3f}", held >= -1e-9 and free < 0.0)


@row(SYSTEM, "ppo-speed", "PPO's whole training over SB3's on the pendulum, each on its own vector", ">= 3", slow=True)
def ppo_speed() -> Measurement:
    found = ppo.rates(rounds=3, compiled=False)
    ratios = sorted(a / b for a, b in zip(found["rlcore Ppo"], found["sb3 PPO, DummyVecEnv"], strict=True))
    return at_least(ratios[len(ratios) // 2], 3.0)
