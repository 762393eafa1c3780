"""How fast stochastic differential equations are simulated: a rate, which depends on the machine and its load."""

from __future__ import annotations

import time

import torch

from rlcore.envs import make
from rlcore.reporting.acceptance import Measurement, row
from rlcore.simulation import Feedback, begin, rollout

SYSTEM = "martingale"
PROBLEMS = ("rlcore/ScalarLqr-v0", "rlcore/OrnsteinUhlenbeck-v0", "rlcore/LqrB-v0")


def steps_per_second(env_id: str, batch: int, steps: int, device: str, rounds: int = 5) -> float:
    """Euler-Maruyama steps per second, all paths together: noise, feedback, reward, every record stored; the best.

    On the CPU the second is one of its own time, so that other programs matter less.
    """
    clock = time.process_time if device == "cpu" else time.perf_counter
    env = make(env_id, device=device)
    policy, start, rates = Feedback(lambda x: -0.5 * x), begin(env, batch, seed=0), []
    for number in range(rounds + 1):  # the first is a warm-up
        began = clock()
        trajectory, _ = rollout(env, policy, start, steps)
        float(trajectory.reward[-1, 0])  # wait for the device
        if number:
            rates.append(batch * steps / (clock() - began))
    return max(rates)


@row(SYSTEM, "19", "SDE steps per second on one core, 4096 paths: scalar LQ, Ornstein-Uhlenbeck, LQ-B", ">= 1e7")
def one_core() -> Measurement:
    """Plain operations on whole batches; the figure to reach was stated for compiled code."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = [steps_per_second(env_id, 4096, 256, "cpu") for env_id in PROBLEMS]
    finally:
        torch.set_num_threads(threads)
    return Measurement(">= 1e7", ", ".join(f"{rate:.2e}" for rate in found), min(found) >= 1e7)


@row(SYSTEM, "19-gpu", "SDE steps per second on one accelerator, 2^20 paths: scalar LQ", ">= 1e8", needs="cuda")
def accelerator() -> Measurement:
    found = steps_per_second(PROBLEMS[0], 1 << 20, 64, "cuda")
    return Measurement(">= 1e8", found, found >= 1e8)
