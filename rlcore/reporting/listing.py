"""What is there to use: read from the sources, importing none of them, so that `rlcore list` answers at once."""

from __future__ import annotations

import ast
import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path


def environments() -> dict[str, str]:
    """Environment ids and their summaries, foreign ones last, from the catalog, which is plain data."""
    for folder in folders_of("rlcore.envs"):
        spec = spec_from_file_location("_rlcore_envs_catalog", folder / "catalog.py")
        if spec is not None and spec.loader is not None and (folder / "catalog.py").exists():
            module = sys.modules[spec.name] = module_from_spec(spec)  # without its package, which would load Gymnasium
            spec.loader.exec_module(module)
            return {name: entry.summary for name, entry in (module.CATALOG | module.FOREIGN).items()}
    return {}


def agents() -> dict[str, str]:
    """Agent classes by full name, with the first line of their docstrings."""
    found = {}
    for folder in folders_of("rlcore.agents"):
        for path in sorted(folder.rglob("*.py")):
            module = ".".join(["rlcore.agents", *path.relative_to(folder).with_suffix("").parts])
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef) and "Agent" in map(base_name, node.bases):
                    found[f"{module}.{node.name}"] = first_line(node)
    return found


def experiments() -> dict[str, str]:
    """Experiment modules, those that define `run`, with the first line of their docstrings."""
    return modules_in("rlcore.experiments", "run")


def benchmarks() -> dict[str, str]:
    """Benchmark modules, those that define `measure`, with the first line of their docstrings."""
    return modules_in("rlcore.experiments.benchmark", "measure")


def modules_in(package: str, function: str) -> dict[str, str]:
    """The modules of a package that define `function`."""
    found = {}
    for folder in folders_of(package):
        for path in sorted(folder.glob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            if any(isinstance(node, ast.FunctionDef) and node.name == function for node in tree.body):
                found[path.stem] = first_line(tree)
    return found


def folders_of(package: str) -> list[Path]:
    """Where a package's files are; empty if there is no such package. Imports its parents only."""
    try:
        spec = find_spec(package)
    except ModuleNotFoundError:
        return []
    return [] if spec is None else [Path(place) for place in spec.submodule_search_locations or ()]


def base_name(base: ast.expr) -> str:
    """`Agent` of both `Agent` and `Agent[Trajectory]`."""
    name = base.value if isinstance(base, ast.Subscript) else base
    return name.id if isinstance(name, ast.Name) else name.attr if isinstance(name, ast.Attribute) else ""


def first_line(node: ast.Module | ast.ClassDef) -> str:
    """First line of the docstring, or nothing."""
    return (ast.get_docstring(node) or "").partition("\n")[0]
