"""What one agent gives another when offline training ends and online training begins: weights, never data.

The weights have the names of their parts (`policy.`, `critics.`, `targets.`, `temperature`) and Adam's moments those of
the parameters that they belong to, so that a file of them serves agents of other classes too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from rlcore.agents.actor_critic.networks import HasNetworks
from rlcore.errors import CheckpointError
from rlcore.training.weights import read_weights, write_weights

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
OPTIMIZERS = {"critics": "critic", "policy": "actor", "temperature": "temperature"}


@dataclass(frozen=True)
class HandOver:
    """What is taken over; the rest begins anew."""

    policy: bool = True
    """The policy."""
    critics: bool = True
    """The critics and their slow copies."""
    temperature: bool = True
    """The temperature, if the giver has one."""
    moments: bool = True
    """Adam's moments of what is taken over."""


EVERYTHING = HandOver()


def parts_of(agent: HasNetworks) -> dict[str, dict[str, nn.Parameter]]:
    """The parameters that can be handed over, by part."""
    net = agent.networks
    parts = {name: dict(getattr(net, name).named_parameters()) for name in ("policy", "critics", "targets")}
    if "temperature" in agent.optimizers:
        parts["temperature"] = {"raw": agent.optimizers["temperature"].param_groups[0]["params"][0]}
    return parts


def moments_of(
    parts: Mapping[str, Mapping[str, nn.Parameter]], optimizers: Mapping[str, Optimizer], part: str
) -> Iterator[tuple[str, nn.Parameter, Optimizer]]:
    """Name, parameter and optimiser of every parameter of a part that Adam trains."""
    optimizer = optimizers.get(OPTIMIZERS.get(part, ""))
    if optimizer is not None:
        for name, parameter in parts[part].items():
            yield f"{part}.{name}", parameter, optimizer


def weights_of(agent: HasNetworks) -> dict[str, Tensor]:
    """Everything that another agent can go on from."""
    parts = parts_of(agent)
    found = {"seeds": torch.tensor(agent.networks.seeds)}
    for part, parameters in parts.items():
        found |= {f"{part}.{name}": parameter.detach() for name, parameter in parameters.items()}
        for name, parameter, optimizer in moments_of(parts, agent.optimizers, part):
            state = optimizer.state.get(parameter, {})
            found |= {f"adam.{key}.{name}": state[key] for key in MOMENTS if key in state}
    return found


def publish(agent: HasNetworks, path: str | Path) -> None:
    """Write the weights as a safetensors file."""
    write_weights(path, weights_of(agent), {"agent": type(agent).__name__})


def receive(agent: HasNetworks, giver: HasNetworks | str | Path, what: HandOver = EVERYTHING) -> None:
    """Go on from the weights of another agent, or from a file of them.

    Weights of one seed serve all seeds of the receiver. Nothing is changed if anything does not fit.
    """
    weights = read_weights(giver) if isinstance(giver, str | Path) else weights_of(giver)
    if "seeds" not in weights:
        raise CheckpointError("these weights are not those of an actor-critic agent; they lack 'seeds'")
    parts, copies = parts_of(agent), shared_out(int(weights["seeds"]), agent.networks.seeds)
    wanted = [*(["policy"] if what.policy else []), *(["critics", "targets"] if what.critics else [])]
    if what.temperature and "temperature.raw" in weights and "temperature" in parts:
        wanted.append("temperature")
    changes: list[tuple[Tensor, Tensor]] = []
    moments: list[tuple[Optimizer, nn.Parameter, dict[str, Tensor]]] = []
    for part in wanted:
        check_names(part, {name for name in weights if name.startswith(f"{part}.")}, parts[part])
        for name, parameter in parts[part].items():
            changes.append((parameter, fitted(f"{part}.{name}", weights[f"{part}.{name}"], parameter, copies)))
        for name, parameter, optimizer in moments_of(parts, agent.optimizers, part):
            stored = {key: weights[f"adam.{key}.{name}"] for key in MOMENTS if f"adam.{key}.{name}" in weights}
            if what.moments and len(stored) == len(MOMENTS):
                spread = {k: fitted(name, v, parameter, copies) for k, v in stored.items() if k != "step"}
                moments.append((optimizer, parameter, {"step": stored["step"].clone(), **spread}))
    with torch.no_grad():
        for tensor, value in changes:
            tensor.copy_(value)
    for optimizer, owner, state in moments:
        optimizer.state[owner] = {key: value.to(owner.device) for key, value in state.items()}


def shared_out(given: int, here: int) -> int:
    """How often the giver's seeds are repeated."""
    if given not in (1, here):
        raise CheckpointError(f"weights of {given} seeds cannot serve {here}; give weights of 1 seed or of as many")
    return here // given


def check_names(part: str, given: set[str], here: Mapping[str, nn.Parameter]) -> None:
    """Raise unless the giver has the same parameters in this part."""
    own = {f"{part}.{name}" for name in here}
    if given != own:
        missing, extra = sorted(own - given), sorted(given - own)
        found = f"it lacks {missing[0]}" if missing else f"it has {extra[0]}, which this agent has not"
        raise CheckpointError(f"the hand-over does not fit: {found}; give both agents the same `networks` settings")


def fitted(name: str, value: Tensor, here: Tensor, copies: int) -> Tensor:
    """The giver's tensor, repeated for every seed of the receiver; all tensors lead with the seeds."""
    value = value.repeat(copies, *[1] * (value.dim() - 1)) if copies > 1 else value.clone()
    if value.shape != here.shape:
        raise CheckpointError(
            f"the hand-over does not fit: {name} is {list(value.shape)} there and {list(here.shape)} here; "
            "give both agents the same spaces and `networks` settings"
        )
    return value
