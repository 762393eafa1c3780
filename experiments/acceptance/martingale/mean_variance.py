"""Mean-variance investment: the published table of Sharpe ratios, and what is known of its optimum."""

from __future__ import annotations

from dataclasses import replace

import torch

from rlcore.experiments.mean_variance import (
    CELLS,
    PRESETS,
    learned_moments,
    make_env,
    run_cell,
    simulated_moments,
    train,
)
from rlcore.reporting.acceptance import Measurement, row

SYSTEM = "martingale"
CELL = next(cell for cell in CELLS if (cell.stock_return, cell.volatility) == (0.3, 0.2))


@row(
    SYSTEM,
    "15",
    "mean-variance, return .3, volatility .2, actor-critic: mean, Sharpe ratio of its policy; mean of 20 000 paths",
    ".02; >= 2.3; .02",
)
def one_cell() -> Measurement:
    config = PRESETS["quick"]
    env = make_env(CELL, config)
    agent, multiplier = train(CELL, config, seed=0)
    found = learned_moments(env, agent, multiplier)
    with torch.no_grad():  # the sampled Sharpe ratio has tails so heavy that 20 000 paths give it to 10 % only
        paths = simulated_moments(env, lambda obs: agent.act(obs), 20_000, seed=1)
    passed = max(abs(found.mean - 1.40), abs(paths.mean - 1.40)) <= 0.02 and found.sharpe >= 2.3
    return Measurement(
        f"1.4; optimum {env.rebalanced_sharpe_ratio():.3f}, published {CELL.offline}; 1.4",
        f"{found.mean:.4f}; {found.sharpe:.4f}; {paths.mean:.4f}",
        passed,
    )


@row(
    SYSTEM,
    "15-history",
    "the same from one history of 20 years, as published: mean and Sharpe ratio, averaged over 3 histories",
    ".1; >= 1.78",
)
def one_history() -> Measurement:
    found = run_cell(CELL, replace(PRESETS["quick"], history_years=20, repeats=3), seed=0)
    mean, sharpe = found.mean("mean"), found.mean("sharpe")
    passed = abs(mean - 1.40) <= 0.1 and sharpe >= CELL.offline
    return Measurement(f"{CELL.mean}; {CELL.offline}", f"{mean:.4f}; {sharpe:.4f}", passed)


@row(
    SYSTEM,
    "mean-variance-cells",
    "mean-variance, all 14 cells, one setting: least Sharpe ratio / published; / optimum where |rho| <= 1.4",
    ">= 1; >= .9",
    slow=True,
)
def all_cells() -> Measurement:
    config = replace(PRESETS["quick"], repeats=1)
    results = [run_cell(cell, config, seed=0) for cell in CELLS]
    published = min(r.mean("sharpe") / r.cell.offline for r in results)
    near = [r for r in results if abs(make_env(r.cell, config).config.sharpe_rate) <= 1.4 + 1e-9]
    share = min(r.mean("sharpe") / r.optimum for r in near)
    return Measurement(">= 1; >= 0.9", f"{published:.3f}; {share:.4f}", published >= 1.0 and share >= 0.9)
