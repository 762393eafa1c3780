"""Preference games: regularised, exact, side by side, with matrices or without."""

from rlcore.functional.games.equilibrium import equilibrium
from rlcore.functional.games.preferences import ClassPreference, LowRankPreference, MatrixPreference, Preference
from rlcore.functional.games.regularised import PreferenceGame

__all__ = ["ClassPreference", "LowRankPreference", "MatrixPreference", "Preference", "PreferenceGame", "equilibrium"]
