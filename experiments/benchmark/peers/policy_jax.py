"""The pendulum of `pendulum.py` driven by a Gaussian policy 3-64-64-1 with tanh, in JAX: one jitted scan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

LIMIT, DT, TURN, WIDTH = 200.0, 0.05, 2.0 * jnp.pi, 64


def weights(key: Any) -> list[tuple[Any, Any]]:
    """Layers of noise."""
    sizes = ((3, WIDTH), (WIDTH, WIDTH), (WIDTH, 1))
    keys = jax.random.split(key, len(sizes))
    return [(jax.random.normal(k, s) / s[0] ** 0.5, jnp.zeros(s[1])) for k, s in zip(keys, sizes, strict=True)]


def scan(batch: int, steps: int) -> Callable[[], int]:
    """Observation, action, reward, end and log-density of every step are kept."""
    policy = weights(jax.random.key(1))

    def fresh(key: Any) -> Any:
        drawn = jax.random.uniform(key, (2, batch), minval=-1.0, maxval=1.0)
        return jnp.pi * drawn[0], drawn[1]

    def step(carry: Any, z: Any) -> Any:
        angle, speed, count, new_angle, new_speed = carry
        obs = jnp.stack([jnp.cos(angle), jnp.sin(angle), speed], 1)
        x = obs
        for weight, bias in policy[:-1]:
            x = jnp.tanh(x @ weight + bias)
        mean = (x @ policy[-1][0] + policy[-1][1])[:, 0]
        action = mean + z
        torque = jnp.clip(action, -2.0, 2.0)
        reward = -(angle * angle + 0.1 * speed * speed + 0.001 * torque * torque)
        speed = jnp.clip(speed + DT * (15.0 * obs[:, 1] + 3.0 * torque), -8.0, 8.0)
        angle = angle + DT * speed
        angle = jnp.where(angle > jnp.pi, angle - TURN, jnp.where(angle < -jnp.pi, angle + TURN, angle))
        over = count + 1.0 >= LIMIT
        angle, speed = jnp.where(over, new_angle, angle), jnp.where(over, new_speed, speed)
        after = (angle, speed, jnp.where(over, 0.0, count + 1.0), new_angle, new_speed)
        return after, (obs, action, reward, over, -0.5 * z * z)

    def run(key: Any, state: Any) -> Any:
        key, first, second = jax.random.split(key, 3)
        noise = jax.random.normal(first, (steps, batch))
        carry, record = jax.lax.scan(step, (*state, *fresh(second)), noise)
        return key, carry[:3], record

    jitted, key, state = jax.jit(run), jax.random.key(0), (*fresh(jax.random.key(2)), jnp.zeros(batch))

    def work() -> int:
        nonlocal key, state
        key, state, record = jitted(key, state)
        jax.block_until_ready((state, record))
        return batch * steps

    work()
    return work


WORKLOADS = {"scan": scan}
LIBRARIES = {"scan": ("jax",)}
