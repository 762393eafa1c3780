"""rlcore: reinforcement learning in continuous time, and fine-tuning of policies.

The names below are loaded when first used; `import rlcore` itself costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "Agent": "rlcore.training",
    "ControlSpec": "rlcore.simulation",
    "ControlledDiffusion": "rlcore.simulation",
    "Environment": "rlcore.simulation",
    "EulerMaruyama": "rlcore.simulation",
    "ExactLinear": "rlcore.simulation",
    "Heun": "rlcore.simulation",
    "PathSource": "rlcore.training",
    "Phase": "rlcore.training",
    "ReplayBuffer": "rlcore.data",
    "ReplaySource": "rlcore.training",
    "Rk4": "rlcore.simulation",
    "RolloutSource": "rlcore.training",
    "StepSource": "rlcore.training",
    "Streams": "rlcore.seeding",
    "Trajectory": "rlcore.data",
    "Transitions": "rlcore.data",
    "begin": "rlcore.simulation",
    "rollout": "rlcore.simulation",
    "rollout_with_reset": "rlcore.simulation",
    "run": "rlcore.training",
}

__all__ = [*sorted(_HOME), "__version__"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'rlcore' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
