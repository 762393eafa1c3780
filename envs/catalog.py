"""The environments by id, as plain data: listing them imports no environment and no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """One registered environment."""

    environment: str
    """Where its class is, "module:name"."""
    config: str
    """Where its settings are, "module:name": a config class, or one named set of values."""
    summary: str
    """What it is, in one line."""


_LQR, _MATRIX = "rlcore.envs.control.lqr", "rlcore.envs.control.matrix_lqr"
_FINITE = "rlcore.envs.control.finite_horizon_lqr"
_OU, _PENDULUM = "rlcore.envs.control.ornstein_uhlenbeck", "rlcore.envs.control.pendulum"
_WEALTH = "rlcore.envs.finance.mean_variance"
_STOPPED, _PRICE = "rlcore.envs.control.stopped_brownian", "rlcore.envs.finance.black_scholes"
_MERTON = "rlcore.envs.finance.merton"

CATALOG: dict[str, Entry] = {
    "rlcore/BlackScholes-v0": Entry(
        f"{_PRICE}:BlackScholes", f"{_PRICE}:BlackScholesConfig", "Policy evaluation of a payoff: an option's price"
    ),
    "rlcore/ErgodicLqr-v0": Entry(
        f"{_LQR}:ScalarLqr", f"{_LQR}:ERGODIC", "Linear-quadratic, reward per second; the action scales the noise"
    ),
    "rlcore/FiniteHorizonLqr-v0": Entry(
        f"{_FINITE}:FiniteHorizonLqr",
        f"{_FINITE}:FiniteHorizonLqrConfig",
        "Linear-quadratic with an end and a terminal cost",
    ),
    "rlcore/LqrB-v0": Entry(
        f"{_LQR}:ScalarLqr",
        f"{_LQR}:LQ_B",
        "Linear-quadratic, unstable without control; shows the bias of the time step",
    ),
    "rlcore/MatrixLqr-v0": Entry(
        f"{_MATRIX}:MatrixLqr", f"{_MATRIX}:MatrixLqrConfig", "Linear-quadratic of any size, drawn from a seed"
    ),
    "rlcore/MeanVariance-v0": Entry(
        f"{_WEALTH}:MeanVariance", f"{_WEALTH}:MeanVarianceConfig", "Wealth with a target mean and least variance"
    ),
    "rlcore/Merton-v0": Entry(
        f"{_MERTON}:Merton", f"{_MERTON}:MertonConfig", "Share of wealth in a stock, for the utility at the end"
    ),
    "rlcore/MertonConsumption-v0": Entry(
        f"{_MERTON}:MertonConsumption",
        f"{_MERTON}:MertonConsumptionConfig",
        "Share of wealth in a stock and consumption on the way",
    ),
    "rlcore/OrnsteinUhlenbeck-v0": Entry(
        f"{_OU}:OrnsteinUhlenbeck", f"{_OU}:OrnsteinUhlenbeckConfig", "Policy evaluation on a mean-reverting process"
    ),
    "rlcore/Pendulum-v0": Entry(
        f"{_PENDULUM}:Pendulum", f"{_PENDULUM}:PendulumConfig", "Swing a pendulum up and hold it, in continuous time"
    ),
    "rlcore/ScalarLqr-v0": Entry(
        f"{_LQR}:ScalarLqr",
        f"{_LQR}:ScalarLqrConfig",
        "Linear-quadratic, discounted, noise that scales with state and action",
    ),
    "rlcore/StoppedBrownian-v0": Entry(
        f"{_STOPPED}:StoppedBrownian", f"{_STOPPED}:StoppedBrownianConfig", "Policy evaluation until the exit"
    ),
}
