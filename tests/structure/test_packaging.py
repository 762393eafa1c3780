"""The package list in pyproject.toml is the folders, and the constraints cover the dependencies."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {"rlcore": "rlcore", "rlcore.agents": "agents", "rlcore.envs": "envs", "rlcore.experiments": "experiments"}


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def normal(requirement: str) -> str:
    """Name of a requirement, as package indexes compare them."""
    return re.sub(r"[-_.]+", "-", re.split(r"[<>=!~;\[ ]", requirement, maxsplit=1)[0]).lower()


def test_folders_stand_under_one_name() -> None:
    assert pyproject()["tool"]["setuptools"]["package-dir"] == FOLDERS


def test_every_package_is_listed() -> None:
    found = {
        ".".join([name, *init.parent.relative_to(ROOT / folder).parts])
        for name, folder in FOLDERS.items()
        for init in (ROOT / folder).rglob("__init__.py")
    }
    listed = pyproject()["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(found), "a package that is not listed is silently absent from the wheel"


@pytest.mark.parametrize("folder", FOLDERS.values())
def test_every_folder_with_code_is_a_package(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        assert (path.parent / "__init__.py").exists(), f"{path.parent} needs an __init__.py"


def test_constraints_pin_every_dependency() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line) for line in lines)
    names = [line.split("==")[0] for line in lines]
    assert names == sorted(names)
    project = pyproject()["project"]
    extras = project["optional-dependencies"]
    needed = {normal(line) for line in project["dependencies"] + extras["dev"] + extras["lm"] + extras["robotics"]}
    assert needed - {normal(project["name"])} <= set(names)


def test_lists_are_sorted() -> None:
    project = pyproject()["project"]
    for requirements in (project["dependencies"], *project["optional-dependencies"].values()):
        assert [normal(line) for line in requirements] == sorted(normal(line) for line in requirements)
