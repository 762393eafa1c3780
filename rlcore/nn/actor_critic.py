"""Policy and value of S independent runs: two networks side by side, or one with a memory.

Everything leads with [S, N]. `look` answers one observation; `along` follows sequences [L, S, N], for training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from rlcore.checks import check_integer
from rlcore.errors import ConfigError, ShapeError
from rlcore.nn.ensemble import Ensemble, Layers, StackedLinear
from rlcore.nn.heads import Head
from rlcore.nn.recurrent import Cell, RecurrentLayers

TWO_OF_64 = Layers((64, 64), activation="tanh")
Only = Literal["law", "value"]
POLICY_GAIN = 0.01  # of the last layer: a policy begins near the middle, whatever it sees


@dataclass(frozen=True)
class Memory:
    """Recurrent layers between the observation and the outputs."""

    cell: Cell = "gru"
    """gru or lstm."""
    width: int = 64
    """Units of each layer."""
    layers: int = 1
    """Layers on top of each other."""


class View(NamedTuple):
    """What the networks make of an observation."""

    law: Tensor  # [*, P] parameters of the head
    value: Tensor  # [*]
    memory: Tensor  # [*, M] what to remember; M = 0 without a memory


class ActorCritic(nn.Module):
    """Parameters of a head and a value for every observation [S, N, d + M], the memory being its last M numbers.

    Without a memory the policy and the value have networks of their own, of the same layers, computed as one. With one
    they share the recurrent layers. `input_scale` multiplies the observations.
    """

    scale: Tensor  # [d]

    def __init__(
        self,
        observation_dim: int,
        head: Head,
        layers: Layers = TWO_OF_64,
        memory: Memory | None = None,
        *,
        seeds: int = 1,
        generator: torch.Generator,
        input_scale: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        check_integer("seeds, observation_dim", seeds, observation_dim)
        if seeds < 1:
            raise ConfigError(f"seeds must be at least 1, got {seeds}")
        self.head, self.seeds, self.observation_dim = head, seeds, observation_dim
        scale = [1.0] * observation_dim if input_scale is None else list(input_scale)
        if len(scale) != observation_dim:
            raise ShapeError(f"input_scale needs {observation_dim} numbers, got {len(scale)}; one per observation")
        self.register_buffer("scale", torch.tensor(scale))
        self.free = nn.Parameter(torch.zeros(seeds, 1, head.free)) if head.free else None
        self.recurrent, self.networks, self.out = None, None, None
        if memory is None:
            wide = max(head.outputs, 1)
            self.networks = Ensemble(seeds, 2, observation_dim, wide, layers, generator=generator)
            last = self.networks.head
        else:
            self.recurrent = RecurrentLayers(
                memory.cell, seeds, observation_dim, memory.width, memory.layers, generator=generator
            )
            last = self.out = StackedLinear(seeds, memory.width, head.outputs + 1, 1.0, generator=generator)
        with torch.no_grad():
            policy = last.weight[::2] if memory is None else last.weight[..., : head.outputs]
            policy.mul_(POLICY_GAIN)
        self.memory_dim = 0 if self.recurrent is None else self.recurrent.memory

    def forward(self, obs: Tensor, only: Only | None = None) -> View | Tensor:
        """`look`, or one of its networks alone."""
        return self.look(obs) if only is None else self.alone(obs, only)

    def alone(self, obs: Tensor, only: Only) -> Tensor:  # [S, N, d + M] -> [S, N, P] or [S, N]
        """The law or the value, at half the price where they are two networks."""
        if self.networks is None:
            view = self.look(obs)
            return view.law if only == "law" else view.value
        found = self.networks(obs[..., : self.observation_dim] * self.scale, ("law", "value").index(only))[:, 0]
        return self.complete(found[..., : self.head.outputs]) if only == "law" else found[..., 0]

    def complete(self, law: Tensor) -> Tensor:  # [*, outputs] -> [*, P]
        """With the numbers that do not depend on the observation."""
        return law if self.free is None else torch.cat([law, self.free.expand(*law.shape[:-1], -1)], -1)

    def look(self, obs: Tensor) -> View:  # [S, N, d + M]
        """Law, value and next memory at single observations."""
        memory = obs[..., self.observation_dim :]
        return self.see(obs[..., : self.observation_dim], memory)

    def see(self, obs: Tensor, memory: Tensor) -> View:
        """The same with the memory apart."""
        x = obs * self.scale
        if self.networks is not None:
            both = self.networks(x)  # [S, 2, N, P]
            law, value = both[:, 0, :, : self.head.outputs], both[:, 1, :, 0]
        else:
            assert self.recurrent is not None
            assert self.out is not None
            hidden, memory = self.recurrent(x, memory)
            found = self.out(hidden)
            law, value = found[..., :-1], found[..., -1]
        return View(self.complete(law), value, memory)

    def along(self, obs: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:  # [L, S, N, d + M], [L, S, N]
        """Laws [L, S, N, P] and values [L, S, N] along sequences.

        The memory is the recorded one at the beginning, from there on the network's own, and cleared after `last`.
        """
        if len(obs) == 1:
            view = self.look(obs[0])
            return view.law.unsqueeze(0), view.value.unsqueeze(0)
        if self.networks is not None:
            flat = obs.transpose(0, 1).flatten(1, 2)  # [S, L N, d]
            view = self.look(flat)
            law, value = (x.reshape(len(x), len(obs), -1, *x.shape[2:]).transpose(0, 1) for x in view[:2])
            return law, value
        memory, views = obs[0, ..., self.observation_dim :], []
        for k in range(len(obs)):
            views.append(self.see(obs[k, ..., : self.observation_dim], memory))
            memory = torch.where(last[k].unsqueeze(-1), 0.0, views[-1].memory)
        return torch.stack([v.law for v in views]), torch.stack([v.value for v in views])
