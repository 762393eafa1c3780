"""What integral reinforcement learning claims: the rows of `rlcore verify integral-rl`, by part."""

from rlcore.experiments.acceptance.integral_rl import adaptive as adaptive
from rlcore.experiments.acceptance.integral_rl import basis as basis
from rlcore.experiments.acceptance.integral_rl import error_bars as error_bars
from rlcore.experiments.acceptance.integral_rl import noise as noise
from rlcore.experiments.acceptance.integral_rl import off_policy as off_policy
from rlcore.experiments.acceptance.integral_rl import paper as paper
from rlcore.experiments.acceptance.integral_rl import policy_iteration as policy_iteration
from rlcore.experiments.acceptance.integral_rl import quadrature as quadrature
from rlcore.experiments.acceptance.integral_rl import quadrature_at_work as quadrature_at_work
from rlcore.experiments.acceptance.integral_rl import scale as scale
