"""Policy iteration that starts every iteration from the same states: errors of every rule, refined to rounding.

Windows of 0.1 s, ten from each of five or seven states, or of 1 s, four from each; every rule has paths of its own and
all of them are learned side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

import torch
from torch import Tensor

from rlcore.agents.integral_rl import IntegralRlConfig, OwnNodes, evaluate_policy
from rlcore.envs.affine import ControlAffine, CosineInput, SineSystem, ThirdOrderLinear
from rlcore.experiments.integral_rl_tasks import RULES, Learned, Task, iterate, task
from rlcore.functional.quadrature import Quadrature, Rule, SquaredExponential, clenshaw_curtis, gauss_legendre
from rlcore.simulation.policy import Feedback
from rlcore.training.closed_loop_source import ClosedLoopSource

PROBLEMS: Mapping[str, Callable[..., ControlAffine]] = {
    "third order": ThirdOrderLinear,
    "sine": SineSystem,
    "cosine": CosineInput,
}
WINDOWS = {0.1: 10, 1.0: 4}
"""Windows from each initial state, by their length [s]."""
ITERATIONS = 12
SPECTRAL: Mapping[str, Callable[[float, int], Rule]] = {
    "Newton-Cotes": lambda window, count: newton_cotes(count),
    "SE, l = T": lambda window, count: SquaredExponential(window),
    "Clenshaw-Curtis": lambda window, count: OwnNodes(clenshaw_curtis(count)),
    "Gauss-Legendre": lambda window, count: OwnNodes(gauss_legendre(count)),
}


def newton_cotes(count: int) -> OwnNodes:
    """The closed rule, as the flat limit of the squared exponential."""
    even = SquaredExponential(1e6).at(torch.linspace(0.0, 1.0, count, dtype=torch.float64))
    return OwnNodes(Quadrature(even.times, even.weights))


@lru_cache(maxsize=8)
def problem(name: str) -> Task:
    """One of the problems in float64."""
    return task(PROBLEMS[name](dtype=torch.float64))


@lru_cache(maxsize=64)
def learned(name: str, window: float, nodes: int) -> Learned:
    """All rules of `RULES` side by side."""
    rules = [rule(window) for rule in RULES.values()]
    return iterate(problem(name), rules, window=window, count=WINDOWS[window], nodes=nodes, iterations=ITERATIONS)


def errors(name: str, window: float, nodes: int) -> dict[str, float]:
    """|w - w*| of every rule; nan where its gain was refused."""
    found = problem(name).error(learned(name, window, nodes).weights)
    return dict(zip(RULES, found.tolist(), strict=True))


def spectral_error(rule: str, window: float, nodes: int) -> float:
    """The same on the third-order task, for one of the rules that choose their nodes or have no finite order.

    It is the median of the last iterations, which differ by rounding. The guard asks for less than usual: three
    Gauss nodes at T = 1 s go through a V that falls by only 0.2 of the cost.
    """
    chosen, third = SPECTRAL[rule](window, nodes), problem("third order")
    places = chosen.places if isinstance(chosen, OwnNodes) else nodes
    lenient, count = IntegralRlConfig(least_decrease=0.1), WINDOWS[window]
    found = iterate(third, [chosen], window=window, count=count, nodes=places, iterations=ITERATIONS, config=lenient)
    return float(third.error(found.history[-5:]).median())


def first_order(name: str, window: float, nodes: int) -> Tensor:
    """Theta_*^+ dXi_* [R, p]: by how much each rule misses w*, predicted from windows of the optimal loop alone.

    The exact integral over such a window is V*(x(t)) - V*(x(t + T)).
    """
    found = problem(name)
    source = ClosedLoopSource(found.paths, found.starts, window=window, count=WINDOWS[window], nodes=nodes)
    windows = source.next(Feedback(found.env.optimal_action))
    utility, predicted = found.known.utility(windows.states, windows.actions), []
    for rule in RULES.values():
        evaluation = evaluate_policy(found.basis, windows, utility, rule(window).at(windows.times))
        ends = found.env.optimal_value(windows.states[..., [0, -1], :])
        off = evaluation.integral - (ends[..., 0] - ends[..., 1])
        predicted.append(evaluation.fit.pseudo_inverse @ off)
    return torch.stack(predicted)
