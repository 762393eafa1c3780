"""Martingale methods of Jia and Zhou: policy evaluation and q-learning in continuous time."""

from rlcore.agents.martingale.clstd import Clstd, ClstdConfig
from rlcore.agents.martingale.ctd import Ctd, CtdConfig
from rlcore.agents.martingale.q_learning import QLearning, QLearningConfig

__all__ = ["Clstd", "ClstdConfig", "Ctd", "CtdConfig", "QLearning", "QLearningConfig"]
