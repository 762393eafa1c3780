"""What every agent is: two methods to write, the rest final."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from rlcore.errors import CheckpointError
from rlcore.training.checkpoint import read_state, write_state
from rlcore.training.sources import Source

if TYPE_CHECKING:
    from rlcore.training.trainer import Callback

Batch = TypeVar("Batch")
Metrics = Mapping[str, Tensor | float]


class Agent(nn.Module, ABC, Generic[Batch]):
    """A policy that learns from batches.

    An agent owns its parameters and its optimisers and nothing else: no environment, buffer, logger or step counter.
    Subclasses are final; they write `act` and `update`, set `noise_dim`, and put optimisers into `optimizers`.
    """

    noise_dim: int = 0
    """Standard normals that `act` consumes per row when it is not asked for its deterministic action."""

    def __init__(self) -> None:
        super().__init__()
        self.optimizers: dict[str, Optimizer] = {}

    @abstractmethod
    def act(self, obs: Tensor, *, noise: Tensor | None = None) -> Tensor:  # [B, d], [B, noise_dim] -> [B, m]
        """Actions; noise None asks for the deterministic ones."""

    @abstractmethod
    def update(self, batch: Batch) -> Metrics:
        """Learn from one batch; returns what is worth watching, under TensorBoard tags such as `train/q_loss`."""

    @final
    def learn(self, source: Source[Batch], iterations: int, *, callbacks: Iterable[Callback] = ()) -> dict[str, float]:
        """Gather and update, `iterations` times; returns the metrics of the last one."""
        from rlcore.training.trainer import Phase, run  # the trainer knows agents, not the other way round

        return run(self, [Phase("learn", source, iterations, self.update)], callbacks)

    @final
    def training_state(self) -> dict[str, Any]:
        """Parameters, buffers and optimisers: all that a later update depends on."""
        return {"model": self.state_dict(), "optimizers": {k: v.state_dict() for k, v in self.optimizers.items()}}

    @final
    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Inverse of `training_state`; refuses a state of another architecture."""
        try:
            self.load_state_dict(state["model"])
            for name, optimizer in self.optimizers.items():
                optimizer.load_state_dict(deepcopy(state["optimizers"][name]))  # torch would share its tensors
        except (KeyError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"the checkpoint does not fit this {type(self).__name__}: {reason}") from error

    @final
    def save(self, path: str | Path) -> None:
        """Write the training state to one file, atomically."""
        write_state(Path(path), {"agent": type(self).__name__, "state": self.training_state()})

    @final
    def load(self, path: str | Path) -> None:
        """Read what `save` wrote, into an agent made with the same settings."""
        content = read_state(Path(path))
        if content.get("agent") != type(self).__name__:
            raise CheckpointError(f"{path} holds {content.get('agent')!r}, not a {type(self).__name__}")
        self.load_training_state(content["state"])

    @final
    @torch.no_grad()
    def predict(
        self,
        observation: NDArray[Any],
        state: tuple[NDArray[Any], ...] | None = None,
        episode_start: NDArray[Any] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[np.float32], tuple[NDArray[Any], ...] | None]:
        """Stable-Baselines3's signature, so that its tools (`evaluate_policy`, ...) work on an agent: [N, d] -> [N, m].

        Its noise comes from torch's global generator.
        """
        parameter = next((p for p in (*self.parameters(), *self.buffers()) if p.is_floating_point()), torch.empty(0))
        obs = torch.as_tensor(observation, dtype=parameter.dtype, device=parameter.device)
        rows = obs.reshape(-1, obs.shape[-1])
        noise = None if deterministic else torch.randn(len(rows), self.noise_dim, dtype=obs.dtype).to(obs.device)
        action = self.act(rows, noise=noise).reshape(*obs.shape[:-1], -1)
        return action.cpu().numpy().astype(np.float32), state
