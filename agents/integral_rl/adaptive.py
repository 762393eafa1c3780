"""Policy iteration on windows that were sampled as densely as their integrals need."""

from __future__ import annotations

from rlcore.agents.integral_rl.agent import IntegralRl, only_finite
from rlcore.agents.integral_rl.policy_evaluation import Evaluation, regressors
from rlcore.data import ResolvedWindows
from rlcore.functional.least_squares import least_squares
from rlcore.training.agent import Metrics


def update_resolved(agent: IntegralRl, batch: ResolvedWindows) -> Metrics:
    """`agent.update` with integrals that were found to a tolerance; the guard judges them as it does any others."""
    windows, finite = only_finite(batch.windows, agent.weights.ndim - 1)
    fit = least_squares(regressors(agent.basis, windows, agent.config.discount_rate), batch.integral)
    metrics = agent.improve(windows, Evaluation(fit, batch.integral, batch.deviation), finite)
    nodes = batch.nodes.double()
    return dict(metrics) | {
        "train/nodes": nodes.mean(),
        "train/largest_nodes": nodes.max(),
        "train/unresolved": (~batch.resolved).double().mean(),
    }
