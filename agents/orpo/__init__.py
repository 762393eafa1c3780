"""Optimising a proxy without hacking it: proximal policy optimisation, and its regularisation by occupancies."""

from rlcore.agents.orpo.agent import Orpo, orpo
from rlcore.agents.orpo.base_data import OccupancySpace, gather_base, true_reward
from rlcore.agents.orpo.ppo import Ppo, head_of, ppo
from rlcore.agents.orpo.proximal import Proximal
from rlcore.agents.orpo.ratio import RatioConfig, RatioNetworks
from rlcore.agents.orpo.regularizer import OccupancyRegularizer, RegularizerConfig
from rlcore.agents.orpo.settings import PpoConfig
from rlcore.agents.orpo.strength import Certified, Constant, DualAscent

__all__ = [
    "Certified",
    "Constant",
    "DualAscent",
    "OccupancyRegularizer",
    "OccupancySpace",
    "Orpo",
    "Ppo",
    "PpoConfig",
    "Proximal",
    "RatioConfig",
    "RatioNetworks",
    "RegularizerConfig",
    "gather_base",
    "head_of",
    "orpo",
    "ppo",
    "true_reward",
]
