"""What optimising a proxy without hacking it claims: the rows of `rlcore verify orpo`, by part."""

from rlcore.experiments.acceptance.orpo import glucose as glucose
from rlcore.experiments.acceptance.orpo import learning as learning
from rlcore.experiments.acceptance.orpo import surrogates as surrogates
from rlcore.experiments.acceptance.orpo import theory as theory
