"""Environments, noise, integrators and the rollout."""

from rlcore.simulation.closed_loop import LinearPaths, Paths, SmoothPaths
from rlcore.simulation.environment import (
    ControlledDiffusion,
    ControlSpec,
    Environment,
    EnvState,
    Integrator,
    check_environment,
)
from rlcore.simulation.integrators import EulerMaruyama, ExactLinear, Heun, Rk4
from rlcore.simulation.memory import WithMemory
from rlcore.simulation.policy import Feedback, GaussianFeedback, Policy, UniformPolicy
from rlcore.simulation.rollout import RolloutState, begin, rollout, rollout_with_reset

__all__ = [
    "ControlSpec",
    "ControlledDiffusion",
    "EnvState",
    "Environment",
    "EulerMaruyama",
    "ExactLinear",
    "Feedback",
    "GaussianFeedback",
    "Heun",
    "Integrator",
    "LinearPaths",
    "Paths",
    "Policy",
    "Rk4",
    "RolloutState",
    "SmoothPaths",
    "UniformPolicy",
    "WithMemory",
    "begin",
    "check_environment",
    "rollout",
    "rollout_with_reset",
]
