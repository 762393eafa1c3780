"""Sources, agents, the training loop and what surrounds it."""

from rlcore.training.adaptive_source import AdaptiveSource, Resolution
from rlcore.training.agent import Agent, Metrics
from rlcore.training.closed_loop_source import ClosedLoopSource
from rlcore.training.duels import DuelSource
from rlcore.training.excited_source import ExcitedSource
from rlcore.training.replay_source import ReplaySource
from rlcore.training.sources import (
    BehaviourSource,
    CorrelatedSource,
    HeldSource,
    PathSource,
    RolloutSource,
    Source,
    StepSource,
)
from rlcore.training.trainer import Callback, Phase, Position, Tick, run
from rlcore.training.windows import WindowSource

__all__ = [
    "AdaptiveSource",
    "Agent",
    "BehaviourSource",
    "Callback",
    "ClosedLoopSource",
    "CorrelatedSource",
    "DuelSource",
    "ExcitedSource",
    "HeldSource",
    "Metrics",
    "PathSource",
    "Phase",
    "Position",
    "ReplaySource",
    "Resolution",
    "RolloutSource",
    "Source",
    "StepSource",
    "Tick",
    "WindowSource",
    "run",
]
