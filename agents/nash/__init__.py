"""Nash learning from preferences: Nash Mirror Prox, Nash Prox and their rivals, exact on tables."""

from rlcore.agents.nash.contextual import NashContextual, NashContextualConfig
from rlcore.agents.nash.method import Iterate, Method, Solution, begin, follow, queries_to, solve
from rlcore.agents.nash.mirror_descent import Comal, Inpo, Mmd, Mpo, MultiplicativeWeights, NashMd, OptimisticWeights
from rlcore.agents.nash.mirror_prox import Egpo, NashMp, NashProx, iterations_to, least_weight
from rlcore.agents.nash.self_play import MixtureOpponent, MovingAnchor, OnlineIpo
from rlcore.agents.nash.sequences import SequenceNetwork, TokenTable

__all__ = [
    "Comal",
    "Egpo",
    "Inpo",
    "Iterate",
    "Method",
    "MixtureOpponent",
    "Mmd",
    "MovingAnchor",
    "Mpo",
    "MultiplicativeWeights",
    "NashContextual",
    "NashContextualConfig",
    "NashMd",
    "NashMp",
    "NashProx",
    "OnlineIpo",
    "OptimisticWeights",
    "SequenceNetwork",
    "Solution",
    "TokenTable",
    "begin",
    "follow",
    "iterations_to",
    "least_weight",
    "queries_to",
    "solve",
]
