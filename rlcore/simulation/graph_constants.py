"""What a graph computes of constants alone, taken out of it and computed once."""

from __future__ import annotations

from collections.abc import Container

import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily

from rlcore.simulation.lifted import arguments

_FULL, _IOTA = torch.ops.aten.full.default, torch.ops.prims.iota.default
"""Operations that make a tensor of nothing."""


def given_constants(graph: fx.GraphModule, rows: int, mode: FakeTensorMode) -> dict[str, Tensor]:
    """What is the same in every call becomes the graph's last arguments -> what they are, by name."""
    known: dict[fx.Node, Tensor] = {}
    with unset_fake_temporarily():
        for node in graph.graph.nodes:
            if node.op == "get_attr":
                known[node] = getattr(graph, node.target).clone()
            elif is_constant(node, known, rows):
                args, kwargs = fx.node.map_arg((node.args, dict(node.kwargs)), known.__getitem__)
                known[node] = node.target(*args, **kwargs)
    found: dict[str, Tensor] = {}
    for node, value in known.items():
        if all(user in known for user in node.users) or (node.target is _FULL and value.numel() == 1):
            continue  # of no further use, or a number, which stays where it is
        with graph.graph.inserting_after(arguments(graph.graph)[-1]):
            argument = graph.graph.placeholder(f"constant_{len(found)}")
        argument.meta["val"] = mode.from_tensor(value, static_shapes=True)
        found[argument.name] = value
        node.replace_all_uses_with(argument, lambda user: user not in known)
    for node in reversed(known):  # users before what they use, so that a whole chain goes
        if not node.users:
            graph.graph.erase_node(node)
    graph.recompile()
    return found


def is_constant(node: fx.Node, known: Container[fx.Node], rows: int) -> bool:
    """Whether an operation makes a tensor of constants alone, and not one for each path."""
    value, target = node.meta.get("val"), node.target
    if not isinstance(value, Tensor) or (rows > 1 and rows in value.shape and target is not _IOTA):
        return False
    if not isinstance(target, torch._ops.OpOverload) or target._schema.is_mutable:
        return False
    if torch.Tag.nondeterministic_seeded in target.tags:
        return False  # what draws is refused, not drawn once
    sources = node.all_input_nodes
    return all(source in known for source in sources) if sources else target in (_FULL, _IOTA)
