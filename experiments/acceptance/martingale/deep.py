"""Control beyond one dimension: many states, learned off-policy."""

from __future__ import annotations

from rlcore.experiments import large_lq
from rlcore.reporting.acceptance import Measurement, at_most, row


@row(
    "martingale",
    "lq-20",
    "20-state LQ by least-squares q-learning, actions N(0, I): exact cost over the Riccati optimum, worst of 3 seeds",
    "2 %",
    slow=True,
)
def twenty_states() -> Measurement:
    return at_most(max(large_lq.learn(large_lq.PRESETS["quick"], 20, seed)["eval/gap"] for seed in range(3)), 0.02)
