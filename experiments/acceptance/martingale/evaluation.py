"""Policy evaluation: biases, orders, variances, the method that fails, exits and prices."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from rlcore.agents.martingale import Clstd, ClstdConfig, GradientTd, GradientTdConfig
from rlcore.agents.martingale.gradient_td import gtd2, naive
from rlcore.envs.control.lqr import ERGODIC, LQ_B, ScalarLqr, ScalarLqrConfig
from rlcore.envs.control.matrix_lqr import random_lq
from rlcore.envs.control.ornstein_uhlenbeck import OrnsteinUhlenbeck, OrnsteinUhlenbeckConfig
from rlcore.experiments import black_scholes, irregular_time
from rlcore.experiments.acceptance.foundation import sampled_error
from rlcore.experiments.convergence_in_dt import RULES, bias, mean_exit_time, slope
from rlcore.experiments.exact_samples import balanced_steps, gaussian_steps, squares
from rlcore.experiments.mstde_failure import gbm_parameters, gbm_paths, gbm_population_minimiser, ou_parameters
from rlcore.functional.increments import Left
from rlcore.functional.linear_quadratic import hjb_residual, solve_stationary
from rlcore.functional.test_functions import Trace
from rlcore.nn.gradients import per_sample_gradient
from rlcore.nn.mlp import LinearInFeatures
from rlcore.reporting.acceptance import Measurement, at_most, largest_difference, row
from rlcore.simulation import Feedback, begin, rollout

SYSTEM = "martingale"
THETA_1, THETA_0 = 0.4, 0.512


def listed(values: list[float], digits: str = ".4g") -> str:
    """Numbers as one cell of the table."""
    return ", ".join(f"{value:{digits}}" for value in values)


def relative(got: list[float], expected: list[float], tolerance: float) -> Measurement:
    """Holds when every figure is within a share of what is expected."""
    passed = all(abs(g - e) <= tolerance * abs(e) for g, e in zip(got, expected, strict=True))
    return Measurement(listed(expected), listed(got), passed)


@row(
    SYSTEM,
    "1",
    "LQ solvers: k2, gain, offset, variance of three scalar sets; HJB residual there, on 5 random and on 100 states",
    "1e-6",
)
def solvers() -> Measurement:
    got: list[float] = []
    for config in (ERGODIC, LQ_B, ScalarLqrConfig()):
        best = ScalarLqr(config).solution()
        got += [best.K.item(), best.gain.item(), best.offset.item(), best.covariance.item()]
    expected = [0.5 * (1.0 - math.sqrt(7.0)), -0.3542487, -0.7084974, 0.0354249]
    expected += [-1.2807764, -1.2807764, 0.0, 0.1, -0.7510572, -0.8402160, -0.2450350, 0.1785445]
    problems = [ScalarLqr(c).problem() for c in (ERGODIC, LQ_B, ScalarLqrConfig())]
    problems += [random_lq(4, 2, seed) for seed in range(5)]
    problems += [replace(random_lq(100, 20, 0), temperature=0.0)]  # 48^20 nodes are too many for its entropy
    worst = 0.0
    for problem in problems:
        states = torch.randn(8, len(problem.A), generator=torch.Generator().manual_seed(0), dtype=torch.float64).numpy()
        worst = max(worst, float(abs(hjb_residual(problem, solve_stationary(problem), states)).max()))
    difference = largest_difference(got, expected)
    return Measurement(
        "<= 1e-6; <= 1e-10", f"{difference:.1e}; {worst:.1e}", difference <= 1e-6 and worst <= 1e-10, "1e-6; 1e-10"
    )


@row(
    SYSTEM,
    "2",
    "CLSTD(0) on OU, exact moments: error of theta_1 at dt .1 and .01, slope; sampled, 10^6 s, at dt .1",
    "1 %",
)
def clstd() -> Measurement:
    exact, order = [bias(Left, dt) for dt in (0.1, 0.01)], slope((0.1, 0.01), [bias(Left, dt) for dt in (0.1, 0.01)])
    sampled = sampled_error(0.1, 1e6, seed=2)
    passed = all(abs(g / e - 1.0) < 0.01 for g, e in zip(exact, (3.240e-2, 3.204e-3), strict=True))
    passed = passed and abs(order - 1.0) <= 0.05 and abs(sampled - 3.240e-2) <= 2.15e-3
    return Measurement(
        "3.240e-2, 3.204e-3; 1.00; 3.240e-2",
        f"{exact[0]:.3e}, {exact[1]:.3e}; {order:.3f}; {sampled:.3e}",
        passed,
        "1 %; .05; 3 s.d. = 2.15e-3",
    )


@row(
    SYSTEM,
    "2-slow",
    "CLSTD(0) on OU, 10^7 s of sampled paths: error of theta_1 at dt .1 and .01",
    "3 s.d. = 6.8e-4",
    slow=True,
)
def clstd_sampled() -> Measurement:
    expected, got = [3.240e-2, 3.204e-3], [sampled_error(dt, 1e7, seed=3) for dt in (0.1, 0.01)]
    return Measurement(listed(expected), listed(got), largest_difference(got, expected) <= 2.15 / math.sqrt(1e7))


@row(SYSTEM, "3", "trapezoid and PhiBE-2 on OU: error of theta_1 at dt .01, slope in dt", "2 %; .1")
def second_order() -> Measurement:
    dts = (0.08, 0.04, 0.02, 0.01)
    errors = {name: [bias(RULES[name], dt) for dt in dts] for name in ("trapezoid", "PhiBE order 2")}
    got = [abs(found[-1]) for found in errors.values()]
    orders = [slope(dts, found) for found in errors.values()]
    passed = all(abs(g / e - 1.0) <= 0.02 for g, e in zip(got, (2.083e-5, 4.204e-5), strict=True))
    passed = passed and all(abs(order - 2.0) <= 0.1 for order in orders)
    return Measurement("2.083e-05, 4.204e-05; 2, 2", f"{listed(got)}; {listed(orders, '.3f')}", passed)


@row(SYSTEM, "4", "MSTDE: theta_1 / dt on OU at dt .001; theta on GBM at n = 10 ... 1000 in closed form", ".02; 1 %")
def mstde_population() -> Measurement:
    flat = ou_parameters(0.001)["MSTDE"][0] / 0.001
    expected = [-0.330, -1.012, -1.814, -2.807, -4.614, -9.342]
    got = [gbm_population_minimiser(n) for n in (10, 25, 50, 100, 252, 1000)]
    passed = abs(flat - 0.625) <= 0.02 and all(abs(g / e - 1.0) <= 0.01 for g, e in zip(got, expected, strict=True))
    return Measurement(f"0.625; {listed(expected)}", f"{flat:.4f}; {listed(got)}", passed)


@row(
    SYSTEM, "4-paths", "GBM, 2 10^4 paths, 100 steps: MSTDE; martingale loss and CTD(0) on the same paths", "2 %; .005"
)
def mstde_sampled() -> Measurement:
    found = gbm_parameters(gbm_paths(100, 20_000, seed=0))
    passed = abs(found["MSTDE"] / -2.807 - 1.0) <= 0.02
    passed = passed and all(abs(found[name] - 0.1) <= 0.005 for name in ("martingale loss", "CTD(0)"))
    return Measurement("-2.807; 0.1, 0.1", listed(list(found.values())), passed)


@row(
    SYSTEM,
    "5",
    "CLSTD(lambda), lambda .1 per second: halving dt changes theta_1 by O(dt): ratio of two halvings",
    "2 ± .3",
)
def trace_invariance() -> Measurement:
    found = []
    for dt, steps in ((0.2, 1), (0.1, 2), (0.05, 4)):
        agent = Clstd(torch.zeros_like, squares, 2, ClstdConfig(0.5), test=Trace(0.1))
        agent.update(gaussian_steps(1.0, 0.8, [dt] * steps))
        found.append(float(agent.theta[0]))
    ratio = (found[0] - found[1]) / (found[1] - found[2])
    return Measurement(2.0, ratio, abs(ratio - 2.0) <= 0.3)


def gmm_slopes(dt: float) -> tuple[float, float]:
    """The gradient by theta_1 at the true value (OU), xi = x^2: naive squared moment, and GTD2 where u settles.

    The naive one is the covariation 4 sigma^2 theta_1 E x^6 dt = 0.503 dt.
    """
    batch = balanced_steps(dt, exponent=16)
    value = LinearInFeatures(squares, 2, dtype=torch.float64)
    with torch.no_grad():
        value.theta.copy_(torch.tensor([THETA_1, THETA_0]))
    rule = Left(0.5)
    xi = per_sample_gradient(value, batch.obs[:-1])
    slopes = rule.change(lambda obs: per_sample_gradient(value, obs), batch)
    delta = (rule.change(value, batch) + rule.earned(batch)).detach().unsqueeze(-1)
    step = torch.full((1, 1, 1), dt, dtype=torch.float64)
    biased = -naive(xi[..., :1], slopes[..., :1], delta, delta, step).mean((0, 1)) * dt
    agent = GradientTd(torch.zeros_like, value, GradientTdConfig(0.5, 1e-9, 1.0))
    moment, gram = (xi * delta).mean((0, 1)), (xi.transpose(1, 2) @ xi)[0] / xi.shape[1] * dt
    agent.helper.copy_(torch.linalg.solve(gram, moment))  # where u settles
    settled = -gtd2(xi, slopes, delta, (xi @ agent.helper).unsqueeze(-1), step).mean((0, 1))
    return float(biased[0]), float(settled[0])


@row(
    SYSTEM,
    "6",
    "GMM at the true value, OU at dt .01 and .001: naive gradient / dt; two-time-scale gradient / dt",
    ".50 ± .03; O(dt)",
)
def gmm_gradient() -> Measurement:
    pairs = {dt: gmm_slopes(dt) for dt in (0.01, 0.001)}
    biased = [abs(pairs[dt][0]) / dt for dt in pairs]
    settled = [abs(pairs[dt][1]) / dt for dt in pairs]
    passed = abs(biased[1] - 0.50) <= 0.03 and settled[1] < 0.2 * settled[0]
    return Measurement("0.50, 0.50; -> 0", f"{listed(biased)}; {listed(settled)}", passed)


def increment_variances(dt: float) -> tuple[float, float]:
    """dt Var(delta / dt) of one step, and the variance of the discounted increment over .1 s divided by .1, at J."""
    env = OrnsteinUhlenbeck(OrnsteinUhlenbeckConfig(dt=dt, horizon=math.inf), dtype=torch.float64)
    window = round(0.1 / dt)

    def value(obs: Tensor) -> Tensor:
        return THETA_1 * obs[..., 0] ** 2 + THETA_0

    batch = rollout(env, Feedback(torch.zeros_like), begin(env, 200_000 if window <= 10 else 100_000, seed=5), window)[
        0
    ]
    rule = Left(0.5)
    delta = rule.change(value, batch) + rule.earned(batch)
    discounted = delta * torch.exp(-0.5 * batch.t[:-1]).unsqueeze(1)
    return float((delta / dt).var() * dt), float((discounted.sum(0) / 0.1).var())


@row(SYSTEM, "7", "variance on OU at dt .001: dt Var(delta / dt); over a window of .1 s", ".1311 ± 2 %; 1.24 ± .02")
def variances() -> Measurement:
    one, window = increment_variances(0.001)
    passed = abs(one / 0.1311 - 1.0) <= 0.02 and abs(window - 1.24) <= 0.02
    return Measurement("0.1311; 1.24", f"{one:.4f}; {window:.3f}", passed)


@row(
    SYSTEM,
    "8",
    "stopped BM: order of the exit seen on the grid; error of E tau with the bridge at dt .01",
    ".5 ± .1; .005",
)
def exits() -> Measurement:
    dts = (0.04, 0.01, 0.0025)
    late = [mean_exit_time(dt, bridge=False, paths=60_000, seed=1)[0] - 1.0 for dt in dts]
    error = mean_exit_time(0.01, bridge=True, paths=150_000, seed=2)[0] - 1.0
    order = slope(dts, late)
    return Measurement("0.5; 0", f"{order:.3f}; {error:.4f}", abs(order - 0.5) <= 0.1 and abs(error) <= 0.005)


@row(
    SYSTEM,
    "9",
    "Black-Scholes from 10^5 paths at dt .01: error over x in [.8, 1.2] by CLSTD and ML, price at 1 by CLSTD",
    "1e-3; .0005",
)
def prices() -> Measurement:
    obs = black_scholes.grid()
    truth = black_scholes.make_env(0.01).value(torch.zeros_like(obs[:, 0]), obs[:, 0])
    agents = black_scholes.linear_prices(black_scholes.PRESETS["paper"], seed=0)
    found = [agent.value(obs) for agent in agents.values()]
    errors = [float((price - truth).square().mean().sqrt()) for price in found]
    at_one = float(found[0][20])
    passed = max(errors) <= 1e-3 and abs(at_one - 0.1045) <= 5e-4
    return Measurement("<= 1e-3; 0.1045", f"{listed(errors, '.2e')}; {at_one:.5f}", passed)


@row(
    SYSTEM,
    "17",
    "irregular time, 15 to 1: average reward of q-learning on uniform and exponential steps beside regular",
    "5 %",
)
def irregular() -> Measurement:
    config = irregular_time.Config(paths=64, seconds=160.0)
    found = {grid: irregular_time.learn(config, grid, 0)["eval/average_reward"] for grid in irregular_time.grids(8)}
    regular = found.pop("regular")
    return at_most(max(abs(value / regular - 1.0) for value in found.values()), 0.05)
