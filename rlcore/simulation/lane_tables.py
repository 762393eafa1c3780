"""What a graph over B paths reads from tables, and computes of what is the same for all paths, in C++."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import fx

from rlcore.simulation.lane_addresses import Value, evenly, grid, memory
from rlcore.simulation.lane_operations import C_TYPES, NotByLanesError

if TYPE_CHECKING:
    from rlcore.simulation.lanes import Body

LARGEST = 1 << 10
"""Columns of an array of the block, or numbers that are the same for all, at most: with more they leave the cache."""


def looked_up(body: Body, node: fx.Node) -> Value:
    """`table[i, j]` of a table that is given, with numbers of each path; beyond its ends there is no number."""
    table, index = cast(tuple[fx.Node, Sequence[fx.Node]], node.args)
    (place, at), dtype, name = body.address(table), node.meta["val"].dtype, f"v{len(body.values)}"
    if not isinstance(place, int) or at.numel() == 0 or node.meta["val"].numel() != body.rows:
        raise NotByLanesError(f"{node.name} is no element of a given table for each path")
    first, steps = grid(at, node.name)
    offset, inside = [str(first)], []
    for k, (part, size, step) in enumerate(zip(index, at.shape, steps, strict=True)):
        text = f"place_in({body.use(body.read(part))}, {size})"
        number = body.variable(f"{name}_{k}", text, torch.int64, uniform=False).text
        offset.append(f"{step} * maximum_({number}, int64_t(0))")
        inside.append(f"{number} >= 0")
    kind = C_TYPES[dtype]
    read = f"static_cast<const {kind} *>(given[{place}])[{' + '.join(offset)}]"
    found = body.variable(f"{name}_at", read, dtype, uniform=False)
    if not dtype.is_floating_point:
        return found
    beyond = f"({' && '.join(inside)} ? {kind}(0) : no_number<{kind}>())"  # added: gcc would read only inside
    return body.variable(name, f"{found.text} + {beyond}", dtype, uniform=False)


def shared(body: Body, node: fx.Node) -> bool:
    """Whether a few numbers are the same for all, and no single one."""
    value, sources = node.meta["val"], node.all_input_nodes
    known = all(
        isinstance(body.addresses.get(arg, (None,))[0], (int, str))
        or (arg in body.values and body.values[arg].stage is None)
        for arg in sources
    )
    return bool(sources) and known and body.rows not in value.shape and value.numel() <= LARGEST


def shared_element(body: Body, node: fx.Node, shape: Sequence[int]) -> str:
    """Element c of a value that is the same for all, as it is broadcast."""
    if node in body.values:
        return body.values[node].text
    place, at = body.address(node)
    line = evenly(at.broadcast_to(shape).reshape(1, -1), node.name)
    return memory(cast(int | str, place), line, node.meta["val"].dtype)
