"""Gymnasium's Pendulum-v1 with random torques, time limit and auto-reset: Gymnasium, EnvPool, NumPy and C.

omega' = clip(omega + (15 sin(theta) + 3 u) dt, +-8),  theta' = theta + omega' dt,  reward -(theta^2 + 0.1 omega^2 +
0.001 u^2) before the step, dt = 0.05 s, 200 steps. Everyone keeps observation, action, reward and end of every step.
"""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
LIMIT, DT = 200, 0.05
SOURCE = Path(__file__).with_suffix(".c")


def in_numpy(batch: int, steps: int, action: Array | None = None, state: tuple[Array, Array] | None = None) -> Any:
    """The batched step as one writes it by hand, float32; `action` [T, B] and `state` are for the check."""
    generator = np.random.default_rng(0)

    def fresh() -> tuple[Array, Array]:
        drawn = 2.0 * generator.random((2, batch), np.float32) - 1.0
        return np.float32(np.pi) * drawn[0], drawn[1]

    angle, speed = state or fresh()
    count = np.zeros(batch, np.int32)
    obs, torque = np.empty((steps, 3, batch), np.float32), np.empty((steps, batch), np.float32)
    reward, done = np.empty((steps, batch), np.float32), np.empty((steps, batch), bool)

    def work() -> int:
        nonlocal angle, speed, count
        for k in range(steps):
            u = torque[k] = 4.0 * generator.random(batch, np.float32) - 2.0 if action is None else action[k]
            reward[k] = -(angle**2 + 0.1 * speed**2 + 0.001 * u**2)
            speed = np.clip(speed + DT * (15.0 * np.sin(angle) + 3.0 * u), -8.0, 8.0)
            angle = angle + DT * speed
            angle = angle - np.float32(2.0 * np.pi) * np.rint(angle * np.float32(0.5 / np.pi))
            count = count + 1
            done[k] = over = count >= LIMIT
            if over.any():
                new_angle, new_speed = fresh()
                angle, speed = np.where(over, new_angle, angle), np.where(over, new_speed, speed)
                count = np.where(over, 0, count)
            obs[k, 0], obs[k, 1], obs[k, 2] = np.cos(angle), np.sin(angle), speed
        return batch * steps

    return work if action is None else (work(), obs.swapaxes(1, 2), reward)[1:]


def library() -> Any:
    """The C kernel, compiled for this processor with gcc into the folder for temporary files."""
    compiler = shutil.which("gcc")
    if compiler is None:
        raise FileNotFoundError("the C kernel needs gcc (apt-get install gcc)")
    flags = ["-O3", "-march=native", "-ffast-math", "-mprefer-vector-width=512", "-shared", "-fPIC"]
    text = SOURCE.read_bytes() + " ".join(flags).encode()
    folder = Path(tempfile.gettempdir()) / f"rlcore_bench_{hashlib.sha256(text).hexdigest()[:16]}"
    folder.mkdir(exist_ok=True)
    target = folder / "pendulum.so"
    if not target.exists():
        subprocess.run([compiler, *flags, "-o", str(folder / "new.so"), str(SOURCE), "-lm"], check=True)
        (folder / "new.so").rename(target)
    return ctypes.CDLL(str(target))


def in_c(batch: int, steps: int, action: Array | None = None, state: tuple[Array, Array] | None = None) -> Any:
    """The kernel on arrays made once; `action` [T, B] and `state` are for the check."""
    run = library().pendulum
    angle, speed = state or np.zeros((2, batch), np.float32)
    count = np.zeros(batch, np.int32)
    obs, torque = np.empty((3, steps, batch), np.float32), np.empty((steps, batch), np.float32)
    reward, done = np.empty((steps, batch), np.float32), np.empty((steps, batch), np.uint8)
    if action is not None:
        torque[:] = action
    pointers = [x.ctypes.data_as(ctypes.c_void_p) for x in (angle, speed, count, obs, torque, reward, done)]
    seed = 0

    def work() -> int:
        nonlocal seed
        seed += 12345
        run(batch, steps, LIMIT, int(action is None), ctypes.c_uint32(seed), *pointers)
        return batch * steps

    return work if action is None else (work(), np.moveaxis(obs, 0, 2), reward)[1:]


