"""Weights to be published or handed on: safetensors, written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from rlcore.errors import CheckpointError, FolderError


def write_weights(path: str | Path, weights: Mapping[str, Tensor], about: Mapping[str, str] | None = None) -> None:
    """Named tensors to one file; a failure, such as a full disk, leaves an older file as it was."""
    path = Path(path)
    payload = save({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}, dict(about or {}))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise FolderError(f"cannot write the weights {path}: {error.strerror}; choose another folder") from error


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """What `write_weights` wrote, or an error that says why not."""
    try:
        return load(Path(path).read_bytes())
    except FileNotFoundError as error:
        raise CheckpointError(f"no weights at {path}; check the path") from error
    except OSError as error:
        raise CheckpointError(f"cannot read the weights {path}: {error.strerror}") from error
    except SafetensorError as error:
        raise CheckpointError(f"{path} is no safetensors file, or is damaged: {error}") from error
