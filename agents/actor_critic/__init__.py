"""Off-policy actor-critic agents, from data sets and from replay: offline, online, and from one to the other."""

from rlcore.agents.actor_critic.awac import Awac, AwacConfig
from rlcore.agents.actor_critic.behaviour_cloning import BehaviourCloning, CloningConfig
from rlcore.agents.actor_critic.cql import Cql, CqlConfig, cal_ql
from rlcore.agents.actor_critic.hand_over import HandOver, publish, receive
from rlcore.agents.actor_critic.iql import Iql, IqlConfig
from rlcore.agents.actor_critic.networks import DataSpaces, NetworkConfig, Networks, check_data
from rlcore.agents.actor_critic.sac_redq import RLPD, SAC, WSRL, SacRedq
from rlcore.agents.actor_critic.soft import SacConfig
from rlcore.agents.actor_critic.td3_bc import Td3Bc, Td3BcConfig

__all__ = [
    "RLPD",
    "SAC",
    "WSRL",
    "Awac",
    "AwacConfig",
    "BehaviourCloning",
    "CloningConfig",
    "Cql",
    "CqlConfig",
    "DataSpaces",
    "HandOver",
    "Iql",
    "IqlConfig",
    "NetworkConfig",
    "Networks",
    "SacConfig",
    "SacRedq",
    "Td3Bc",
    "Td3BcConfig",
    "cal_ql",
    "check_data",
    "publish",
    "receive",
]
