"""`noise.blocks` by machine code: on a processor from `noise.cpp`, on other devices as a graph of `torch.compile`.

The same integers give the same normals as in eager code, to rounding. C++ is compiled by inductor's own means, at the
first call, and kept on disk with its graphs.
"""

from __future__ import annotations

import platform
from ctypes import CDLL, c_int, c_int64, c_uint64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._inductor.codecache import CppCodeCache
from torch._inductor.exc import CppCompileError, InvalidCxxCompiler

from rlcore.simulation.graphs import CompileError, Graph, Repeated
from rlcore.simulation.noise import Word, blocks

HERE = Path(__file__)
NORMALS = tuple(HERE.with_name(name) for name in ("elementary.hpp", "normals.hpp"))
SOURCE = HERE.with_name("noise.cpp")
FLAGS = ("-ftree-loop-vectorize", "-fno-math-errno", "-fno-trapping-math", "-fno-tree-pre")
"""Inductor writes vectors itself and forbids them to the compiler. Products and sums stay apart, as it asks: a row has
the same bits in a whole vector and in what is left over."""
WIDE = ("-mprefer-vector-width=512",) if platform.machine() in ("x86_64", "AMD64") else ()
AS_IT_IS = {"needs_vec_isa": False, "kernel_needs_vec_isa": False}
"""What inductor would write vectors with is not asked for: to find it out takes seconds."""
SIZES = 256
"""Sizes of noise whose calls are remembered."""
NOISE = Graph(lambda *args: [blocks(*args)], "the noise", None)
CALLS: dict[tuple[Any, ...], Repeated] = {}
"""Calls of the graph by their sizes."""


def machine_code(*parts: str | Path, name: str) -> CDLL:
    """C++, of files and of text, compiled for this processor and kept on disk."""
    processor = (
        f"// {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"  # code kept for another is not taken
    )
    try:
        text = "\n".join([processor, *(part.read_text() if isinstance(part, Path) else part for part in parts)])
        found: CDLL = CppCodeCache.load(text, extra_flags=(*FLAGS, *WIDE), **AS_IT_IS)
    except (CppCompileError, InvalidCxxCompiler) as error:
        raise CompileError(f"{name} cannot be compiled: {error}; use mode 'eager'") from error
    return found


@cache
def library() -> CDLL:
    """The compiled loops."""
    found = machine_code(*NORMALS, SOURCE, name="the noise")
    words, sizes = [c_uint64] * 3, [c_int64] * 2
    for function in (found.normals_float32, found.normals_float64):
        function.argtypes, function.restype = [*words, *sizes, c_void_p, c_int64, c_int, c_void_p], None
    return found


def draw(
    key: tuple[Word, Word], row: Tensor, stream: Word, first: Word, count: int, dtype: torch.dtype
) -> Tensor:  # -> [4 count, B]
    """`noise.blocks`, compiled for all sizes, streams and seeds at once."""
    if row.device.type != "cpu":
        return drawn_by_graph(key, row, stream, first, count, dtype)
    out, row = torch.empty(4 * count, len(row), dtype=dtype), row.contiguous()
    fill = library().normals_float32 if dtype == torch.float32 else library().normals_float64
    low, high, label, block = map(int, (*key, stream, first))
    fill(low, high, label, block, count, row.data_ptr(), len(row), torch.get_num_threads(), out.data_ptr())
    return out


def drawn_by_graph(
    key: tuple[Word, Word], row: Tensor, stream: Word, first: Word, count: int, dtype: torch.dtype
) -> Tensor:
    """The same where nothing may wait for a number: seed, stream and place are tensors on the device."""
    low, high, label, block = (torch.as_tensor(word, device=row.device) for word in (*key, stream, first))
    sizes = (len(row), row.stride(), row.device, count, dtype)
    if sizes not in CALLS:
        if len(CALLS) == SIZES:
            CALLS.clear()
        CALLS[sizes] = Repeated(NOISE)
    (drawn,) = CALLS[sizes]((low, high, row, label, block), ((low, high), row, label, block, count, dtype))
    return drawn  # type: ignore[no-any-return]
