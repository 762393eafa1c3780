"""Every public name says what it is, files stay short, and nothing is left to be done later."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = [p for folder in ("rlcore", "envs", "agents", "experiments") for p in sorted((ROOT / folder).rglob("*.py"))]
LONGEST = 300
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK|WIP)\b")


def is_acceptance_row(node: ast.ClassDef | ast.FunctionDef) -> bool:
    """Whether the claim in `@row(system, id, claim, ...)` stands in for the docstring."""
    return any(
        isinstance(d, ast.Call) and isinstance(d.func, ast.Name) and d.func.id == "row" for d in node.decorator_list
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_file(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "the module says nothing about itself"
    silent = [
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_")
        if not ast.get_docstring(node) and not is_acceptance_row(node)
    ]
    assert not silent, f"public without a docstring: {', '.join(silent)}"
    assert len(text.splitlines()) <= LONGEST, "split the file"
    assert not UNFINISHED.search(text)
