"""A bandit like fine-tuning on a reward model: the gold reward falls while the proxy rises, unless chi-square holds it.

rlcore run orpo_bandit quick
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from rlcore.checks import check_integer, check_not_negative, check_positive
from rlcore.errors import ConfigError
from rlcore.functional.occupancy import best_lambda, chi_squared, moments, penalty
from rlcore.reporting.lines import Chart, Line, plot_charts
from rlcore.seeding import Streams
from rlcore.training.recorder import SILENT, Recorder

LEAST = 0.05  # of the root of chi^2, whose gradient is steep at the reference itself
FLAT: dict[str, bool] = {"log_x": False, "log_y": False}


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    contexts: int = 8
    """Prompts, equally likely."""
    responses: int = 256
    """Responses to each; one is a whole text, so that its occupancy is its probability."""
    spread: float = 1.0
    """Standard deviation of the reference's logits [nats]."""
    agreement: float = 0.8
    """Share of the gold reward in the proxy's deviation on common responses."""
    exploits: int = 4
    """Responses to each prompt that the reference all but never gives, bad ones that the proxy takes for excellent."""
    rarity: float = 4.0
    """How far the logits of those lie below the mean [nats]."""
    mistake: float = 6.0
    """The proxy of those, and the negative of half their gold reward [deviations of the gold reward]."""
    kl: float = 0.6
    """lambda of the KL arm [deviations of the gold reward]."""
    steps: int = 400
    """Steps of exact natural policy gradient."""
    rate: float = 0.02
    """Size of a step per deviation of the gold reward [nats]."""
    evaluations: int = 40
    """Points of each curve, at which everything is exact."""


PRESETS = {"quick": Config(), "paper": Config(contexts=32, responses=1024, steps=2000, evaluations=100)}
ARMS = ("none", "kl", "sqrt_chi2")


@dataclass(frozen=True)
class Bandit:
    """Log-probabilities of the reference, gold reward and proxy, [C, n] each."""

    log_base: Tensor
    gold: Tensor
    proxy: Tensor

    @property
    def base(self) -> Tensor:
        """The occupancy of the reference."""
        return self.log_base.exp() / len(self.log_base)


def bandit(config: Config, seed: int) -> Bandit:
    """Both rewards are normal and correlate on common responses; on the exploits they are opposed."""
    generator = Streams(seed)["bandit"]
    shape = config.contexts, config.responses

    def normal() -> Tensor:
        return torch.randn(shape, dtype=torch.float64, generator=generator)

    logits, gold, error = config.spread * normal(), normal(), normal()
    proxy = config.agreement * gold + math.sqrt(1.0 - config.agreement**2) * error
    logits[:, : config.exploits] = -config.rarity
    proxy[:, : config.exploits], gold[:, : config.exploits] = config.mistake, -0.5 * config.mistake
    return Bandit(torch.log_softmax(logits, -1), gold, proxy)


