"""Importing a package loads only what it needs; checked by module names, not by times."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "scipy", "matplotlib", "stable_baselines3", "tensorboard")
INSIDE = ("rlcore.agents.", "rlcore.envs.", "rlcore.experiments.")


def loaded_by(statement: str, folder: Path) -> set[str]:
    """Names of all modules in a fresh interpreter after a statement."""
    code = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["rlcore", "rlcore.envs", "rlcore.agents", "rlcore.experiments"])
def test_import_is_light(module: str, tmp_path: Path) -> None:
    loaded = loaded_by(f"import {module}", tmp_path)
    assert not loaded & set(HEAVY)
    inside = {name for name in loaded if name.startswith(INSIDE)}
    assert inside <= {"rlcore.envs.catalog"}


def test_the_check_sees_a_heavy_import(tmp_path: Path) -> None:
    assert "torch" in loaded_by("import rlcore\nrlcore.begin", tmp_path)


def test_gymnasium_knows_the_ids_after_the_import(tmp_path: Path) -> None:
    statement = "import gymnasium, rlcore.envs\nassert any(i.startswith('rlcore/') for i in gymnasium.registry)"
    assert "torch" not in loaded_by(statement, tmp_path)
