"""What a run must remember to go on bit for bit, gathered from agent, sources and torch, which know of no files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from rlcore.errors import CheckpointError
from rlcore.parallel import world
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
    """All that the rest of a run depends on, in plain types and tensors.

    Agents, `keep` and torch's generators are alike in all processes; the states of the sources are kept of each.
    """
    sources = distinct_sources(phases)
    return {
        "finished": False,
        "position": [position.phase, position.iteration],
        "phases": [[phase.name, phase.iterations] for phase in phases],
        "steps": sum(source.steps for source in sources),
        "agent": agent.training_state(),
        "sources": world().to_leader([source.state_dict() for source in sources]),
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
        for source, *saved in zip(distinct_sources(phases), *state["sources"], strict=True):
            if len(saved) == world().size:
                source.load_state_dict(saved[world().rank])
            else:
                source.load_shares(saved)
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


def check_same_start(agent: Agent[Any]) -> None:
    """Raise unless all processes begin with the same parameters."""
    if not world().alone:
        found = hashlib.sha256()
        for x in agent.parameters():
            found.update(x.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        world().check_same({"the hash of the initial weights": found.hexdigest()[:12]})
