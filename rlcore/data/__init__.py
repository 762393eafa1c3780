"""What flows from sources to agents."""

from rlcore.data.batches import Comparisons, TensorBatch, Trajectory, Transitions
from rlcore.data.buffer import ReplayBuffer
from rlcore.data.episodes import in_order, lengths, summary
from rlcore.data.windows import ResolvedWindows, Windows

__all__ = [
    "Comparisons",
    "ReplayBuffer",
    "ResolvedWindows",
    "TensorBatch",
    "Trajectory",
    "Transitions",
    "Windows",
    "in_order",
    "lengths",
    "summary",
]
