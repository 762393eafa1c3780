"""What the martingale methods claim: the rows of `rlcore verify martingale`, by part."""

from rlcore.experiments.acceptance.martingale import control as control
from rlcore.experiments.acceptance.martingale import deep as deep
from rlcore.experiments.acceptance.martingale import evaluation as evaluation
from rlcore.experiments.acceptance.martingale import many_states as many_states
from rlcore.experiments.acceptance.martingale import mean_variance as mean_variance
from rlcore.experiments.acceptance.martingale import throughput as throughput
