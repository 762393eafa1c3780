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


@dataclass(frozen=True)
class Foreign:
    """An environment of another library, which only Gymnasium makes: `gymnasium.make` and `gymnasium.make_vec`."""

    factory: str
    """What builds one, "module:name", given `env_id` and the settings."""
    extra: str
    """The extra to install with it: pip install 'rlcore-lab[extra]'."""
    summary: str
    """What it is, in one line."""


_LQR, _MATRIX = "rlcore.envs.control.lqr", "rlcore.envs.control.matrix_lqr"
_FINITE = "rlcore.envs.control.finite_horizon_lqr"
_CART_POLE = "rlcore.envs.control.cart_pole"
_OU, _PENDULUM = "rlcore.envs.control.ornstein_uhlenbeck", "rlcore.envs.control.pendulum"
_WEALTH = "rlcore.envs.finance.mean_variance"
_STOPPED, _PRICE = "rlcore.envs.control.stopped_brownian", "rlcore.envs.finance.black_scholes"
_MERTON = "rlcore.envs.finance.merton"
_LINEAR, _CLOSED = "rlcore.envs.affine.linear", "rlcore.envs.affine.closed_forms"
_BANDIT, _SEQUENCES = "rlcore.envs.games.bandit", "rlcore.envs.games.sequences"
_GLUCOSE, _PANDEMIC = "rlcore.envs.hacking.glucose", "rlcore.envs.hacking.pandemic"
_TRAFFIC = "rlcore.envs.hacking.traffic"
_GENERATED, _DRAWN = "rlcore.envs.affine.generated", "rlcore.envs.affine.random_converse"

