"""Languages with a known entropy, and preferences between their texts with a known equilibrium."""

from rlcore.envs.language.classes import ClassJudge, CountJudge, LastLetterJudge, circle_of_classes, class_game
from rlcore.envs.language.grammar import Grammar, GrammarConfig

__all__ = ["ClassJudge", "CountJudge", "Grammar", "GrammarConfig", "LastLetterJudge", "circle_of_classes", "class_game"]
