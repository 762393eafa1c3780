"""What the off-policy agents are made of: a policy, an ensemble of critics and its slow copy, for S independent seeds.

Inside, actions live on the unit box [-1, 1]^m; `act` and `rows` translate. With several seeds, row b of a batch of
paths belongs to seed b mod S, and a batch to learn from leads with [S, N].
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from rlcore.checks import check_numbers
from rlcore.data import Transitions
from rlcore.errors import ConfigError, DataError, ShapeError
from rlcore.nn.ensemble import Ensemble, Layers
from rlcore.nn.squashed import Box
from rlcore.nn.steps import follow
from rlcore.nn.tanh_gaussian import TanhGaussian


class Spaces(Protocol):
    """Sizes and bounds of a problem; a `ControlSpec` has them."""

    @property
    def observation_dim(self) -> int: ...
    @property
    def action_dim(self) -> int: ...
    @property
    def action_low(self) -> float: ...
    @property
    def action_high(self) -> float: ...


@dataclass(frozen=True)
class DataSpaces:
    """The same for a data set without an environment."""

    observation_dim: int
    """d."""
    action_dim: int
    """m."""
    action_low: float = -1.0
    """Lower end of every component of the action."""
    action_high: float = 1.0
    """Upper end."""


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes and kinds of the networks."""

    critics: int = 10
    """E, members of the ensemble."""
    critic: Layers = field(default_factory=lambda: Layers(layer_norm=True))
    """Hidden layers of each critic."""
    actor: Layers = field(default_factory=Layers)
    """Hidden layers of the policy."""
    shared_head: bool = False
    """Whether the critics end in one output layer, as in the published code of WSRL."""
    state_dependent_scale: bool = True
    """Whether the spread of the policy depends on the state."""


class Networks(nn.Module):
    """Policy pi, critics Q_1..Q_E and their slow copies, for S seeds; the only holder of weights in an agent."""

    def __init__(self, spaces: Spaces, config: NetworkConfig, *, seeds: int = 1, generator: torch.Generator) -> None:
        super().__init__()
        if seeds < 1:
            raise ConfigError(f"seeds must be at least 1, got {seeds}")
        self.seeds, self.action_dim, self.observation_dim = seeds, spaces.action_dim, spaces.observation_dim
        self.box = Box(spaces.action_low, spaces.action_high)
        d, m = spaces.observation_dim, spaces.action_dim
        self.policy = TanhGaussian(
            seeds, d, m, config.actor, generator=generator, state_dependent=config.state_dependent_scale
        )
        self.critics = Ensemble(
            seeds, config.critics, d + m, 1, config.critic, generator=generator, shared_head=config.shared_head
        )
        self.targets = copy.deepcopy(self.critics).requires_grad_(False)

    def act(self, obs: Tensor, noise: Tensor | None) -> Tensor:  # [B, d], [B, m] -> [B, m]
        """Actions in the problem's own box; `noise` None asks for tanh of the mean."""
        x = self.apart(obs)
        unit = self.policy.mode(x) if noise is None else self.policy.sample(x, self.apart(noise))[0]
        return self.box.from_unit(unit.transpose(0, 1).reshape(len(obs), -1))

    def apart(self, rows: Tensor) -> Tensor:  # [B, ...] -> [S, B / S, ...]
        """Rows of paths by seed, in the networks' precision."""
        if len(rows) % self.seeds:
            raise ShapeError(f"{len(rows)} rows cannot be shared out over {self.seeds} seeds; give a multiple of them")
        rows = rows.to(self.critics.head.weight.dtype)
        return rows.view(-1, self.seeds, *rows.shape[1:]).transpose(0, 1)

    def rows(self, batch: Transitions) -> Transitions:
        """The batch as [S, N, ...] in the networks' precision, with actions on the unit box."""
        dtype = self.critics.head.weight.dtype
        if self.seeds == 1:
            batch = batch.flatten().map(lambda x: (x.to(dtype) if x.is_floating_point() else x).unsqueeze(0))
        elif batch.reward.dim() != 2 or batch.reward.shape[0] != self.seeds:
            raise ShapeError(f"a batch for {self.seeds} seeds must lead with [{self.seeds}, N], got {shape_of(batch)}")
        if batch.obs.shape[2:] != (self.observation_dim,) or batch.action.shape[2:] != (self.action_dim,):
            raise ShapeError(
                f"rows must have {self.observation_dim} observations and {self.action_dim} actions, got obs "
                f"{list(batch.obs.shape)} and action {list(batch.action.shape)}; make the agent for these data's spaces"
            )
        if self.seeds > 1:
            batch = batch.to(dtype=dtype)
        return batch.replace(action=self.box.to_unit(batch.action))

    def q(self, obs: Tensor, unit: Tensor, chosen: Tensor | None = None) -> Tensor:  # [S, N, d], [S, N, m] -> [S, E, N]
        """Q of every critic, or of those chosen [S, k]."""
        return self.critics(torch.cat([obs, unit], dim=-1), chosen).squeeze(-1)  # type: ignore[no-any-return]

    def target_q(self, obs: Tensor, unit: Tensor, chosen: Tensor | None = None) -> Tensor:
        """The same of the slow copies."""
        return self.targets(torch.cat([obs, unit], dim=-1), chosen).squeeze(-1)  # type: ignore[no-any-return]

    def follow(self, rate: float) -> None:
        """Move the slow copies: target += rate (critic - target)."""
        follow(self.targets, self.critics, rate)