CATALOG: dict[str, Entry] = {
    "rlcore/ArctanSpring-v0": Entry(
        f"{_CLOSED}:ArctanSpring",
        f"{_CLOSED}:ARCTAN_SPRING",
        "Converse HJB N3: an oscillator with an uneven spring and negative damping",
    ),
    "rlcore/BlackScholes-v0": Entry(
        f"{_PRICE}:BlackScholes", f"{_PRICE}:BlackScholesConfig", "Policy evaluation of a payoff: an option's price"
    ),
    "rlcore/CartPoleBalance-v0": Entry(
        f"{_CART_POLE}:CartPole", f"{_CART_POLE}:CART_POLE_BALANCE", "Balance a pole on a cart, in continuous time"
    ),
    "rlcore/CartPoleSwingUp-v0": Entry(
        f"{_CART_POLE}:CartPole", f"{_CART_POLE}:CART_POLE_SWING_UP", "Swing a pole on a cart up and hold it"
    ),
    "rlcore/ConverseHjb-v0": Entry(
        f"{_DRAWN}:ConverseHjb",
        f"{_DRAWN}:ConverseHjbConfig",
        "Converse HJB of any size, drawn from a seed: nonlinear, with a known optimum",
    ),
    "rlcore/CosineInput-v0": Entry(
        f"{_CLOSED}:CosineInput",
        f"{_CLOSED}:COSINE_INPUT",
        "Converse HJB N2: unstable, with an input gain cos(2 x1) + 2",
    ),
    "rlcore/CubicDecay-v0": Entry(
        f"{_CLOSED}:CubicDecay",
        f"{_CLOSED}:CUBIC_DECAY",
        "Converse HJB N4: scalar, drift -x^3, a value that no polynomial equals",
    ),
    "rlcore/CubicGrowth-v0": Entry(
        f"{_CLOSED}:CubicGrowth",
        f"{_CLOSED}:CUBIC_GROWTH",
        "Converse HJB N4: scalar, drift +x^3, infinite in finite time without control",
    ),
    "rlcore/ErgodicLqr-v0": Entry(
        f"{_LQR}:ScalarLqr", f"{_LQR}:ERGODIC", "Linear-quadratic, reward per second; the action scales the noise"
    ),
    "rlcore/F16ShortPeriod-v0": Entry(
        f"{_LINEAR}:F16ShortPeriod",
        f"{_LINEAR}:F16_SHORT_PERIOD",
        "Linear regulator: short-period motion of an aircraft",
    ),
    "rlcore/FiniteHorizonLqr-v0": Entry(
        f"{_FINITE}:FiniteHorizonLqr",
        f"{_FINITE}:FiniteHorizonLqrConfig",
        "Linear-quadratic with an end and a terminal cost",
    ),
    "rlcore/Glucose-v0": Entry(
        f"{_GLUCOSE}:Glucose",
        f"{_GLUCOSE}:GlucoseConfig",
        "Insulin for one of 30 virtual patients: treatment cost as the proxy, glycaemic risk as the truth",
    ),
    "rlcore/HyperbolicValue-v0": Entry(
        f"{_GENERATED}:HyperbolicValue",
        f"{_GENERATED}:HYPERBOLIC_VALUE",
        "Converse HJB N6: a value with cosh(x1), a growing input gain",
    ),
    "rlcore/LoadFrequency-v0": Entry(
        f"{_LINEAR}:LoadFrequency",
        f"{_LINEAR}:LOAD_FREQUENCY",
        "Linear regulator: load-frequency control of a power plant, stiff",
    ),
    "rlcore/LqrB-v0": Entry(
        f"{_LQR}:ScalarLqr",
        f"{_LQR}:LQ_B",
        "Linear-quadratic, unstable without control; shows the bias of the time step",
    ),
    "rlcore/Market-v0": Entry(
        "rlcore.envs.hacking.market:Market",
        "rlcore.envs.hacking.market:MarketConfig",
        "A stock traded on a signal: what a backtest promises as the proxy, what is left after its impact as the truth",
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
    "rlcore/Pandemic-v0": Entry(
        f"{_PANDEMIC}:Pandemic",
        f"{_PANDEMIC}:PandemicConfig",
        "Regulations for a town of 500: health and freedom as the proxy, politics come with the truth",
    ),
    "rlcore/PointMaze-v0": Entry(
        "rlcore.envs.maze.point_maze:PointMaze",
        "rlcore.envs.maze.point_maze:PointMazeConfig",
        "Push a ball through a maze to a goal: the physics of MuJoCo's PointMaze in batches",
    ),
    "rlcore/PreferenceBandit-v0": Entry(
        f"{_BANDIT}:PreferenceBandit",
        f"{_BANDIT}:PreferenceBanditConfig",
        "A preference game in each of several contexts, against an exploiter",
    ),
    "rlcore/PreferenceMatrix-v0": Entry(
        f"{_BANDIT}:PreferenceBandit",
        f"{_BANDIT}:MATRIX",
        "One preference game: rock, paper, scissors",
    ),
    "rlcore/PreferenceSequences-v0": Entry(
        f"{_SEQUENCES}:PreferenceSequences",
        f"{_SEQUENCES}:PreferenceSequencesConfig",
        "A preference game over sequences, written token by token and judged at the end",
    ),
    "rlcore/QuarticValue-v0": Entry(
        f"{_GENERATED}:QuarticValue",
        f"{_GENERATED}:QUARTIC_VALUE",
        "Converse HJB N5: a polynomial system with a value of degree 4",
    ),
    "rlcore/SaturatedInput-v0": Entry(
        f"{_GENERATED}:SaturatedInput",
        f"{_GENERATED}:SATURATED_INPUT",
        "Converse HJB N8: an input that saturates at 1/2",
    ),
    "rlcore/ScalarLqr-v0": Entry(
        f"{_LQR}:ScalarLqr",
        f"{_LQR}:ScalarLqrConfig",
        "Linear-quadratic, discounted, noise that scales with state and action",
    ),
    "rlcore/SineSystem-v0": Entry(
        f"{_CLOSED}:SineSystem",
        f"{_CLOSED}:SINE_SYSTEM",
        "Integral RL, task 2 (N1): nonlinear, with an input gain sin(x1)",
    ),
    "rlcore/StoppedBrownian-v0": Entry(
        f"{_STOPPED}:StoppedBrownian", f"{_STOPPED}:StoppedBrownianConfig", "Policy evaluation until the exit"
    ),
    "rlcore/ThirdOrderLinear-v0": Entry(
        f"{_LINEAR}:ThirdOrderLinear",
        f"{_LINEAR}:THIRD_ORDER_LINEAR",
        "Integral RL, task 1: a linear regulator of third order",
    ),
    "rlcore/Tomato-v0": Entry(
        "rlcore.envs.hacking.tomato:Tomato",
        "rlcore.envs.hacking.tomato:TomatoConfig",
        "Water tomatoes, or hack the proxy on the sprinkler: a finite problem, known exactly",
    ),
    "rlcore/Traffic-v0": Entry(
        f"{_TRAFFIC}:Traffic",
        f"{_TRAFFIC}:TrafficConfig",
        "Cars that merge from a ramp: mean speed as the proxy, everybody's time under way as the truth",
    ),
    "rlcore/TwoInputs-v0": Entry(
        f"{_GENERATED}:TwoInputs", f"{_GENERATED}:TWO_INPUTS", "Converse HJB N7: three states, two inputs"
    ),
}

_LOCOMOTION = "rlcore.envs.robotics.locomotion:make_gym"

FOREIGN: dict[str, Foreign] = {
    "rlcore/HalfCheetah-v0": Foreign(
        _LOCOMOTION, "robotics", "MuJoCo: a planar cheetah runs, at any control interval; needs the extra `robotics`"
    ),
    "rlcore/Hopper-v0": Foreign(
        _LOCOMOTION, "robotics", "MuJoCo: a leg hops forward, at any control interval; needs the extra `robotics`"
    ),
    "rlcore/Walker2d-v0": Foreign(
        _LOCOMOTION, "robotics", "MuJoCo: two legs walk, at any control interval; needs the extra `robotics`"
    ),
}
