"""Iterations per second of one thread, by the CPU time that they take: other programs do not count."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Callable

import torch

from rlcore.agents.nash import NashMp, begin
from rlcore.envs.games.tables import cosine_reference, random_circles, random_policies, random_tables, sine_table
from rlcore.functional.games import MatrixPreference, PreferenceGame
from rlcore.reporting.acceptance import Measurement, at_least, at_most, row

SYSTEM = "nash"


def least_seconds(work: Callable[[], object], repeats: int = 7) -> float:
    """CPU time of the quickest of some repeats, on one thread."""
    threads, best = torch.get_num_threads(), math.inf
    torch.set_num_threads(1)
    try:
        for _ in range(repeats):
            began = time.process_time()
            work()
            best = min(best, time.process_time() - began)
    finally:
        torch.set_num_threads(threads)
    return best


def iterations_per_second(game: PreferenceGame, steps: int) -> float:
    """Of Nash-MP, two queries each."""

    @torch.no_grad()
    def work() -> None:
        at = begin(game)
        for _ in range(steps):
            at = NashMp().step(game, at)

    return steps / least_seconds(work)


@row(SYSTEM, "speed-100", "iterations per second of Nash-MP, 100 actions, float64, one thread, CPU time", ">= 1e4")
def speed_small() -> Measurement:
    return at_least(iterations_per_second(PreferenceGame.of(sine_table(100), 0.1, cosine_reference(100)), 300), 1e4)


@row(SYSTEM, "speed-1000", "the same with 1000 actions, over what two bare products with NumPy allow", ">= 0.75")
def speed_large() -> Measurement:
    """The matrix has 8 MB: what counts is how fast the machine reads it, and 3000 a second need 48 GB/s."""
    game = PreferenceGame.of(sine_table(1000), 0.1, cosine_reference(1000))
    matrix, policy = sine_table(1000).numpy(), cosine_reference(1000).numpy()
    bare = 2.0 * least_seconds(lambda: [matrix @ policy for _ in range(40)]) / 40
    rate = iterations_per_second(game, 20)  # as many products at a time, so that others disturb both as often
    return Measurement(">= 0.75", f"{rate * bare:.2f}, {rate:.0f} a second", rate * bare >= 0.75)


@row(SYSTEM, "speed-batch", "64 games of 10 actions at once, iterations per second and game over those of one", ">= 5")
def speed_batch() -> Measurement:
    tables, mu = random_tables(64, 10, 0), random_policies(64, 10, 1)
    together = iterations_per_second(PreferenceGame(MatrixPreference(tables), mu, 0.1), 200)
    alone = iterations_per_second(PreferenceGame.of(tables[0], 0.1, mu[0].exp()), 200)
    return at_least(64.0 * together / alone, 5.0)


@row(SYSTEM, "implicit-million", "a game of 1e6 actions and rank 8: slowest of three iterations, CPU time", "<= 1 s")
def implicit_million() -> Measurement:
    uniform = torch.full((1_000_000,), -math.log(1e6), dtype=torch.float64)
    game = PreferenceGame(random_circles(1_000_000, planes=4, seed=0), uniform, 0.1)
    at, slowest = begin(game), 0.0
    with torch.no_grad():
        for _ in range(3):
            began = time.process_time()
            at = NashMp().step(game, at)
            slowest = max(slowest, time.process_time() - began)
    return at_most(slowest, 1.0)


MEMORY = """
import math, re, torch
from rlcore.agents.nash import NashMp, begin
from rlcore.envs.games.tables import random_circles
from rlcore.functional.games import PreferenceGame

def highest():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])

n, before = 1_000_000, highest()
game = PreferenceGame(random_circles(n, planes=4, seed=0), torch.full((n,), -math.log(n), dtype=torch.float64), 0.1)
at = begin(game)
for _ in range(10):
    at = NashMp().step(game, at)
print((highest() - before) / n)
"""


@row(SYSTEM, "implicit-memory", "what ten iterations on it add to a new process, per action", "<= 1000 bytes")
def implicit_memory() -> Measurement:
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    return at_most(float(done.stdout), 1000.0)
