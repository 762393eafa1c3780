"""The gradient of a function's value at every row by all of its parameters, and a step along such a vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def per_sample_gradient(
    function: nn.Module, x: Tensor, parameters: dict[str, Tensor] | None = None
) -> Tensor:  # [..., d] -> [..., p]
    """df(x)/dtheta of every row, theta being all parameters in their order, flattened; at others if they are given."""

    def value(parameters: dict[str, Tensor], row: Tensor) -> Tensor:
        found: Tensor = torch.func.functional_call(function, parameters, (row.unsqueeze(0),))
        return found.squeeze(0)

    if parameters is None:
        parameters = {name: p.detach() for name, p in function.named_parameters()}
    rows = x.reshape(-1, x.shape[-1])
    found = torch.func.vmap(torch.func.grad(value), (None, 0))(parameters, rows)
    return torch.cat([found[name].flatten(1) for name in parameters], dim=1).reshape(*x.shape[:-1], -1)


@torch.no_grad()
def step_along(function: nn.Module, direction: Tensor) -> None:  # [p]
    """theta += direction."""
    place = 0
    for parameter in function.parameters():
        parameter.add_(direction[place : place + parameter.numel()].view_as(parameter))
        place += parameter.numel()
