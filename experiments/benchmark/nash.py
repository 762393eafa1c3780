"""Nash-MP on 4096 games of 100 actions beside loops over games, iterations per second, a game of a million actions."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlcore.agents.nash import NashMp, begin, solve
from rlcore.envs.games.tables import cosine_reference, random_circles, random_policies, random_tables, sine_table
from rlcore.experiments.benchmark.machine import machine
from rlcore.experiments.benchmark.timing import interleave, table
from rlcore.functional.divergence import kl
from rlcore.functional.games import MatrixPreference, PreferenceGame, equilibrium

Array = NDArray[np.float64]
BETA, TOLERANCE = 0.1, 1e-10
LOOP = 32
"""Games that a loop takes in each round."""


def numpy_step(table: Array, start: Array, last: Array) -> Array:
    """One iteration of Nash-MP as one writes it in NumPy, for one game."""
    total = BETA + 0.5
    mixed, opponent = (BETA * start + 0.5 * last) / total, last
    for _ in range(2):
        logits = mixed + table @ np.exp(opponent) / total
        logits -= logits.max()
        opponent = logits - np.log(np.exp(logits).sum())
    return np.asarray(opponent)


def numpy_solve(table: Array, start: Array, steps: int) -> Array:
    """So many iterations, which are known to suffice: the loop is spared all certificates."""
    last = start
    for _ in range(steps):
        last = numpy_step(table, start, last)
    return last


def measure(
    games: Sequence[int] = (64, 512, 4096), actions: int = 100, large: int = 1_000_000, rounds: int = 5
) -> list[dict[str, Any]]:
    """Games per second with as many threads as there are set, and iterations per second with one."""
    rows = [row for n in games for row in many_games(n, actions, rounds)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows += [row for n in (10, actions, 10 * actions) for row in one_game(n, rounds)]
    finally:
        torch.set_num_threads(threads)
    return [*rows, implicit(large)]


def many_games(games: int, actions: int, rounds: int) -> list[dict[str, Any]]:
    """All of them to the tolerance, side by side and one by one."""
    tables, starts = random_tables(games, actions, 0), random_policies(games, actions, 1)
    together = PreferenceGame(MatrixPreference(tables), starts, BETA)
    single = PreferenceGame(MatrixPreference(tables.float()), starts.float(), BETA)
    ones = [together.select(slice(k, k + 1)) for k in range(min(LOOP, games))]
    alone = [PreferenceGame(MatrixPreference(t, check=False), s, BETA) for t, s in zip(tables, starts, strict=True)]
    arrays = [(game.preference.table[0].numpy(), game.log_reference[0].numpy()) for game in ones]  # type: ignore[attr-defined]
    steps = solve(together.select(slice(0, min(LOOP, games))), NashMp(None), TOLERANCE).queries // 2
    found: dict[str, Tensor] = {}

    def side_by_side(name: str, game: PreferenceGame, method: NashMp) -> Callable[[], int]:
        def work() -> int:
            found[name] = solve(game, method, TOLERANCE).log_policy
            return games

        return work

    def one_by_one() -> int:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # such small products only wait for a second one
        for game in alone[:LOOP]:
            solve(game, NashMp(None), TOLERANCE)
        torch.set_num_threads(threads)
        return min(LOOP, games)

    def numpy() -> int:
        for pair in arrays:
            numpy_solve(*pair, steps)
        return len(arrays)

    names = ("side by side", "side by side, least weight", "side by side, least weight, float32")
    workloads = {
        names[0]: side_by_side(names[0], together, NashMp()),
        names[1]: side_by_side(names[1], together, NashMp(None)),
        names[2]: side_by_side(names[2], single, NashMp(None)),
        "one by one": one_by_one,
        "NumPy, one by one": numpy,
    }
    rates = interleave(workloads, rounds=rounds, clock="wall")  # as many threads as there are set
    limit = torch.get_num_threads() * machine().limit(operations=4.0 * actions**2 * steps)  # two products a step
    about: dict[str, Any] = {"what": f"games of {actions} actions", "unit": "games", "batch": games, "limit": limit}
    rows = table(rates, names[2], clock="wall", actions=actions, **about)
    few = slice(0, min(64, games))
    star = equilibrium(together.select(few))
    for row in rows:
        if row["workload"] in found:
            worst = float(kl(star, found[row["workload"]][few].double()).max())
            row["largest KL"] = f"{worst:.1e}"
    return rows


def one_game(actions: int, rounds: int) -> list[dict[str, Any]]:
    """Iterations of two queries each."""
    game = PreferenceGame.of(sine_table(actions), BETA, cosine_reference(actions))
    matrix, start = sine_table(actions).numpy(), game.log_reference.numpy()
    steps = max(20, 40_000 // max(actions, 20))

    def ours() -> int:
        with torch.no_grad():
            at = begin(game)
            for _ in range(steps):
                at = NashMp().step(game, at)
        return steps

    def numpy() -> int:
        last = start
        for _ in range(steps):
            last = numpy_step(matrix, start, last)
        return steps

    rates = interleave({"one game": ours, "NumPy, one game": numpy}, rounds=rounds)
    limit = machine().limit(operations=4.0 * actions**2)
    about: dict[str, Any] = {"what": "one game, by actions", "axis": "actions", "batch": actions, "limit": limit}
    return table(rates, "one game", unit="iterations", actions=actions, **about)


def implicit(actions: int) -> dict[str, Any]:
    """One iteration on a game of rank 8 whose matrix would have actions^2 entries."""
    uniform = torch.full((actions,), -math.log(actions), dtype=torch.float64)
    game = PreferenceGame(random_circles(actions, planes=4, seed=0), uniform, BETA)
    at, seconds = begin(game), []
    with torch.no_grad():
        for _ in range(10):
            began = time.perf_counter()
            at = NashMp().step(game, at)
            seconds.append(time.perf_counter() - began)
    return {
        "workload": "one implicit game of rank 8",
        "unit": "iterations",
        "actions": actions,
        "threads": torch.get_num_threads(),
        "steps/s": len(seconds) / sum(seconds),
        "slowest iteration [s]": f"{max(seconds):.3f}",
        "largest KL": f"{float(kl(equilibrium(game), solve(game, NashMp(), TOLERANCE).log_policy)):.1e}",
    }
