"""Sources, agents, the training loop and what surrounds it."""

from rlcore.training.agent import Agent, Metrics
from rlcore.training.closed_loop_source import ClosedLoopSource
from rlcore.training.sources import (
    BehaviourSource,
    CorrelatedSource,
    PathSource,
    ReplaySource,
    RolloutSource,
    Source,
    StepSource,
)
from rlcore.training.trainer import Callback, Phase, Position, Tick, run
from rlcore.training.windows import WindowSource

__all__ = [
    "Agent",
    "BehaviourSource",
    "Callback",
    "ClosedLoopSource",
    "CorrelatedSource",
    "Metrics",
    "PathSource",
    "Phase",
    "Position",
    "ReplaySource",
    "RolloutSource",
    "Source",
    "StepSource",
    "Tick",
    "WindowSource",
    "run",
]
