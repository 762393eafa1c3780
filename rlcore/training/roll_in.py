"""Jump-start: a guide acts for the first seconds of every episode, then the learner, with ever less of the guide.

Source: Uchendu et al., "Jump-start reinforcement learning", ICML 2023, algorithm 1 (the curriculum).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rlcore.checks import check_not_negative, check_positive
from rlcore.data import Transitions
from rlcore.errors import ConfigError
from rlcore.simulation.policy import Policy
from rlcore.training.sources import Source

KEPT = ("seconds", "best", "sum", "episodes", "running", "elapsed")


@dataclass(frozen=True)
class RollInConfig:
    """The curriculum of `RollInSource`."""

    seconds: float
    """How long the guide acts at first [s]."""
    stages: int = 10
    """In so many equal cuts the guide's time falls to 0."""
    window: int = 20
    """Episodes of each seed over which returns are averaged before a decision."""
    tolerance: float = 0.05
    """A cut needs an average of at least the best one so far minus this [reward]."""


@dataclass(frozen=True)
class Relay:
    """The guide where `guided`, the learner elsewhere."""

    guide: Policy
    learner: Policy
    guided: Tensor  # bool [B]

    @property
    def noise_dim(self) -> int:
        return self.guide.noise_dim + self.learner.noise_dim

    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:
        split = self.guide.noise_dim
        ours, theirs = (None, None) if noise is None else (noise[:, split:], noise[:, :split])
        return torch.where(
            self.guided.unsqueeze(1).to(obs.device),
            self.guide.act(obs, noise=theirs if split else None).to(obs.dtype),
            self.learner.act(obs, noise=ours if self.learner.noise_dim else None).to(obs.dtype),
        )


class RollInSource(Source[Transitions]):
    """Rows of a source in which a guide starts every episode; row b is of seed b mod S.

    The source gives one step of each of `paths` paths per call, in their order, from the beginning of an episode on.
    Each seed has a curriculum of its own: when the mean undiscounted return of `window` episodes is within `tolerance`
    of the best such mean, the guide's time is cut by one stage. A Gymnasium source begins its episodes anew after a
    resume, while the time and the return of each go on.
    """

    def __init__(
        self, source: Source[Transitions], guide: Policy, config: RollInConfig, *, paths: int, seeds: int = 1
    ) -> None:
        check_not_negative("seconds", config.seconds, "s")
        check_not_negative("tolerance", config.tolerance)
        check_positive("stages", config.stages)
        check_positive("window", config.window)
        if paths % seeds:
            raise ConfigError(f"{paths} paths cannot be shared out over {seeds} seeds; give a multiple of them")
        self.source, self.guide, self.config, self.seeds = source, guide, config, seeds
        self.seconds = torch.full((seeds,), float(config.seconds), dtype=torch.float64)  # s, of each seed
        self.best = torch.full((seeds,), -torch.inf)
        self.sum, self.episodes = torch.zeros(seeds), torch.zeros(seeds)
        self.running = torch.zeros(paths)  # return so far of each path's episode
        self.elapsed = torch.zeros(paths, dtype=torch.float64)  # s since it began

    def next(self, policy: Policy) -> Transitions:
        limit = self.seconds.repeat(len(self.elapsed) // self.seeds)
        guided = self.elapsed < limit * (1.0 - 1e-6)  # a float32 dt sums up to slightly less than it should
        batch = self.source.next(Relay(self.guide, policy, guided))
        self.steps, self.simulated = self.source.steps, self.source.simulated
        rows = batch.flatten()
        if len(rows) != len(self.elapsed):
            raise ConfigError(
                f"a roll-in needs 1 step of each of {len(self.elapsed)} paths per call, got {len(rows)} rows"
            )
        last = rows.extras["last"].cpu()
        self.elapsed = (self.elapsed + rows.dt.double().cpu()) * ~last
        self.watch(rows.reward.float().cpu(), last)
        return batch

    def watch(self, reward: Tensor, last: Tensor) -> None:  # [B], bool [B]
        """Count finished episodes, and cut the guide's time where a window of them was good enough."""
        self.running += reward
        self.sum += (self.running * last).view(-1, self.seeds).sum(0)
        self.episodes += last.view(-1, self.seeds).sum(0)
        self.running *= ~last
        full = self.episodes >= self.config.window
        mean = self.sum / self.episodes.clamp(min=1.0)
        good = full & (mean >= self.best - self.config.tolerance)
        cut = self.config.seconds / self.config.stages
        self.seconds = torch.where(good, (self.seconds - cut).clamp(min=0.0), self.seconds)
        self.best = torch.where(full, torch.maximum(self.best, mean), self.best)
        self.sum, self.episodes = (torch.where(full, 0.0, x) for x in (self.sum, self.episodes))

    def state_dict(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in KEPT}
        return super().state_dict() | own | {"source": self.source.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        for name in KEPT:
            setattr(self, name, state[name].clone())
        self.source.load_state_dict(state["source"])