class HasNetworks(Protocol):
    """An agent of this family."""

    @property
    def networks(self) -> Networks: ...
    @property
    def optimizers(self) -> Mapping[str, Optimizer]: ...


def check_data(data: Transitions, spaces: Spaces) -> None:
    """Raise unless an agent for these spaces can learn from the rows: their sizes, and actions inside the box."""
    rows = data.flatten()
    wanted, got = (spaces.observation_dim, spaces.action_dim), (rows.obs.shape[1], rows.action.shape[1])
    if wanted != got:
        raise DataError(
            f"the data have {got[0]} observations and {got[1]} actions per row, the problem has {wanted[0]} and "
            f"{wanted[1]}; make the agent for these data's spaces"
        )
    low, high = spaces.action_low, spaces.action_high
    slack = 1e-6 * (high - low)
    outside = ((rows.action < low - slack) | (rows.action > high + slack)).any(1)
    if bool(outside.any()):
        row = int(outside.nonzero()[0])
        raise DataError(
            f"actions must lie in [{low:g}, {high:g}], got {rows.action[row].tolist()} in row {row}; "
            "clip or rescale them"
        )


def check_rates(**rates: float) -> None:
    """Raise unless these are finite and not negative; a rate of 0 keeps what it would move."""
    for name, value in rates.items():
        check_numbers(name, value)
        if value < 0.0:
            raise ConfigError(f"{name} must not be negative, got {value}; 0 keeps the parameters")


def shape_of(batch: Transitions) -> list[int]:
    """Leading shape of a batch."""
    return list(batch.reward.shape)


def slices(rows: Transitions, count: int) -> list[Transitions]:
    """[S, N, ...] cut into `count` pieces of N / count rows each."""
    size, left = divmod(rows.reward.shape[1], count)
    if left:
        raise ShapeError(f"{rows.reward.shape[1]} rows cannot be cut into {count} minibatches; give a multiple of them")
    if count == 1:
        return [rows]
    return [rows.map(lambda x, k=k: x[:, k * size : (k + 1) * size]) for k in range(count)]  # type: ignore[misc]


def check_extra(batch: Transitions, name: str, remedy: str) -> Tensor:
    """A column of the extras, or an error that says how to get it."""
    if name not in batch.extras:
        raise ShapeError(f"the rows need {name!r} among their extras, got {sorted(batch.extras)}; {remedy}")
    return batch.extras[name]
