"""Checkpoints: plain types and tensors, written whole or not at all, and never unpickled.

A file starts with one line that names its format and the SHA-256 of the rest, so that a damaged or foreign file is
refused before anything reads it; the rest is `torch.save` of dicts, lists, numbers, strings and tensors (`weights_only`
loading).
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from rlcore.errors import CheckpointError, FolderError

MAGIC = "rlcore-checkpoint"
SCHEMA = 2


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write to a temporary name, flush to disk, then rename: a kill leaves the old file or the new one, never half."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    header = f"{MAGIC} {SCHEMA} {hashlib.sha256(payload).hexdigest()}\n".encode()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(header + payload)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise FolderError(f"cannot write the checkpoint {path}: {error.strerror}; choose another folder") from error


def read_state(path: Path) -> dict[str, Any]:
    """Read what `write_state` wrote; raises `CheckpointError` with the reason otherwise."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(f"no checkpoint at {path}; check the path, or start without --resume") from error
    except OSError as error:
        raise CheckpointError(f"cannot read the checkpoint {path}: {error.strerror}") from error
    header, _, payload = content.partition(b"\n")
    words = header.decode("ascii", "replace").split()
    if len(words) != 3 or words[0] != MAGIC:
        raise CheckpointError(f"{path} is not an rlcore checkpoint; it was written by another program")
    if words[1] != str(SCHEMA):
        raise CheckpointError(
            f"{path} has checkpoint schema {words[1]}, this version reads {SCHEMA}; use the other version"
        )
    if hashlib.sha256(payload).hexdigest() != words[2]:
        raise CheckpointError(f"{path} is damaged: its checksum does not match; resume from an earlier checkpoint")
    try:
        state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise CheckpointError(f"{path} holds more than plain types and tensors; it is not opened") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} does not hold a dict; it was not written by this program")
    return state
