"""Error bars and the guard: what they promise, held against the truth."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator

import torch
from torch import Tensor

from rlcore.agents.integral_rl import IntegralRl, RefusalError, evaluate_policy
from rlcore.envs.affine import LinearRegulator
from rlcore.experiments.integral_rl_tables import ITERATIONS, WINDOWS, problem
from rlcore.experiments.integral_rl_tasks import RULES, iterate
from rlcore.functional.quadrature import Matern
from rlcore.functional.riccati import largest_real_part
from rlcore.reporting.acceptance import Measurement, row
from rlcore.simulation.policy import Feedback
from rlcore.training.closed_loop_source import ClosedLoopSource

SYSTEM = "integral-rl"
ORDERS, NODES = (1, 2, 3), (5, 9, 17)


def calibration() -> Iterator[tuple[int, float, float, bool]]:
    """Smoothness, median |error| / s.d. of the windows of the optimal loop, bound over error of w, every component."""
    for name in ("third order", "sine"):
        found = problem(name)
        for window, count in WINDOWS.items():
            for nodes in NODES:
                source = ClosedLoopSource(found.paths, found.starts, window=window, count=count, nodes=nodes)
                windows = source.next(Feedback(found.env.optimal_action))
                utility = found.known.utility(windows.states, windows.actions)
                ends = found.env.optimal_value(windows.states[..., [0, -1], :])
                rules = [Matern(order, 0.3) for order in ORDERS]
                result = iterate(found, rules, window=window, count=count, nodes=nodes, iterations=ITERATIONS)
                assert result.agent.evaluation is not None
                bound = result.agent.evaluation.weight_bound
                assert bound is not None
                off = (result.weights - found.env.optimal_weights).abs()
                for k, (order, rule) in enumerate(zip(ORDERS, rules, strict=True)):
                    one = evaluate_policy(found.basis, windows, utility, rule.at(windows.times))
                    assert one.deviation is not None
                    shares = (one.integral - (ends[..., 0] - ends[..., 1])).abs() / one.deviation
                    ratio = float(bound[k].norm() / off[k].norm())
                    yield order, float(shares.median()), ratio, bool((off[k] <= bound[k]).all())


@row(
    SYSTEM,
    "A19",
    "Matern-3/2, 5/2, 7/2 with l = .3 on two tasks, T = .1 and 1, N = 5, 9, 17: medians of |error| / s.d. of a window; "
    "share of runs whose weight error |Theta^+| sd covers, in norm, and in every component; median of bound over error "
    "from 5/2 on",
    "in [.1, 1.1]; >= 95 %; <= 30",
)
def error_bars() -> Measurement:
    found = list(calibration())
    medians = [median for _, median, _, _ in found]
    runs = [(order, ratio, every) for order, _, ratio, every in found if not math.isnan(ratio)]  # refused gains aside
    covered = statistics.fmean(ratio >= 1.0 for _, ratio, _ in runs)
    componentwise = statistics.fmean(every for _, _, every in runs)
    slack = statistics.median(ratio for order, ratio, _ in runs if order >= 2)
    passed = min(medians) >= 0.1 and max(medians) <= 1.1 and covered >= 0.95 and slack <= 30.0
    return Measurement(
        "in [.1, 1.1]; >= 95 %; <= 30",
        f"{min(medians):.2f} ... {max(medians):.2f}; {covered:.0%} of {len(runs)} ({componentwise:.0%} in every "
        f"component); {slack:.1f}",
        passed,
    )


@row(
    SYSTEM,
    "A16-guard",
    "third-order task, T = 1, N = 5, 11 even-node rules: runs that end in a refusal which names iteration, quantity "
    "and remedy; gains that acted though unstable; weights that are not finite; iteration of the refusals",
    "11; 0; 0",
)
def guard() -> Measurement:
    third = problem("third order")
    env = third.env
    assert isinstance(env, LinearRegulator)
    told, unstable, lost, when = 0, 0, 0, []
    for rule in RULES.values():
        agent = IntegralRl(third.basis, third.known, rule(1.0), env.admissible_weights)
        source = ClosedLoopSource(third.paths, third.starts, window=1.0, count=4, nodes=5)
        try:
            for _ in range(ITERATIONS):
                unstable += growth(env, agent) >= 0.0
                agent.update(source.next(agent))
        except RefusalError as error:
            told += f"iteration {error.iteration}" in str(error) and "use more nodes" in str(error)
            told -= not math.isfinite(error.quantity)
            when.append(error.iteration)
        unstable += growth(env, agent) >= 0.0  # the policy that the agent fell back to
        lost += not bool(torch.isfinite(agent.weights).all())
    got = f"{told}; {unstable}; {lost}; {min(when, default=0)} ... {max(when, default=0)}"
    return Measurement("11; 0; 0", got, (told, unstable, lost) == (len(RULES), 0, 0))


def growth(env: LinearRegulator, agent: IntegralRl) -> float:
    """Largest real part of the loop's poles [1/s]."""
    unit: Tensor = torch.eye(env.spec.state_dim, dtype=torch.float64)
    return float(largest_real_part(env.A + env.B @ agent.act(unit).T))
