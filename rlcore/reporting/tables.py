"""Tables of text: ruled and coloured on a terminal, plain aligned columns when piped."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TextIO


def print_rows(
    headers: Sequence[str], rows: Sequence[Sequence[str]], file: TextIO | None = None, styles: Sequence[str] = ()
) -> None:
    """Print rows of text; `styles` are rich styles, one per row, used on a terminal only."""
    file = file or sys.stdout
    if file.isatty():
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        table = Table(*headers)
        for row, style in zip(rows, styles or [""] * len(rows), strict=True):
            table.add_row(*map(escape, row), style=style)
        Console(file=file).print(table)
        return
    lines = [list(headers), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    for line in lines:
        file.write("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() + "\n")
