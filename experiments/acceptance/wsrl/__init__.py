"""What fine-tuning without data retention claims: the rows of `rlcore verify wsrl`, by part."""

from rlcore.experiments.acceptance.wsrl import ablations as ablations
from rlcore.experiments.acceptance.wsrl import bad_input as bad_input
from rlcore.experiments.acceptance.wsrl import data as data
from rlcore.experiments.acceptance.wsrl import engineering as engineering
from rlcore.experiments.acceptance.wsrl import learning as learning
from rlcore.experiments.acceptance.wsrl import speed as speed
