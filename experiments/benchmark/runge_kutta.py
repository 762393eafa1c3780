"""Runge-Kutta 4 on the free pendulum, every state kept, by batch, beside torchdiffeq."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rlcore.errors import NumericsError
from rlcore.experiments.benchmark.machine import machine
from rlcore.experiments.benchmark.peer_process import MissingPeerError, Peer, PeerProcess, compare
from rlcore.experiments.benchmark.timing import Work
from rlcore.simulation import ControlledDiffusion, ControlSpec, EnvState, Feedback, Rk4, begin, rollout
from rlcore.simulation.rollout import Mode

STEPS, DT, PULL = 32, 0.05, 15.0
SAME = 1e-3
"""Largest difference of states after all steps: the peer's tableau is another one of the same order, 3/8."""


class Free(ControlledDiffusion):
    """theta'' = 15 sin(theta): no torque, no noise, nothing is paid; one step per control interval."""

    def __init__(self) -> None:
        spec = ControlSpec(
            name="FreePendulum", state_dim=2, action_dim=1, noise_dim=0, dt=DT, horizon=DT * STEPS, discount_rate=0.0
        )
        super().__init__(spec, Rk4())

    def initial_state(self, noise: Tensor) -> EnvState:
        return EnvState(torch.zeros(len(noise), dtype=torch.float64), torch.erf(noise))

    def drift(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:
        angle, speed = x.unbind(1)
        return torch.stack([speed, PULL * torch.sin(angle)], 1)

    def reward_rate(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:
        return torch.zeros_like(x[:, 0])


def ours(batch: int, mode: Mode) -> Work:
    """All paths to the end."""
    env, policy = Free(), Feedback(lambda x: torch.zeros_like(x[:, :1]))
    start = begin(env, batch, seed=0)

    def work() -> int:
        rollout(env, policy, start, STEPS, mode=mode)
        return batch * STEPS

    return work


def check(process: PeerProcess, batch: int = 16) -> float:
    """Largest difference of the peer's last states from ours; raises if it is not that of the two tableaus."""
    env = Free()
    start = begin(env, batch, seed=0)
    end = rollout(env, Feedback(lambda x: torch.zeros_like(x[:, :1])), start, STEPS)[1].env.x
    theirs = torch.tensor(process.call("runge_kutta", "rk4", start=start.env.x.tolist()))
    difference = float((theirs - end).abs().max())
    if not difference < SAME:
        raise NumericsError(f"torchdiffeq does not move as ours: {difference:.1e} apart at the end, below {SAME}")
    return difference


def measure(
    batches: Sequence[int] = (64, 1024, 16384), rounds: int = 7, *, compiled: bool = True
) -> list[dict[str, Any]]:
    """Steps of one path per core-second; the limit is that of a state written once."""
    torch.set_num_threads(1)
    modes: dict[str, Mode] = {"rlcore": "eager"}
    if compiled:
        modes["rlcore, compiled"] = "compiled"
    best, found = list(modes)[-1], []
    with PeerProcess() as process:
        try:
            difference = f"{check(process):.0e}"
        except MissingPeerError:
            difference = ""
        for batch in batches:
            works = {name: ours(batch, mode) for name, mode in modes.items()}
            there = [
                Peer("torchdiffeq, rk4", "runge_kutta", "rk4", {"batch": batch}),
                Peer("torchdiffeq, dopri5", "runge_kutta", "dopri5", {"batch": batch}),
            ]
            about: dict[str, Any] = {"what": "Runge-Kutta 4, pendulum", "batch": batch}
            about["limit"] = machine().limit(moved=8.0)
            rows = compare(process, works, there, best, rounds=rounds, **about)
            found += [row | ({"difference": difference} if "rk4" in row["workload"] else {}) for row in rows]
    return found
