"""From offline to online without the data (WSRL), and the same with them kept (RLPD, retention), as phases.

    1. pre-train an offline agent on the data, and let them go
    2. `SacRedq.warm_start(agent, ...)`: policy, critics, slow critics, temperature and Adam's moments go over
    3. warm-up: K steps of the sampled policy into an empty buffer, without an update
    4. online: soft actor-critic on that buffer alone, without conservatism

The warm-up is what replaces the data: bootstrapping on a handful of rows outside the data's support pulls Q down where
it was trained, the policy follows, and the next rows are worse. A few thousand rows of the policy's own stop that.
With `offline` rows in the batches the same phases are RLPD (a fresh agent) or fine-tuning with retention (the offline
agent itself).
Source: Zhou et al., "Efficient online reinforcement learning fine-tuning need not retain offline data", ICLR 2025; Ball
et al., ICML 2023.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from rlcore.data import Replay, ReplayBuffer, Transitions
from rlcore.errors import ConfigError
from rlcore.seeding import Streams
from rlcore.training import Phase, ReplaySource, Source
from rlcore.training.offline import DatasetSource, MixedSource, PrecededSource


@dataclass(frozen=True)
class FineTuning:
    """Lengths and ratios of the online part, per seed; a step is one control interval of one path."""

    warm_up: int = 5000
    """K, steps gathered before the first update; 0 is none at all."""
    steps: int = 200_000
    """Steps gathered while learning."""
    steps_per_update: int = 1
    """Steps between two calls of the agent's update."""
    rows: int = 1024
    """Rows per call of update, offline ones included; the agent cuts them into its minibatches."""
    offline_share: float = 0.0
    """Share of offline rows in every batch: 0 for WSRL, 1/2 for RLPD."""
    append: bool = False
    """Whether the offline rows are put into the replay buffer before the first step, rather than shares of batches."""
    capacity: int = 2_000_000
    """Rows of the replay buffer; more than are gathered are not allocated."""


def fine_tuning(
    update: Callable[[Transitions], Mapping[str, Tensor | float]],
    feed: Source[Transitions],
    config: FineTuning,
    *,
    streams: Streams,
    seeds: int = 1,
    offline: Transitions | None = None,
    buffer: Replay | None = None,
) -> list[Phase]:
    """Warm-up and online phase; `feed` gives `steps_per_update` rows of every seed per call, row b of seed b mod S.

    `buffer` replaces the default one, such as by a `ChainedReplay` of half the memory.
    """
    if min(config.warm_up, config.steps) < 0 or min(config.steps_per_update, config.rows, config.capacity) < 1:
        raise ConfigError("warm_up and steps must not be negative; steps_per_update, rows and capacity be at least 1")
    if not 0.0 <= config.offline_share < 1.0:
        raise ConfigError(f"offline_share must be in [0, 1), got {config.offline_share}; 0.5 is RLPD's")
    offline_rows = round(config.offline_share * config.rows)
    if (offline is not None) != (offline_rows > 0 or config.append):
        raise ConfigError("offline_share or append, and the offline rows, belong together: give both, or neither")
    if config.append and offline_rows:
        raise ConfigError(
            "offline rows are either appended or a share of every batch; leave append or offline_share out"
        )
    calls = [-(-steps // config.steps_per_update) for steps in (config.warm_up, config.steps)]
    capacity = min(config.capacity, sum(calls) * config.steps_per_update)
    if config.append and offline is not None:
        feed = PrecededSource(feed, offline, seeds=seeds)
        capacity += len(offline.flatten())
    buffer = buffer or ReplayBuffer(max(1, capacity) * seeds, seeds=seeds)
    rows = config.rows - offline_rows
    source: Source[Transitions] = ReplaySource(buffer, rows, generator=streams["replay"], feed=feed)
    if offline is not None and offline_rows:
        data = DatasetSource(offline, offline_rows, generator=streams["offline"], seeds=seeds)
        source = MixedSource(source, data)
    return [Phase("warm-up", source, calls[0], None), Phase("online", source, calls[1], update)]
