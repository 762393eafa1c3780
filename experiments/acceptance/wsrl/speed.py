"""Speed and memory, each beside the way that published code takes, interleaved in one run; some on a GPU only."""

from __future__ import annotations

import statistics

import torch

from rlcore.data import ChainedReplay, ReplayBuffer, Transitions
from rlcore.experiments.benchmark import sac, wsrl
from rlcore.reporting.acceptance import Measurement, at_least, row

SYSTEM = "wsrl"
ROWS, PATHS, EPISODE = 1_000_000, 1000, 1000


def ratio(rates: dict[str, list[float]], ours: str, theirs: str) -> float:
    """Median over rounds of our rate over theirs."""
    return statistics.median(a / b for a, b in zip(rates[ours], rates[theirs], strict=True))


@row(SYSTEM, "T1", "Cal-QL, 2 critics, 256 rows, GPU: compiled over eager list of modules", ">= 8", needs="cuda")
def offline_on_gpu() -> Measurement:
    found = wsrl.two_critic_rates(count=20, device="cuda")
    return at_least(ratio(found, "stacked, compiled", "list of modules"), 8.0)


@row(SYSTEM, "T2", "SAC, 2 critics, 256 rows, GPU: updates/s over Stable-Baselines3's", ">= 5", needs="cuda")
def sac_on_gpu() -> Measurement:
    found = sac.rates(256, updates=50, rounds=7, device="cuda")
    return at_least(ratio(found, "rlcore SacRedq, compiled", "Stable-Baselines3 SAC"), 5.0)


@row(SYSTEM, "T3", "online step, 10 critics, 4 updates, GPU: compiled over eager list of modules", ">= 8", needs="cuda")
def online_on_gpu() -> Measurement:
    found = wsrl.online_rates(count=20, device="cuda")
    return at_least(ratio(found, "stacked, compiled", "list of modules"), 8.0)


@row(SYSTEM, "T6", "8 seeds as one batch over 8 seeds one by one, GPU", ">= 4", needs="cuda")
def seeds_on_gpu() -> Measurement:
    return at_least(ratio(wsrl.seed_rates(count=20, device="cuda"), "one batch", "one by one"), 4.0)


@row(
    SYSTEM,
    "sac",
    "SAC, 2 critics, 256 rows: updates/s over Stable-Baselines3's, one thread each; layers of 2 x 64, of 2 x 256",
    ">= 2; >= 2",
)
def sac_on_cpu() -> Measurement:
    narrow, wide = (ratio(sac.rates(n), "rlcore SacRedq, compiled", "Stable-Baselines3 SAC") for n in (64, 256))
    return Measurement(">= 2; >= 2", f"{narrow:.2f}; {wide:.2f}", narrow >= 2.0 and wide >= 2.0)


@row(
    SYSTEM, "T4", "online step, 10 critics, 4 updates: compiled stack over eager list of modules, one thread", ">= 1.15"
)
def online_step() -> Measurement:
    return at_least(ratio(wsrl.online_rates(), "stacked, compiled", "list of modules"), 1.15)


@row(SYSTEM, "T5", "Cal-QL step with 10 critics: evaluating sampled members over evaluating all, one thread", ">= 3")
def offline_step() -> Measurement:
    return at_least(ratio(wsrl.offline_rates(rounds=3), "sampled members only", "all members"), 3.0)


@row(
    SYSTEM,
    "T7",
    "replay of 10^6 rows of 27 + 8 numbers: GB plain, GB chained; chained over float64 arrays",
    "<= .3; <= .5",
)
def replay_memory() -> Measurement:
    chained, plain = ChainedReplay(ROWS, paths=PATHS), ReplayBuffer(ROWS)
    obs, action = torch.zeros(PATHS, 27), torch.zeros(PATHS, 8)
    zeros, ones = torch.zeros(PATHS), torch.ones(PATHS)
    for k in range(ROWS // PATHS):
        after = torch.full((PATHS, 27), float(k + 1))
        last = torch.full((PATHS,), (k + 1) % EPISODE == 0)
        step = Transitions(obs, action, zeros, ones, after, ones, {"last": last})
        chained.add(step)
        obs = torch.where(last.unsqueeze(1), -1.0, after)
    plain.add(step)  # it allocates all of its storage at once
    stored = plain.rows
    assert stored is not None
    tensors = (stored.obs, stored.action, stored.reward, stored.discount, stored.next_obs, stored.dt)
    size = sum(x.nbytes for x in (*tensors, *stored.extras.values())) / 1e9
    both = 8 * (2 * 27 + 8 + 2) * ROWS / 1e9  # observations twice, action, reward, mask
    share = chained.nbytes / 1e9 / both
    got = f"{size:.3f}, {chained.nbytes / 1e9:.3f}; {share:.3f}"
    return Measurement("<= 0.3, <= 0.3; <= 0.5", got, size <= 0.3 and chained.nbytes <= 0.3e9 and share <= 0.5)