def stepping(envs: Any, batch: int, steps: int) -> Callable[[], int]:
    """A vector environment, stepped with random torques; all is kept."""
    generator = np.random.default_rng(0)
    envs.reset()

    def work() -> int:
        kept = []
        for _ in range(steps):
            action = generator.uniform(-2.0, 2.0, (batch, 1)).astype(np.float32)
            obs, reward, terminated, truncated, _ = envs.step(action)
            kept.append((obs, action, reward, terminated | truncated))
        return batch * steps

    return work


def in_gymnasium(batch: int, steps: int) -> Callable[[], int]:
    """SyncVectorEnv without Gymnasium's checking wrappers."""
    import gymnasium
    from gymnasium.envs.classic_control.pendulum import PendulumEnv
    from gymnasium.wrappers import TimeLimit

    return stepping(gymnasium.vector.SyncVectorEnv([lambda: TimeLimit(PendulumEnv(), LIMIT)] * batch), batch, steps)


def in_envpool(batch: int, steps: int) -> Callable[[], int]:
    """All environments in each step, one thread."""
    import envpool

    return stepping(envpool.make("Pendulum-v1", "gymnasium", num_envs=batch, num_threads=1), batch, steps)


def in_envpool_async(batch: int, steps: int) -> Callable[[], int]:
    """Twice as many environments, of which the first half that is ready is received, one thread."""
    import envpool

    envs = envpool.make("Pendulum-v1", "gymnasium", num_envs=2 * batch, batch_size=batch, num_threads=1)
    generator = np.random.default_rng(0)
    envs.async_reset()

    def work() -> int:
        kept = []
        for _ in range(steps):
            obs, reward, terminated, truncated, info = envs.recv()
            action = generator.uniform(-2.0, 2.0, (batch, 1)).astype(np.float32)
            envs.send(action, info["env_id"])
            kept.append((obs, action, reward, terminated | truncated))
        return batch * steps

    return work


def path(kind: Callable[..., Any], angle: list[float], speed: list[float], action: list[list[float]]) -> Any:
    """Observations [T, B, 3] and rewards [T, B] of given torques, and where they began."""
    state = np.array(angle, np.float32), np.array(speed, np.float32)
    obs, reward = kind(len(angle), len(action), np.array(action, np.float32), (state[0].copy(), state[1].copy()))
    return {"angle": angle, "speed": speed, "obs": obs.tolist(), "reward": reward.tolist()}


def stepped(envs: Any, first: Array, action: list[list[float]]) -> Any:
    """The same of a vector environment that stands at observations `first` [B, 3]."""
    found = [envs.step(np.array(u, np.float32)[:, None])[:2] for u in action]
    obs, reward = np.stack([f[0] for f in found]), np.stack([f[1] for f in found])
    start = {"angle": np.arctan2(first[:, 1], first[:, 0]).tolist(), "speed": first[:, 2].tolist()}
    return start | {"obs": obs.tolist(), "reward": reward.tolist()}


def envpool_path(angle: list[float], speed: list[float], action: list[list[float]]) -> Any:
    """EnvPool begins where it likes."""
    import envpool

    envs = envpool.make("Pendulum-v1", "gymnasium", num_envs=len(angle), num_threads=1)
    return stepped(envs, envs.reset()[0], action)


def gymnasium_path(angle: list[float], speed: list[float], action: list[list[float]]) -> Any:
    """So does Gymnasium."""
    import gymnasium

    envs = gymnasium.make_vec("Pendulum-v1", len(angle), vectorization_mode="sync")
    return stepped(envs, envs.reset(seed=0)[0], action)


WORKLOADS: dict[str, Callable[..., Callable[[], int]]] = {
    "numpy": in_numpy,
    "c": in_c,
    "gymnasium": in_gymnasium,
    "envpool": in_envpool,
    "envpool_async": in_envpool_async,
}
CHECKS: dict[str, Callable[..., Any]] = {
    "numpy": lambda **given: path(in_numpy, **given),
    "c": lambda **given: path(in_c, **given),
    "gymnasium": gymnasium_path,
    "envpool": envpool_path,
}
LIBRARIES = {
    "numpy": ("numpy",),
    "gymnasium": ("gymnasium",),
    "envpool": ("envpool",),
    "envpool_async": ("envpool",),
}
