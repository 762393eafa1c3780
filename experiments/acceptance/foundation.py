"""What the framework itself claims: solvers, integrators, noise, evaluation and the first control agent."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from rlcore.agents.martingale import Clstd, ClstdConfig, Ctd, CtdConfig
from rlcore.data import Trajectory
from rlcore.envs.control.lqr import ERGODIC, LQ_B, ScalarLqr, ScalarLqrConfig
from rlcore.envs.control.matrix_lqr import random_lq
from rlcore.envs.control.ornstein_uhlenbeck import OrnsteinUhlenbeck, OrnsteinUhlenbeckConfig
from rlcore.envs.control.pendulum import Pendulum
from rlcore.envs.finance.mean_variance import MeanVariance, MeanVarianceConfig
from rlcore.experiments import ergodic_lqr
from rlcore.experiments.exact_samples import balanced_steps
from rlcore.experiments.integrator_orders import THEORY, exact_linear, weak_errors
from rlcore.functional.linear_quadratic import hjb_residual, solve_stationary
from rlcore.nn.mlp import LinearInFeatures
from rlcore.reporting.acceptance import Measurement, at_most, each_within, largest_difference, row, within
from rlcore.simulation import Feedback, begin, rollout
from rlcore.simulation.noise import philox
from rlcore.training import PathSource

STATES = np.linspace(-2.0, 2.0, 9)[:, None]


@row("foundation", "lq-ergodic", "ergodic LQ: k2, k1, gain, offset, variance, reward with entropy, V*", "1e-6 abs")
def lq_ergodic() -> Measurement:
    """Closed forms: k2 = (1 - sqrt 7) / 2, and what follows from it."""
    best = ScalarLqr(ERGODIC).solution()
    k2 = 0.5 * (1.0 - math.sqrt(7.0))
    k1, precision = -0.2915026, 2.0 - k2
    got = [best.K.item(), best.k.item(), best.gain.item(), best.offset.item(), best.covariance.item()]
    got += [best.value_per_second, ergodic_lqr.average_reward_optimum(ScalarLqr(ERGODIC))]
    expected = [k2, k1, -1.0 / precision, -2.0 / precision, 0.1 / precision, 0.6333742, 2.0 / precision]
    return at_most(largest_difference(got, expected), 1e-6)


@row("foundation", "lq-discounted", "discounted LQ: k2, k1, gain, offset, variance, beta k0", "1e-6 abs")
def lq_discounted() -> Measurement:
    best = ScalarLqr(ScalarLqrConfig()).solution()
    got = [best.K.item(), best.k.item(), best.gain.item(), best.offset.item(), best.covariance.item(), 0.7 * best.k0]
    expected = [-0.7510572, 0.0255193, -0.8402160, -0.2450350, 0.1785445, 0.0451247]
    return at_most(largest_difference(got, expected), 1e-6)


@row("foundation", "lq-b", "LQ-B: k2, k0, closed loop", "1e-6 abs")
def lq_b() -> Measurement:
    best = ScalarLqr(LQ_B).solution()
    got = [best.K.item(), best.k0, 0.5 + best.gain.item()]
    return at_most(largest_difference(got, [-1.2807764, -0.3666649, -0.7807764]), 1e-6)


@row("foundation", "lq-hjb", "HJB residual of the scalar sets and of 5 random matrix problems", "1e-10")
def lq_hjb() -> Measurement:
    residuals = []
    for config in (ERGODIC, LQ_B, ScalarLqrConfig()):
        problem = ScalarLqr(config).problem()
        residuals.append(np.abs(hjb_residual(problem, solve_stationary(problem), STATES)).max())
    for seed in range(5):
        problem = random_lq(3, 2, seed)
        states = np.random.default_rng(seed).standard_normal((8, 3))
        residuals.append(np.abs(hjb_residual(problem, solve_stationary(problem), states)).max())
    return at_most(float(max(residuals)), 1e-10)


@row("foundation", "orders", "strong, weak and deterministic order of every integrator", "within .1 of theory")
def orders() -> Measurement:
    found = {name: (order, measure()) for name, (order, measure) in THEORY.items()}
    worst = max(found, key=lambda name: abs(found[name][0] - found[name][1]))
    deviation = abs(found[worst][0] - found[worst][1])
    return Measurement("<= 0.1", f"{deviation:.3f} ({worst})", deviation <= 0.1)


@row("foundation", "exact-linear", "ExactLinear has the exact second moment in one step of 1 s and in 8", "1e-12")
def exact_moments() -> Measurement:
    return at_most(max(weak_errors(exact_linear(), additive=True, counts=(1, 8))), 1e-12)


@row("foundation", "philox", "the published known answers of Philox4x32-10", "equal")
def known_answers() -> Measurement:
    expected = "6627e8d5 e169c58d bc57ac4c 9b00dbd8 408f276d 41c83b0e a20bc7c6 6d5451fd"
    words: list[Tensor] = []
    for value in (0, 0xFFFFFFFF):
        word = torch.tensor([value])
        words += philox((word, word, word, word), (value, value))
    got = " ".join(f"{int(word):08x}" for word in words)
    return Measurement(expected, got, got == expected)


@row(
    "foundation", "noise-invariance", "a path does not depend on its batch or on the steps per call", "0 differing bits"
)
def noise_invariance() -> Measurement:
    env, policy = ScalarLqr(LQ_B), Feedback(lambda x: -x)
    whole, _ = rollout(env, policy, begin(env, 100, seed=5), 60)
    stand, parts = begin(env, 7, seed=5, first_row=40), []
    for count in (1, 22, 37):
        part, stand = rollout(env, policy, stand, count)
        parts.append(part.obs[1:])
    return within(float((torch.cat(parts) != whole.obs[1:, 40:47]).sum()), 0.0, 0.0)


def features(x: Tensor) -> Tensor:  # [..., 1] -> [..., 2]
    """(x^2, 1), which span the true value function."""
    return torch.cat([x**2, torch.ones_like(x)], dim=-1)


def clstd_error(dt: float, trajectory: Trajectory) -> float:
    """theta_1 of CLSTD(0) on one batch, minus the truth."""
    agent = Clstd(torch.zeros_like, features, 2, ClstdConfig(discount_rate=0.5))
    agent.update(trajectory)
    return float(agent.theta[0]) - OrnsteinUhlenbeck(OrnsteinUhlenbeckConfig(dt=dt)).theta()[0]


@row("foundation", "clstd-slope", "CLSTD(0) on OU: slope of the error of theta_1 in dt, from balanced samples", "± .05")
def clstd_slope() -> Measurement:
    steps = (0.2, 0.1, 0.05, 0.02, 0.01)
    errors = [clstd_error(dt, balanced_steps(dt)) for dt in steps]
    return within(float(np.polyfit(np.log(steps), np.log(np.abs(errors)), 1)[0]), 1.0, 0.05)


@row("foundation", "clstd-bias", "CLSTD(0) on OU: error of theta_1 at dt .1 and .01, from balanced samples", "1 %")
def clstd_bias() -> Measurement:
    got = [clstd_error(dt, balanced_steps(dt)) for dt in (0.1, 0.01)]
    passed = all(abs(g - e) <= 0.01 * e for g, e in zip(got, (3.240e-2, 3.204e-3), strict=True))
    return Measurement("3.240e-2, 3.204e-3", ", ".join(f"{value:.3e}" for value in got), passed)


def sampled_error(dt: float, seconds: float, seed: int) -> float:
    """The same from 4096 sampled paths of together `seconds` of physical time."""
    env = OrnsteinUhlenbeck(OrnsteinUhlenbeckConfig(dt=dt, horizon=math.inf), dtype=torch.float64)
    agent = Clstd(torch.zeros_like, features, 2, ClstdConfig(discount_rate=0.5))
    paths, stand, per_call = 4096, begin(env, 4096, seed=seed), 50
    for _ in range(math.ceil(seconds / (paths * dt * per_call))):
        trajectory, stand = rollout(env, Feedback(torch.zeros_like), stand, per_call)
        agent.update(trajectory)
    return float(agent.theta[0]) - env.theta()[0]


@row(
    "foundation",
    "clstd-sampled",
    "CLSTD(0) on OU, 10^6 s of sampled paths: error of theta_1 at dt .1 and .01",
    "3 s.d. = 2.15 / sqrt(T)",
)
def clstd_sampled() -> Measurement:
    seconds, expected = 1e6, (3.240e-2, 3.204e-3)
    got = [sampled_error(dt, seconds, seed=1) for dt in (0.1, 0.01)]
    passed = all(abs(g - e) <= 2.15 / math.sqrt(seconds) for g, e in zip(got, expected, strict=True))
    return Measurement("3.240e-2, 3.204e-3", ", ".join(f"{value:.3e}" for value in got), passed)


@row("foundation", "ctd", "CTD(0) on OU at dt .1 settles where CLSTD(0) solves: theta_1, theta_0", "± .02")
def ctd() -> Measurement:
    """Stochastic approximation and linear solve have the same fixed point."""
    env = OrnsteinUhlenbeck(OrnsteinUhlenbeckConfig(dt=0.1), dtype=torch.float64)
    value = LinearInFeatures(features, 2, dtype=torch.float64)
    agent = Ctd(torch.zeros_like, value, CtdConfig(learning_rate=0.3, decay=False))
    agent.learn(PathSource(env, paths=4000, path_steps=10, seed=0), 150)
    return each_within(value.theta.tolist(), env.clstd_fixed_point(0.1), (0.02, 0.02))


@row("foundation", "pendulum-hjb", "pendulum: V hanging, level and at 1 rad, from the grid solution", "1 %, .1 %, .1 %")
def pendulum_value() -> Measurement:
    """The figures of a 481 x 481 grid."""
    angles = torch.tensor([math.pi, 0.5 * math.pi, 1.0])
    got = Pendulum().optimal_value(angles, torch.zeros(3)).tolist()
    expected = (-6.751, -3.728, -3.223)
    return each_within(got, expected, [share * abs(e) for share, e in zip((0.01, 1e-3, 1e-3), expected, strict=True)])


@row(
    "foundation",
    "mean-variance",
    "mean-variance: w*, variance, daily Sharpe ratio at mu .3, sigma .2",
    "1e-6, 1e-6, 1e-3",
)
def mean_variance() -> Measurement:
    """Closed forms against their published values."""
    env = MeanVariance(MeanVarianceConfig(stock_return=0.3, volatility=0.2))
    got = (env.optimal_multiplier(), env.terminal_variance(0.0), env.rebalanced_sharpe_ratio(252))
    expected = (1.465581, 0.026232, 2.459)
    return each_within(got, expected, (1e-6, 1e-6, 1e-3))


@row(
    "foundation",
    "q-learning",
    "ergodic q-learning, rate x 10 on the variance: gain, offset, variance, policy reward",
    "see expected",
)
def q_learning() -> Measurement:
    found = ergodic_lqr.run(ergodic_lqr.PRESETS["paper"], seed=0)
    got = [found[f"eval/{name}"] for name in ("gain", "offset", "variance", "policy_reward")]
    passed = (
        abs(got[0] + 0.354) <= 0.04
        and abs(got[1] + 0.708) <= 0.02
        and abs(got[2] - 0.0354) <= 0.001
        and got[3] >= 0.655
    )
    return Measurement(
        "-.354 ± .04, -.708 ± .02, .0354 ± .001, >= .655", ", ".join(f"{value:.4f}" for value in got), passed
    )


@row("foundation", "held-state", "an ended path is absorbed: its state stays and it earns nothing", "0")
def absorbed() -> Measurement:
    env = MeanVariance()
    steps = round(env.spec.horizon / env.spec.dt)
    trajectory, end = rollout(env, Feedback(lambda x: 0.5 + 0.0 * x[:, :1]), begin(env, 64, seed=0), steps + 5)
    late = trajectory.reward[steps:].abs().sum() + (trajectory.obs[steps + 1 :, :, 0] - end.env.x[:, 0]).abs().sum()
    early = float(trajectory.terminated[: steps - 1].sum())
    return at_most(float(late) + early, 0.0)


@row(
    "foundation",
    "policy-reward",
    "simulated reward of the optimal ergodic policy beside its closed form",
    "4 standard errors",
)
def simulated_reward() -> Measurement:
    from rlcore.reporting.evaluation import evaluate

    env = ScalarLqr(replace(ERGODIC, dt=0.01, substeps=1))
    found = evaluate(env.optimal_policy(), env, paths=1024, steps=2000, burn_in=5.0, deterministic=False)
    error = float(found.average_reward.std() / math.sqrt(len(found.average_reward)))
    best = env.solution()
    exact = env.average_reward(best.gain.item(), best.offset.item(), best.covariance.item())
    return within(found.mean_average_reward, exact, 4.0 * error + 0.002)


@row(
    "foundation",
    "policy-optimum",
    "the closed form of the optimal stochastic policy's reward is V* - gamma / 2",
    "1e-9",
)
def optimum() -> Measurement:
    env = ScalarLqr(ERGODIC)
    best = env.solution()
    exact = env.average_reward(best.gain.item(), best.offset.item(), best.covariance.item())
    return within(exact, ergodic_lqr.average_reward_optimum(env) - 0.5 * env.config.temperature, 1e-9)
