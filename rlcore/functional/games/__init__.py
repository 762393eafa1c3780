"""Preference games: regularised, exact, side by side, with matrices or without."""

from rlcore.functional.games.equilibrium import equilibrium
from rlcore.functional.games.preferences import ClassPreference, LowRankPreference, MatrixPreference, Preference
from rlcore.functional.games.regularised import PreferenceGame
from rlcore.functional.games.sequences import SequenceTree

__all__ = [
    "ClassPreference",
    "LowRankPreference",
    "MatrixPreference",
    "Preference",
    "PreferenceGame",
    "SequenceTree",
    "equilibrium",
]
