"""q-learning on the ergodic LQ: wall time to 1 % of the optimum with 4096 parallel environments and with one.

The same agent, from the policy N(0, gamma), at a constant rate. The rate is what the number of environments buys: an
update averages over them, so its noise has variance 1 / B, and one environment must take steps so small that their
noise alone keeps the policy within 1 %. Each number gets the quickest of its candidates, all of which are shown: a
rate, and how often it is applied, since one environment gains by gathering several steps for an update.
"""

from __future__ import annotations

import math
import statistics
import time
from typing import Any, NamedTuple

import torch

from rlcore.agents.martingale import QLearning
from rlcore.errors import NumericsError
from rlcore.experiments import ergodic_lq
from rlcore.timegrid import steps_in
from rlcore.training import RolloutSource

TARGET = 0.01  # of the optimal reward per second
STAY = 5  # evaluations in a row that must be within the target
EVERY = 0.02  # s of training between two evaluations, at least


class Candidate(NamedTuple):
    """How one number of environments learns."""

    rate: float
    """Learning rate [1/s]; the log-curvature learns at ten times it."""
    interval: float
    """Physical time between two updates [s]."""


CANDIDATES = {
    4096: (Candidate(4.0, 0.1), Candidate(8.0, 0.1), Candidate(16.0, 0.1)),
    1: (Candidate(0.001, 1.0), Candidate(0.002, 1.0), Candidate(0.004, 1.0)),
}


def seconds_to_target(paths: int, candidate: Candidate, seed: int, limit: float) -> float:
    """Wall time of training until the policy is within the target and stays there; inf if not within the limit [s].

    The reward is the exact long-run average of the policy, and its evaluation is not counted.
    """
    rate, interval = candidate
    config = ergodic_lq.Config(dt=0.1, update_interval=interval, rate=rate, initial_variance=0.1, decay=False)
    env = ergodic_lq.make_env(config.dt, config.dt)
    agent = ergodic_lq.make_agent("q-learning", config, env.config.temperature)
    assert isinstance(agent, QLearning)
    source = RolloutSource(env, paths, steps_in(interval, config.dt), seed=seed)
    measure = ergodic_lq.evaluator(env, agent)

    def within() -> bool:
        try:
            return measure()["eval/gap"] <= TARGET
        except NumericsError:  # a policy that does not stabilise has no average reward
            return False

    spent, reached, streak = 0.0, math.inf, 0
    while spent < limit:
        began = time.perf_counter()
        try:
            while time.perf_counter() - began < EVERY:
                agent.update(source.next(agent))
        except NumericsError:
            return math.inf
        spent += time.perf_counter() - began
        reached, streak = (min(reached, spent), streak + 1) if within() else (math.inf, 0)
        if streak == STAY:
            return reached
    return math.inf


def measure(seeds: int = 3, limit: float = 120.0) -> list[dict[str, Any]]:
    """Median wall time over the seeds for every candidate, and the ratio of the two quickest; one thread, minutes."""
    torch.set_num_threads(1)
    seconds_to_target(4096, CANDIDATES[4096][0], 0, 0.1)  # warm-up
    rows: list[dict[str, Any]] = []
    for paths, candidates in CANDIDATES.items():
        for candidate in candidates:
            found = [seconds_to_target(paths, candidate, seed, limit) for seed in range(seeds)]
            times = {"seconds": statistics.median(found), "lowest": min(found), "highest": max(found)}
            rows.append({"environments": paths, **candidate._asdict(), **times, "seeds": seeds, "limit": limit})
    best = {paths: min(row["seconds"] for row in rows if row["environments"] == paths) for paths in CANDIDATES}
    slow = min(best[1], limit)  # what did not arrive took at least the limit
    for row in rows:
        row["4096 is"] = f"{'>= ' * math.isinf(best[1])}{slow / best[4096]:.0f}x"
    return rows
