"""Optimising a proxy without hacking it: proximal policy optimisation, and its regularisation by occupancies."""

from rlcore.agents.orpo.ppo import Ppo, head_of, ppo
from rlcore.agents.orpo.proximal import PpoConfig, Proximal

__all__ = ["Ppo", "PpoConfig", "Proximal", "head_of", "ppo"]
