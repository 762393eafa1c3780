"""Nash learning with language policies: own or Hugging Face models, judges, duels of texts."""

from rlcore.agents.nash.language.agent import NashLanguage, copies_needed
from rlcore.agents.nash.language.config import NashLanguageConfig
from rlcore.agents.nash.language.copies import WholeCopies
from rlcore.agents.nash.language.judges import (
    CallableJudge,
    ClassifierJudge,
    Judge,
    PairwiseJudge,
    RankJudge,
    RewardJudge,
    SoftPairwiseJudge,
)
from rlcore.agents.nash.language.measure import enumerated_log_probs, measure
from rlcore.agents.nash.language.referee import Referee, TextReferee, TokenReferee, Verdicts
from rlcore.agents.nash.language.source import Prompts, TextDuels
from rlcore.agents.nash.language.trainer import NashTrainer, NashTrainerConfig

__all__ = [
    "CallableJudge",
    "ClassifierJudge",
    "Judge",
    "NashLanguage",
    "NashLanguageConfig",
    "NashTrainer",
    "NashTrainerConfig",
    "PairwiseJudge",
    "Prompts",
    "RankJudge",
    "Referee",
    "RewardJudge",
    "SoftPairwiseJudge",
    "TextDuels",
    "TextReferee",
    "TokenReferee",
    "Verdicts",
    "WholeCopies",
    "copies_needed",
    "enumerated_log_probs",
    "measure",
]
