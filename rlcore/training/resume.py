"""What a run must remember to go on bit for bit, gathered from agent, sources and torch, which know of no files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from rlcore.errors import CheckpointError
from rlcore.training.agent import Agent
from rlcore.training.files import check_same
from rlcore.training.trainer import Phase, Position


class Stateful(Protocol):
    """Whatever else a run depends on, such as `Streams`: saved with the checkpoint, restored with it."""

    def state_dict(self) -> Any: ...
    def load_state_dict(self, state: Any, /) -> Any: ...


def run_state(
    agent: Agent[Any], phases: Sequence[Phase], keep: Mapping[str, Stateful], position: Position
) -> dict[str, Any]:
    """All that the rest of a run depends on, in plain types and tensors."""
    sources = distinct_sources(phases)
    return {
        "finished": False,
        "position": [position.phase, position.iteration],
        "phases": [[phase.name, phase.iterations] for phase in phases],
        "steps": sum(source.steps for source in sources),
        "agent": agent.training_state(),
        "sources": [source.state_dict() for source in sources],
        "keep": {name: part.state_dict() for name, part in keep.items()},
        "rng": torch.get_rng_state(),
        "rng_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],  # type: ignore[no-untyped-call]
    }


def load_run_state(
    state: Mapping[str, Any], agent: Agent[Any], phases: Sequence[Phase], keep: Mapping[str, Stateful], path: Path
) -> None:
    """Inverse of `run_state`."""
    check_same({"phases": state["phases"]}, {"phases": [[phase.name, phase.iterations] for phase in phases]}, path)
    agent.load_training_state(state["agent"])
    try:
        for source, saved in zip(distinct_sources(phases), state["sources"], strict=True):
            source.load_state_dict(saved)
        for name, part in keep.items():
            part.load_state_dict(state["keep"][name])
        torch.set_rng_state(state["rng"])
        if state["rng_cuda"]:
            torch.cuda.set_rng_state_all(state["rng_cuda"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} does not fit this run: {' '.join(str(error).split())}") from error


def distinct_sources(phases: Sequence[Phase]) -> list[Any]:
    """The sources in order of first use; two phases may share one."""
    return list({id(phase.source): phase.source for phase in phases}.values())
