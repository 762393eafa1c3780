"""What Nash learning claims: the rows of `rlcore verify nash`, by part."""

from rlcore.experiments.acceptance.nash import alignment as alignment
from rlcore.experiments.acceptance.nash import language as language
from rlcore.experiments.acceptance.nash import sequences as sequences
from rlcore.experiments.acceptance.nash import speed as speed
from rlcore.experiments.acceptance.nash import tabular as tabular
