"""One thread: on small tensors more of them only get in each other's way. And no network: nothing here may need one."""

import socket

import torch

torch.set_num_threads(1)

connect = socket.socket.connect


def refuse(self: socket.socket, address: object) -> None:
    """Connect to this machine only."""
    if self.family != socket.AF_UNIX and not str(address).startswith(("('127.", "('::1", "('localhost")):
        raise OSError(f"the tests need no network, but something connects to {address}")
    connect(self, address)  # type: ignore[arg-type]


socket.socket.connect = refuse  # type: ignore[method-assign, assignment]
