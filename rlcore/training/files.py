"""The small files of a run folder: strict JSON, written whole or not at all, and compared field by field."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rlcore.errors import CheckpointError, FolderError


def plain(value: Any) -> Any:
    """The same in the types of strict JSON: dataclasses become dicts, infinities and everything unknown strings."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if abs(value) < float("inf") else str(value)
    return str(value)


def check_same(stored: Any, given: Any, where: Path) -> None:
    """Raise unless two plain values agree, naming the first field that does not, with both values."""
    old, new = flat(stored), flat(given)
    for name in [*old, *(key for key in new if key not in old)]:
        before, now = old.get(name, "nothing"), new.get(name, "nothing")
        if before != now:
            raise CheckpointError(
                f"{where} was made with {name} = {before!r}, this run has {now!r}; keep the settings, or start anew"
            )


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one dict with dotted names."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    parts = (flat(item, f"{prefix}.{key}" if prefix else str(key)) for key, item in value.items())
    return {name: item for part in parts for name, item in part.items()}


def check_free(path: Path) -> None:
    """Raise unless a run can be started at `path`; creates nothing."""
    if path.is_dir() and any(path.iterdir()):
        raise FolderError(f"{path} is not empty; choose another folder, or resume that run")
    ancestor = next(p for p in (path, *path.absolute().parents) if p.exists())
    if not ancestor.is_dir() or not os.access(ancestor, os.W_OK | os.X_OK):
        raise FolderError(f"cannot write to {path}: {ancestor} is not a writable folder; choose another folder")


def write_json(path: Path, value: Any) -> None:
    """Whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise FolderError(f"cannot write {path}: {error.strerror}; choose another place") from error


def read_json(path: Path) -> Any:
    """The content of a JSON file, or a `CheckpointError` that says why not."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {error}; it is missing or damaged") from error


def versions() -> dict[str, str]:
    """What the run was made with."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in ("rlcore-lab", "torch", "numpy", "gymnasium", "stable-baselines3"):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
