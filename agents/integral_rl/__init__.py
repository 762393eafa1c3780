"""Integral reinforcement learning: policy iteration for an unknown drift, with any quadrature rule and an error bar."""

from rlcore.agents.integral_rl.adaptive import update_resolved
from rlcore.agents.integral_rl.agent import IntegralRl, IntegralRlConfig
from rlcore.agents.integral_rl.error_budget import ErrorBudget, action_bound, error_budget, newton_limit
from rlcore.agents.integral_rl.guard import Reason, RefusalError, Verdict
from rlcore.agents.integral_rl.improvement import KnownParts, linear_quadratic
from rlcore.agents.integral_rl.linear_batch import ErrorBound, Iterate, LinearBatch
from rlcore.agents.integral_rl.neural import NeuralIntegralRl, NeuralIntegralRlConfig
from rlcore.agents.integral_rl.off_policy import OffPolicyConfig, OffPolicyIntegralRl
from rlcore.agents.integral_rl.policy_evaluation import Evaluation, evaluate_policy, regressors
from rlcore.agents.integral_rl.rules import OwnNodes, SideBySide
from rlcore.agents.integral_rl.value_iteration import ValueIterationConfig, stabilising_gain
from rlcore.data import Windows

__all__ = [
    "ErrorBound",
    "ErrorBudget",
    "Evaluation",
    "IntegralRl",
    "IntegralRlConfig",
    "Iterate",
    "KnownParts",
    "LinearBatch",
    "NeuralIntegralRl",
    "NeuralIntegralRlConfig",
    "OffPolicyConfig",
    "OffPolicyIntegralRl",
    "OwnNodes",
    "Reason",
    "RefusalError",
    "SideBySide",
    "ValueIterationConfig",
    "Verdict",
    "Windows",
    "action_bound",
    "error_budget",
    "evaluate_policy",
    "linear_quadratic",
    "newton_limit",
    "regressors",
    "stabilising_gain",
    "update_resolved",
]
