"""The price of an option learned from paths: least squares, the martingale loss and CTD(0) beside the formula.

rlcore run black_scholes quick
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rlcore.agents.martingale import (
    Clstd,
    ClstdConfig,
    Ctd,
    CtdConfig,
    LinearMartingaleLoss,
    MartingaleLossConfig,
)
from rlcore.envs.finance.black_scholes import BlackScholes, BlackScholesConfig, formula
from rlcore.functional.increments import Exponential
from rlcore.reporting.lines import Chart, Line, plot_charts
from rlcore.simulation import Feedback, begin, rollout
from rlcore.simulation.modes import Mode
from rlcore.training import PathSource
from rlcore.training.recorder import SILENT, Recorder

WIDTHS = (0.1, 0.15, 0.25, 0.3)
"""Volatilities of the shapes that serve as features; the true one, 0.2, is not among them."""


@dataclass(frozen=True)
class Config:
    """Settings of the experiment."""

    dt: float = 0.01
    """Time between observations [year]."""
    paths: int = 20_000
    """Paths in all."""
    batches: int = 4
    """Parts in which they are simulated."""
    gradient_steps: int = 200
    """Batches of 1024 fresh paths for CTD(0)."""
    mode: Mode = "eager"
    """How rollouts are carried out: 'eager', 'compiled', 'graph' on a GPU, or 'auto', by device and size."""


PRESETS = {"quick": Config(), "paper": Config(paths=100_000, batches=10, gradient_steps=1000)}


def make_env(dt: float) -> BlackScholes:
    """A call struck at 1, prices at the start uniform in [0.8, 1.2]."""
    return BlackScholes(BlackScholesConfig(dt=dt), dtype=torch.float64)


def shapes(obs: Tensor) -> Tensor:  # [..., 2] (price, remaining time) -> [..., 4]
    """Prices of the option at the wrong volatilities: smooth in x, kinked at the end, linear far away."""
    config = BlackScholesConfig()
    x, remaining = obs[..., 0].clamp(min=1e-9), obs[..., 1]
    return torch.stack([formula(x, remaining, config, width) for width in WIDTHS], dim=-1)


class PriceAtVolatility(nn.Module):
    """The formula itself with its volatility unknown: a parametric form, [..., 2] -> [...]."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.log_volatility = nn.Parameter(torch.tensor(math.log(start), dtype=torch.float64))

    def forward(self, obs: Tensor) -> Tensor:
        config, spread = BlackScholesConfig(), torch.exp(self.log_volatility)
        x, s = obs[..., 0].clamp(min=1e-9), obs[..., 1].clamp(min=1e-9)
        width = spread * torch.sqrt(s)
        upper = (torch.log(x) + config.growth * s) / width + 0.5 * width
        value: Tensor = x * torch.special.ndtr(upper)
        paid: Tensor = torch.exp(-config.discount_rate * s) * torch.special.ndtr(upper - width)
        return value - paid


def grid() -> Tensor:
    """Prices 0.8 ... 1.2 at time 0, as observations [41, 2]."""
    x = torch.linspace(0.8, 1.2, 41, dtype=torch.float64)
    return torch.stack([x, torch.ones_like(x)], dim=-1)


def linear_prices(config: Config, seed: int) -> dict[str, Clstd | LinearMartingaleLoss]:
    """CLSTD(0) and the martingale loss on the same paths, in closed form."""
    env, policy = make_env(config.dt), Feedback(lambda obs: obs[:, :1])
    rate = env.spec.discount_rate
    agents: dict[str, Clstd | LinearMartingaleLoss] = {
        "CLSTD(0)": Clstd(policy.act, shapes, len(WIDTHS), ClstdConfig(rate), rule=Exponential),
        "martingale loss": LinearMartingaleLoss(policy.act, shapes, len(WIDTHS), MartingaleLossConfig(rate)),
    }
    per_batch = config.paths // config.batches
    for k in range(config.batches):
        start = begin(env, per_batch, seed=seed, first_row=k * per_batch)
        batch = rollout(env, policy, start, round(env.config.horizon / config.dt), mode=config.mode)[0]
        for agent in agents.values():
            agent.update(batch)
    return agents


def gradient_price(config: Config, seed: int) -> PriceAtVolatility:
    """CTD(0) for the formula with unknown volatility, from 0.4."""
    env = make_env(config.dt)
    value = PriceAtVolatility(0.4)
    agent = Ctd(lambda obs: obs[:, :1], value, CtdConfig(env.spec.discount_rate, learning_rate=20.0), rule=Exponential)
    agent.learn(PathSource(env, 1024, round(1.0 / config.dt), seed=seed + 1, mode=config.mode), config.gradient_steps)
    return value


def run(config: Config, seed: int, recorder: Recorder = SILENT) -> dict[str, float]:
    """Learn the price three ways; returns the root-mean-square errors over prices 0.8 ... 1.2 and the price at 1."""
    obs = grid()
    truth = make_env(config.dt).value(torch.zeros_like(obs[:, 0]), obs[:, 0])
    found = {name: agent.value(obs) for name, agent in linear_prices(config, seed).items()}
    form = gradient_price(config, seed)
    found["CTD(0), volatility"] = form(obs).detach()
    errors = {name: float((price - truth).square().mean().sqrt()) for name, price in found.items()}
    figure = recorder.figure_path("black_scholes")
    if figure is not None:
        x = obs[:, 0].tolist()
        known = Line("formula", x, truth.tolist(), theory=True)
        prices = [Line(name, x[::4], price.tolist()[::4]) for name, price in found.items()]
        gaps = [Line(name, x, (price - truth).tolist()) for name, price in found.items()]
        about = f"{config.paths} paths, dt {config.dt:g} year"
        plot_charts(
            [
                Chart("Price of a call", about, "price of the stock", "value", [*prices, known], False, False),
                Chart("Error", about, "price of the stock", "learned - formula", gaps, False, False, 0.0),
            ],
            figure,
        )
    return recorder.finish(
        {f"eval/rmse_{name}": error for name, error in errors.items()}
        | {f"eval/at_1_{name}": float(price[20]) for name, price in found.items()}
        | {"eval/volatility": float(form.log_volatility.detach().exp())}
    )