def climb(game: Bandit, arm: str, config: Config, strength: float) -> list[dict[str, float]]:
    """Natural policy gradient, log pi += rate (P - penalty), from the reference; what is known at every checkpoint."""
    log_pi, found = game.log_base, []
    every = max(1, config.steps // config.evaluations)
    for step in range(config.steps + 1):
        if step % every == 0 or step == config.steps:
            found.append({"step": float(step), **measure(game, log_pi)})
        reward, d = game.proxy, log_pi - game.log_base
        if arm != "none":
            root = (log_pi.exp() * torch.expm1(d)).sum(-1).mean().clamp(min=LEAST**2).sqrt()
            reward = reward - strength * penalty("sqrt_chi2" if arm == "sqrt_chi2" else "kl", d, root)
        log_pi = torch.log_softmax(log_pi + config.rate * reward, -1)
    return found


def measure(game: Bandit, log_pi: Tensor) -> dict[str, float]:
    """Gains of both rewards over the reference, the divergence and the certificate."""
    mu, base = log_pi.exp() / len(log_pi), game.base
    known = moments(game.proxy, game.gold, base)
    gold = ((mu * game.gold).sum() - known.true_mean) / known.true_sd
    p = ((mu * game.proxy).sum() - known.proxy_mean) / known.proxy_sd
    c = chi_squared(mu, base).clamp(min=1e-12).sqrt()
    needed = math.sqrt(1.0 - float(known.correlation) ** 2)
    return {"gold": float(gold), "proxy": float(p), "root": float(c), "certificate": float(p / c) - needed}


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Every arm from the same reference; gains in deviations on the reference."""
    check_integer("contexts, responses, steps", config.contexts, config.responses, config.steps)
    check_positive("rate", config.rate)
    check_not_negative("kl", config.kl)
    if min(config.contexts, config.steps, config.evaluations) < 1 or config.responses < 2:
        raise ConfigError("need at least one context, step and evaluation, and two responses")
    if not 0 <= config.exploits < config.responses:
        raise ConfigError(f"exploits must be fewer than the {config.responses} responses, got {config.exploits}")
    if not 0.0 < config.agreement < 1.0:
        raise ConfigError(f"agreement must lie in (0, 1), got {config.agreement}")
    game = bandit(config, seed)
    known = moments(game.proxy, game.gold, game.base)
    strength = best_lambda(float(known.proxy_sd), float(known.correlation))
    result = {"r": float(known.correlation), "lambda": strength} | baselines(game)
    curves: dict[str, list[dict[str, float]]] = {}
    for arm in ARMS:
        lam = {"none": 0.0, "kl": config.kl, "sqrt_chi2": strength}[arm]
        curve = curves[arm] = climb(game, arm, config, lam)
        child = recorder.child(arm, arm=arm)
        for row in curve:
            child.log(int(row["step"]), {f"eval/{k}": v for k, v in row.items() if k != "step"})
        child.finish({name: value for name, value in curve[-1].items() if name != "step"})
        golds = [row["gold"] for row in curve]
        result |= {f"{arm}/{name}": curve[-1][name] for name in ("gold", "proxy", "root", "certificate")}
        result |= {f"{arm}/gold lowest": min(golds), f"{arm}/gold highest": max(golds)}
    figure = recorder.figure_path("orpo_bandit")
    if figure is not None:
        plot_charts(charts(config, curves, result), figure)
    return recorder.finish(result)


def baselines(game: Bandit) -> dict[str, float]:
    """Gold and proxy gain of what needs no learning: uniform responses, the likeliest, the best by either reward."""
    n = game.gold.shape[1]

    def always(score: Tensor) -> Tensor:
        return (torch.nn.functional.one_hot(score.argmax(-1), n).double() + 1e-300).log()

    policies = {
        "uniform": torch.full_like(game.gold, -math.log(n)),
        "likeliest": always(game.log_base),
        "best by gold": always(game.gold),
        "best by proxy": always(game.proxy),
    }
    found = {name: measure(game, log_pi) for name, log_pi in policies.items()}
    return {f"baseline/{name}/{key}": row[key] for name, row in found.items() for key in ("gold", "proxy")}


def charts(config: Config, curves: Mapping[str, list[dict[str, float]]], result: Mapping[str, float]) -> list[Chart]:
    """Gains and the certificate against steps."""
    subtitle = f"{config.contexts} prompts, {config.responses} responses, r = {result['r']:.2f} on the reference"

    def lines(column: str) -> list[Line]:
        return [Line(arm, [row["step"] for row in c], [row[column] for row in c]) for arm, c in curves.items()]

    gain = "gain [deviations on the reference]"
    return [
        Chart("Proxy", subtitle, "steps of ascent", gain, lines("proxy"), **FLAT),
        Chart("Gold reward", subtitle, "steps of ascent", gain, lines("gold"), known=0.0, **FLAT),
        Chart(
            "Certificate", subtitle, "steps of ascent", "kappa - sqrt(1 - r²)", lines("certificate"), known=0.0, **FLAT
        ),
    ]
