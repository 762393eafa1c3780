"""What integral reinforcement learning claims: the rows of `rlcore verify integral-rl`, by part."""

from rlcore.experiments.acceptance.integral_rl import off_policy as off_policy
from rlcore.experiments.acceptance.integral_rl import scale as scale
