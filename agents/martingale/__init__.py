"""Martingale methods of Jia and Zhou: policy evaluation and q-learning in continuous time."""

from rlcore.agents.martingale.clstd import Clstd, ClstdConfig
from rlcore.agents.martingale.ctd import Ctd, CtdConfig, CtdOnline
from rlcore.agents.martingale.gmm import Gmm
from rlcore.agents.martingale.gradient_td import GradientTd, GradientTdConfig
from rlcore.agents.martingale.least_squares import ERGODIC, Running, centred
from rlcore.agents.martingale.monte_carlo import LinearMartingaleLoss, MartingaleLoss, MartingaleLossConfig
from rlcore.agents.martingale.mstde import LinearMstde, Mstde, MstdeConfig
from rlcore.agents.martingale.q_learning import QLearning, QLearningConfig

__all__ = [
    "ERGODIC",
    "Clstd",
    "ClstdConfig",
    "Ctd",
    "CtdConfig",
    "CtdOnline",
    "Gmm",
    "GradientTd",
    "GradientTdConfig",
    "LinearMartingaleLoss",
    "LinearMstde",
    "MartingaleLoss",
    "MartingaleLossConfig",
    "Mstde",
    "MstdeConfig",
    "QLearning",
    "QLearningConfig",
    "Running",
    "centred",
]
