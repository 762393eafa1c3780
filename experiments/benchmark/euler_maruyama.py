"""Euler-Maruyama of a linear equation with additive noise in four dimensions, beside solvers of SDEs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rlcore.experiments.benchmark.machine import machine
from rlcore.experiments.benchmark.peer_process import Peer, PeerProcess, compare
from rlcore.experiments.benchmark.timing import Work
from rlcore.simulation import ControlledDiffusion, ControlSpec, EnvState, EulerMaruyama, Feedback, begin, rollout
from rlcore.simulation.rollout import Mode

DIM, STEPS, KEPT = 4, 100, 10
DT, RATE, SIGMA = 0.1, 1.0, 0.5


class Linear(ControlledDiffusion):
    """dX = -X dt + 0.5 dW; ten integrator steps are one control interval, so that one state in ten is kept."""

    def __init__(self) -> None:
        spec = ControlSpec(
            name="Linear", state_dim=DIM, action_dim=1, noise_dim=DIM, dt=DT * STEPS / KEPT, horizon=DT * STEPS,
            discount_rate=0.0, action_low=-1.0, action_high=1.0,
        )  # fmt: skip
        super().__init__(spec, EulerMaruyama(STEPS // KEPT))

    def initial_state(self, noise: Tensor) -> EnvState:
        return EnvState(torch.zeros(len(noise), dtype=torch.float64), torch.zeros_like(noise))

    def drift(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:
        return -RATE * x

    def diffusion(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:
        return SIGMA * torch.eye(DIM, dtype=x.dtype).expand(len(x), DIM, DIM)

    def diffuse(self, t: Tensor, x: Tensor, u: Tensor, z: Tensor) -> Tensor:
        return SIGMA * z

    def reward_rate(self, t: Tensor, x: Tensor, u: Tensor) -> Tensor:
        return torch.zeros_like(t)


def ours(batch: int, mode: Mode) -> Work:
    """All paths from zero to the end."""
    env, policy = Linear(), Feedback(lambda x: torch.zeros_like(x[:, :1]))
    start = begin(env, batch, seed=0)

    def work() -> int:
        rollout(env, policy, start, KEPT, mode=mode)
        return batch * STEPS

    return work


def rows(process: PeerProcess, batches: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    """Integrator steps per second by batch; the limit is that of a state written once and read once."""
    found = []
    for batch in batches:
        there = [
            Peer("torchsde, BrownianPath", "euler_maruyama", "path", {"batch": batch}),
            Peer("torchsde, BrownianInterval", "euler_maruyama", "interval", {"batch": batch}),
            Peer("diffrax, UnsafeBrownianPath", "euler_maruyama_jax", "diffrax", {"batch": batch}),
            Peer("JAX by hand", "euler_maruyama_jax", "scan", {"batch": batch}),
        ]
        limit = machine().limit(moved=8.0 * DIM)
        about: dict[str, Any] = {"what": "Euler-Maruyama, 4-dim", "batch": batch, "limit": limit}
        here = {"rlcore": ours(batch, "compiled"), "rlcore, eager": ours(batch, "eager")}
        found += compare(process, here, there, "rlcore", rounds=rounds, **about)
    return found
