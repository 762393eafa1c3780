"""Martingale methods of Jia and Zhou: policy evaluation, actor-critic and q-learning in continuous time."""

from rlcore.agents.martingale.actor_critic import ActorCritic, ActorCriticConfig
from rlcore.agents.martingale.big_q import BigQConfig, BigQSarsa, QuadraticBigQ
from rlcore.agents.martingale.clstd import Clstd, ClstdConfig
from rlcore.agents.martingale.cppo import Cppo, CppoConfig, cppo
from rlcore.agents.martingale.ctd import Ctd, CtdConfig, CtdOnline
from rlcore.agents.martingale.deep import DeepActorCritic, DeepConfig, ct_ddpg, ct_sac
from rlcore.agents.martingale.episodic import EpisodicActorCritic, EpisodicConfig
from rlcore.agents.martingale.episodic_q import EpisodicQLearning
from rlcore.agents.martingale.gmm import Gmm
from rlcore.agents.martingale.gradient_td import GradientTd, GradientTdConfig
from rlcore.agents.martingale.least_squares import ERGODIC, Running, centred
from rlcore.agents.martingale.least_squares_q import LeastSquaresQ, LeastSquaresQConfig
from rlcore.agents.martingale.monte_carlo import LinearMartingaleLoss, MartingaleLoss, MartingaleLossConfig
from rlcore.agents.martingale.mstde import LinearMstde, Mstde, MstdeConfig
from rlcore.agents.martingale.q_learning import QLearning, QLearningConfig, bounded_weight

__all__ = [
    "ERGODIC",
    "ActorCritic",
    "ActorCriticConfig",
    "BigQConfig",
    "BigQSarsa",
    "Clstd",
    "ClstdConfig",
    "Cppo",
    "CppoConfig",
    "Ctd",
    "CtdConfig",
    "CtdOnline",
    "DeepActorCritic",
    "DeepConfig",
    "EpisodicActorCritic",
    "EpisodicConfig",
    "EpisodicQLearning",
    "Gmm",
    "GradientTd",
    "GradientTdConfig",
    "LeastSquaresQ",
    "LeastSquaresQConfig",
    "LinearMartingaleLoss",
    "LinearMstde",
    "MartingaleLoss",
    "MartingaleLossConfig",
    "Mstde",
    "MstdeConfig",
    "QLearning",
    "QLearningConfig",
    "QuadraticBigQ",
    "Running",
    "bounded_weight",
    "centred",
    "cppo",
    "ct_ddpg",
    "ct_sac",
]
