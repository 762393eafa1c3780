"""The pendulum with a time limit, auto-reset and records, by random torques and by a policy, beside its peers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rlcore.envs import make
from rlcore.errors import NumericsError
from rlcore.experiments.benchmark.gym_pendulum import MODEL, GymPendulum
from rlcore.experiments.benchmark.machine import machine
from rlcore.experiments.benchmark.peer_process import MissingPeerError, Peer, PeerProcess, compare
from rlcore.experiments.benchmark.timing import Work
from rlcore.nn.mlp import Mlp
from rlcore.simulation import (
    Environment,
    EnvState,
    GaussianFeedback,
    Policy,
    UniformPolicy,
    begin,
    rollout_with_reset,
)
from rlcore.simulation.rollout import Mode

OURS, EAGER = "rlcore", "rlcore, eager"
STEPS = 200
BYTES = 24.0
"""Written per step at the least: observation 12, action, reward and end 4 each."""
SAME = 1e-3
"""Largest difference of observations and rewards after 20 steps in float32, EnvPool's and Gymnasium's float64 too."""


def stepping(env: Environment, policy: Policy, batch: int, steps: int, mode: Mode = "compiled") -> Work:
    """`steps` steps of `batch` paths, with resets, every row kept; one episode has passed, and all is compiled."""
    state = begin(env, batch, seed=0)

    def work() -> int:
        nonlocal state
        _, state = rollout_with_reset(env, policy, state, steps, mode=mode)
        return batch * steps

    for _ in range(-(-STEPS // steps)):  # where paths begin anew, a graph of its own runs
        work()
    return work


def torques() -> UniformPolicy:
    """Uniform over what the motor delivers."""
    return UniformPolicy(-MODEL.max_torque, MODEL.max_torque, 1)


def check(process: PeerProcess, module: str, name: str, batch: int = 16, steps: int = 20) -> float:
    """Largest difference of a peer's path from ours for the same torques; raises if it is not rounding."""
    generator = torch.Generator().manual_seed(0)
    angle, speed = 2.0 * torch.rand(2, batch, generator=generator) - 1.0
    action = 4.0 * torch.rand(steps, batch, generator=generator) - 2.0
    given = {"angle": (3.0 * angle).tolist(), "speed": speed.tolist(), "action": action.tolist()}
    found = process.call(module, name, **given)
    env = GymPendulum()
    x = torch.stack([torch.tensor(found["angle"]), torch.tensor(found["speed"])], 1)
    state, obs, reward = EnvState(torch.zeros(batch, dtype=torch.float64), x), [], []
    for u in action:
        state, earned = env.transition(state, u.unsqueeze(1), u.new_zeros(batch, 0))
        obs.append(env.observe(state))
        reward.append(earned)

    def off(ours: list[Tensor], theirs: Any) -> float:
        return float((torch.stack(ours) - torch.tensor(theirs)).abs().max())

    difference = max(off(obs, found["obs"]), off(reward, found["reward"]))
    if not difference < SAME:
        raise NumericsError(f"{name} does not move as ours: {difference:.1e} apart after {steps} steps, below {SAME}")
    return difference


CHECKED = {
    "envpool": "pendulum",
    "gymnasium": "pendulum",
    "numpy": "pendulum",
    "c": "pendulum",
    "gymnax": "pendulum_jax",
    "tuned": "pendulum_jax",
}


def differences(process: PeerProcess) -> dict[str, str]:
    """How far the paths of each peer that is installed are from ours."""
    found = {}
    for name, module in CHECKED.items():
        try:
            found[name] = f"{check(process, module, name):.0e}"
        except MissingPeerError:
            continue
    return found


def peers(batch: int, steps: int) -> list[Peer]:
    """All of them; those that step one by one take fewer steps a call, so that rounds stay short."""
    few = max(2, min(steps, 16384 // batch))
    every = [
        ("C kernel", "pendulum", "c", steps),
        ("JAX, tuned scan", "pendulum_jax", "tuned", steps),
        ("JAX scan, draws inside", "pendulum_jax", "plain", steps),
        ("gymnax", "pendulum_jax", "gymnax", steps),
        ("NumPy by hand", "pendulum", "numpy", steps),
        ("EnvPool", "pendulum", "envpool", few),
        ("EnvPool, asynchronous", "pendulum", "envpool_async", few),
    ]
    if batch <= 1024:
        every.append(("SyncVectorEnv", "pendulum", "gymnasium", few))
    return [Peer(label, module, name, {"batch": batch, "steps": n}) for label, module, name, n in every]


def random_torques(process: PeerProcess, batches: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    """Rows of Pendulum-v1 by batch; beside it our own pendulum, whose integrator evaluates eight times as much."""
    same, rows = differences(process), []
    for batch in batches:
        ours = {
            OURS: stepping(GymPendulum(), torques(), batch, STEPS),
            EAGER: stepping(GymPendulum(), torques(), batch, STEPS, "eager"),
            "rlcore, Pendulum-v0 by Rk4": stepping(make("rlcore/Pendulum-v0"), torques(), batch, STEPS),
        }
        about: dict[str, Any] = {
            "what": "pendulum, random torques",
            "batch": batch,
            "limit": machine().limit(moved=BYTES),
        }
        found = compare(process, ours, peers(batch, STEPS), OURS, rounds=rounds, **about)
        kernel = {peer.label: peer.name for peer in peers(batch, STEPS)}
        rows += [row | {"difference": same.get(kernel.get(row["workload"], ""), "")} for row in found]
    return rows


def policy_rollout(process: PeerProcess, batches: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    """Rows of a Gaussian policy 3-64-64-1 with tanh in the loop."""
    network = Mlp(3, (64, 64), 1, generator=torch.Generator().manual_seed(0))
    operations = 2.0 * sum(p.numel() for p in network.parameters() if p.ndim == 2)
    rows = []
    for batch in batches:
        policy = GaussianFeedback(network, 1.0, 1)
        ours = {
            OURS: stepping(GymPendulum(), policy, batch, 64),
            EAGER: stepping(GymPendulum(), policy, batch, 64, "eager"),
        }
        limit = machine().limit(moved=BYTES, operations=operations)
        about: dict[str, Any] = {"what": "pendulum, policy 3-64-64-1", "batch": batch, "limit": limit}
        there = [Peer("JAX scan", "policy_jax", "scan", {"batch": batch, "steps": 64})]
        rows += compare(process, ours, there, OURS, rounds=rounds, **about)
    return rows
