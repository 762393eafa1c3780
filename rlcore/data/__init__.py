"""What flows from sources to agents."""

from rlcore.data.batches import Comparisons, TensorBatch, Trajectory, Transitions
from rlcore.data.buffer import Replay, ReplayBuffer
from rlcore.data.chained import ChainedReplay
from rlcore.data.episodes import in_order, lengths, summary
from rlcore.data.texts import Completions, JudgedTexts, Tokeniser, Vocabulary
from rlcore.data.windows import ResolvedWindows, Windows

__all__ = [
    "ChainedReplay",
    "Comparisons",
    "Completions",
    "JudgedTexts",
    "Replay",
    "ReplayBuffer",
    "ResolvedWindows",
    "TensorBatch",
    "Tokeniser",
    "Trajectory",
    "Transitions",
    "Vocabulary",
    "Windows",
    "in_order",
    "lengths",
    "summary",
]
