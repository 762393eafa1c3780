"""Elementwise operations of a graph in C++, for one path: what `lanes.py` writes the loops with."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

C_TYPES = {
    torch.float32: "float",
    torch.float64: "double",
    torch.int64: "int64_t",
    torch.int32: "int32_t",
    torch.bool: "bool",
}
_FUNCTIONS = (
    "sin cos tan exp log erf erfc erfinv tanh sigmoid sinh cosh atan asin acos asinh acosh atanh expm1 log1p exp2 log2 "
    "sqrt rsqrt abs floor ceil trunc round sign reciprocal relu maximum minimum pow hypot remainder"
)
ONE_BY_ONE = frozenset(("asin", "acos", "asinh", "acosh", "atanh", "erfc", "exp2", "log2", "erfinv", "pow"))
"""Calls of the C library, which would keep all of a loop out of vector registers."""
_EXPRESSIONS = {
    **{name: f"{name}_({{}})" for name in _FUNCTIONS.split()},
    "neg": "-{0}",
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "addcmul": "{0} + {1} * {2}",
    "clamp_min": "maximum_({0}, {1})",
    "clamp_max": "minimum_({0}, {1})",
    "full": "{1}",
    "copy": "{1}",
    "scalar_tensor": "{0}",
    "_to_copy": "{0}",
    "convert_element_type": "{0}",
    "bitwise_and": "{0} & {1}",
    "bitwise_or": "{0} | {1}",
    "bitwise_xor": "{0} ^ {1}",
}
"""Operations whose arguments first become what their value is."""
_LOGIC = {"logical_and": "{0} && {1}", "logical_or": "{0} || {1}", "logical_not": "!{0}", "bitwise_not": "!{0}"}
"""The same, of truth values only."""
_QUESTIONS = {
    "lt": "{0} < {1}",
    "le": "{0} <= {1}",
    "gt": "{0} > {1}",
    "ge": "{0} >= {1}",
    "eq": "{0} == {1}",
    "ne": "{0} != {1}",
    "isnan": "{0} != {0}",
    "isinf": "abs_({0}) == INFINITY",
}
"""The same, where the arguments become what they have in common."""
_POWERS = {1.0: "{0}", 2.0: "{0} * {0}", 3.0: "{0} * {0} * {0}", 0.5: "sqrt_({0})", -1.0: "1 / {0}"}
_HARMLESS = frozenset({"dtype", "layout", "device", "pin_memory", "memory_format"})


class NotByLanesError(Exception):
    """Something that a lane cannot do alone."""


def name_of(node: fx.Node) -> str:
    """`add` of `aten.add.Tensor`."""
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        raise NotByLanesError(f"{node.op} {node.target}")
    return node.target._schema.name.split("::")[1]


def expression(node: fx.Node, text_of: Callable[[fx.Node], str]) -> str:
    """An operation in C++; `text_of` gives that of its arguments."""
    name, dtype = name_of(node), node.meta["val"].dtype
    kept = {key: value for key, value in node.kwargs.items() if key not in _HARMLESS}
    factor = kept.pop("alpha", kept.pop("value", 1))
    known: list[Any] = [arg.meta["val"] if isinstance(arg, fx.Node) else arg for arg in node.args]
    types: list[torch.dtype] = [dtype] * len(known)
    if name == "pow" and known[1] in _POWERS:
        form = _POWERS[known[1]]
    elif name == "where":
        form, types = "{0} ? {1} : {2}", [torch.bool, dtype, dtype]
    elif name in _QUESTIONS:
        form = _QUESTIONS[name]
        types = [known[0].dtype if len(known) == 1 else torch.result_type(*known)] * len(known)
    elif name in _LOGIC and all(isinstance(value, Tensor) and value.dtype == torch.bool for value in known):
        form = _LOGIC[name]
    elif name in _EXPRESSIONS and (dtype != torch.bool or name not in ("add", "mul", "neg")):
        form = _EXPRESSIONS[name]
    else:
        raise NotByLanesError(str(node.target))
    if kept or dtype not in C_TYPES or (name == "div" and not dtype.is_floating_point):
        raise NotByLanesError(f"{node.target} of {dtype} with {kept}")
    each = zip(node.args, known, types, strict=True)
    texts = [cast(text_of(arg), a.dtype, t) if isinstance(arg, fx.Node) else literal(a, t) for arg, a, t in each]
    if factor != 1:
        texts[1] = f"{literal(factor, dtype)} * {texts[1]}"
    return form.replace("{}", ", ".join(f"{{{k}}}" for k in range(len(texts)))).format(*texts)


def cast(text: str, have: torch.dtype, want: torch.dtype) -> str:
    """A value as one of another dtype."""
    if have == want:
        return text
    kind = C_TYPES[want]  # gcc makes no vectors of numbers made of truth values
    return f"({text} ? {kind}(1) : {kind}(0))" if have == torch.bool else f"{kind}({text})"


def literal(value: Any, dtype: torch.dtype) -> str:
    """A number of a graph."""
    if isinstance(value, (list, tuple, torch.dtype)) or value is None:
        return ""  # sizes and the like
    if not isinstance(value, (bool, int, float)):
        raise NotByLanesError(f"{value!r} among numbers")
    if isinstance(value, float) and not math.isfinite(value):
        return "NAN" if math.isnan(value) else "INFINITY" if value > 0 else "-INFINITY"
    return f"{C_TYPES[dtype]}({value!r})" if not isinstance(value, bool) else f"{C_TYPES[dtype]}({int(value)})"


def over_lanes(*lines: str) -> list[str]:
    """A loop over the lanes."""
    return ["#pragma omp simd", "for (int i = 0; i < LANES; i++) {", *lines, "}"] if lines else []
