"""Imports only point down: between the four folders, and between the rooms of the core."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UPPER = ("envs", "agents", "experiments")
MAY_IMPORT = {
    "core": {"core"},
    "envs": {"core", "envs"},
    "agents": {"core", "agents"},
    "experiments": {"core", "envs", "agents", "experiments"},
}
FOUNDATION = ("errors", "checks", "parallel", "seeding", "timegrid")
ROOMS = ("foundation", "data", "functional", "nn", "simulation", "reporting", "training", "interop", "cli")
FILES = [path for folder in ("rlcore", *UPPER) for path in sorted((ROOT / folder).rglob("*.py"))]


def layer_of(module: str) -> str | None:
    """`rlcore.envs.x` -> envs, `rlcore.data` -> core, third parties -> None."""
    parts = module.split(".")
    if parts[0] in UPPER:
        return f"top-level name {parts[0]!r}"
    if parts[0] != "rlcore":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in UPPER else "core"


def room_of(module: str) -> str:
    """`rlcore.data.batches` -> data, `rlcore.errors` -> foundation."""
    parts = module.split(".")
    name = parts[1] if len(parts) > 1 else ""
    if name in ("", "__version__", *FOUNDATION):
        return "foundation"
    return "cli" if name == "__main__" else name


def module_name(path: Path) -> str:
    """The name under which a file of the tree is imported."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    if parts[0] != "rlcore":
        parts.insert(0, "rlcore")
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(source: str, name: str) -> list[tuple[int, str]]:
    """Line and module of every import, those inside functions and under TYPE_CHECKING too."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}:{node.lineno}: a relative import hides the layer; write it in full"
            base = node.module or ""
            found += [(node.lineno, f"{base}.{a.name}" if base == "rlcore" else base) for a in node.names]
    return found


def violations(own: str, source: str) -> list[str]:
    """What is wrong with the imports of a module, one line each."""
    wrong = []
    own_layer = layer_of(own)
    assert own_layer is not None
    for line, module in imported(source, own):
        layer = layer_of(module)
        if layer is None:
            continue
        if layer not in MAY_IMPORT[own_layer]:
            wrong.append(f"{own}:{line}: {own_layer} may not import {module}")
        elif own_layer == "core":
            if room_of(module) not in ROOMS:
                wrong.append(f"{own}:{line}: name the room of {module}, one of {', '.join(ROOMS)}")
            elif ROOMS.index(room_of(module)) > ROOMS.index(room_of(own)):
                wrong.append(f"{own}:{line}: {room_of(own)} may not import {module}, which lies above it")
    return wrong


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_point_down(path: Path) -> None:
    assert not violations(module_name(path), path.read_text())


@pytest.mark.parametrize("path", sorted((ROOT / "rlcore").iterdir()), ids=lambda path: path.name)
def test_every_room_has_its_place(path: Path) -> None:
    if path.suffix == ".py" or (path.is_dir() and path.name != "__pycache__"):
        assert room_of(f"rlcore.{path.stem}".removesuffix(".__init__")) in ROOMS


@pytest.mark.parametrize(
    ("own", "source"),
    [
        ("rlcore.envs.x", "from rlcore.agents import martingale"),
        ("rlcore.agents.x", "import rlcore.envs.control"),
        ("rlcore.data.x", "def f():\n    from rlcore.training import run"),
        ("rlcore.simulation.x", "from rlcore import training"),
        ("rlcore.reporting.x", "from rlcore import begin"),
        ("rlcore.training.x", "import rlcore.envs"),
        ("rlcore.experiments.x", "from envs import catalog"),
    ],
)
def test_the_check_sees_a_violation(own: str, source: str) -> None:
    assert violations(own, source)


def test_the_check_refuses_relative_imports() -> None:
    with pytest.raises(AssertionError, match="relative"):
        violations("rlcore.data.x", "from . import batches")
