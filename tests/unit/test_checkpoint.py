"""Checkpoints: damaged, cut, foreign and pickled files are refused in one line, and none is half-written."""

from __future__ import annotations

import hashlib
import os
import pickle
import tempfile
from pathlib import Path

import pytest
import torch

from rlcore.errors import CheckpointError, FolderError
from rlcore.training.checkpoint import MAGIC, SCHEMA, read_state, write_state

MARK = Path(tempfile.gettempdir()) / "rlcore-was-here"
STATE = {"weights": torch.arange(4.0), "numbers": [1, 2.5, None, "text"], "nested": {"on": True}}


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {MARK}",)


def sealed(payload: bytes, schema: int = SCHEMA) -> bytes:
    """A file with a valid header around any payload."""
    return f"{MAGIC} {schema} {hashlib.sha256(payload).hexdigest()}\n".encode() + payload


def test_round_trip(tmp_path: Path) -> None:
    write_state(tmp_path / "a" / "x.pt", STATE)
    state = read_state(tmp_path / "a" / "x.pt")
    assert torch.equal(state.pop("weights"), STATE["weights"])  # type: ignore[arg-type]
    assert state == {key: value for key, value in STATE.items() if key != "weights"}
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["x.pt"]


@pytest.mark.parametrize("cut", [0, 1, 10, 90, 200, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, cut: int) -> None:
    write_state(tmp_path / "x.pt", STATE)
    (tmp_path / "x.pt").write_bytes((tmp_path / "x.pt").read_bytes()[:cut])
    with pytest.raises(CheckpointError):
        read_state(tmp_path / "x.pt")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    write_state(tmp_path / "x.pt", STATE)
    content = bytearray((tmp_path / "x.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        read_state(tmp_path / "x.pt")


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="not an rlcore checkpoint"):
        read_state(tmp_path / "x.pt")
    (tmp_path / "x.pt").write_bytes(sealed(b"", schema=SCHEMA + 1))
    with pytest.raises(CheckpointError, match="schema"):
        read_state(tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        read_state(tmp_path / "missing.pt")


@pytest.mark.parametrize("by_torch", [True, False])
def test_a_pickle_is_never_executed(tmp_path: Path, by_torch: bool) -> None:
    mark = MARK
    mark.unlink(missing_ok=True)
    if by_torch:
        torch.save({"weights": Malicious()}, tmp_path / "payload")
        payload = (tmp_path / "payload").read_bytes()
    else:
        payload = pickle.dumps({"weights": Malicious()})
    (tmp_path / "x.pt").write_bytes(sealed(payload))
    with pytest.raises(CheckpointError, match="more than plain types"):
        read_state(tmp_path / "x.pt")
    assert not mark.exists()


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError):
        write_state(tmp_path / "file" / "x.pt", STATE)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
