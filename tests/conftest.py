"""One thread: on small tensors more of them only get in each other's way. And no network: nothing here may need one."""

import socket

import pytest
import torch

torch.set_num_threads(1)

connect = socket.socket.connect


def refuse(self: socket.socket, address: object) -> None:
    """Connect to this machine only."""
    if self.family != socket.AF_UNIX and not str(address).startswith(("('127.", "('::1", "('localhost")):
        raise OSError(f"the tests need no network, but something connects to {address}")
    connect(self, address)  # type: ignore[arg-type]


socket.socket.connect = refuse  # type: ignore[method-assign, assignment]


@pytest.fixture
def only_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled rollouts are loops in C++, each traced in the test that asks for it; graphs of inductor are refused."""
    from rlcore.simulation import compiled, native  # seconds, which the other tests do without

    def left(*chunk: object) -> None:
        raise AssertionError("it was left to inductor")

    monkeypatch.setattr(native, "LOOPS", {})
    monkeypatch.setattr(compiled, "Chunks", left)
