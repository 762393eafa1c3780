"""The same pendulum in JAX: gymnax as it comes, a scan over a batched step, and one tuned by hand.

"Tuned" keeps the angle wrapped, carries its sine to the next step, counts in float32, draws torques and new states
before the scan and returns one array per quantity. The draws are part of what is timed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

LIMIT, DT, TURN = 200.0, 0.05, 2.0 * jnp.pi


def fresh(key: Any, batch: int) -> tuple[Any, Any]:
    """Angle and speed at the beginning of an episode."""
    drawn = jax.random.uniform(key, (2, batch), minval=-1.0, maxval=1.0)
    return jnp.pi * drawn[0], drawn[1]


def tuned_step(carry: Any, given: Any) -> tuple[Any, Any]:
    """One step; `given` are torque, and angle and speed of a new episode should this one end here."""
    angle, sine, speed, count = carry
    torque, new_angle, new_speed = given
    reward = -(angle * angle + 0.1 * speed * speed + 0.001 * torque * torque)
    speed = jnp.clip(speed + DT * (15.0 * sine + 3.0 * torque), -8.0, 8.0)
    angle = angle + DT * speed
    angle = jnp.where(angle > jnp.pi, angle - TURN, jnp.where(angle < -jnp.pi, angle + TURN, angle))
    count = count + 1.0
    over = count >= LIMIT
    angle, speed = jnp.where(over, new_angle, angle), jnp.where(over, new_speed, speed)
    sine = jnp.sin(angle)
    return (angle, sine, speed, jnp.where(over, 0.0, count)), (jnp.cos(angle), sine, speed, reward, over)


def repeated(run: Callable[..., Any], carry: Any, count: int) -> Callable[[], int]:
    """A workload: `run(key, carry) -> carry, record`, waiting for all of its results; the key is split in its graph."""

    def whole(key: Any, carry: Any) -> Any:
        key, now = jax.random.split(key)
        return key, run(now, carry)

    jitted, key = jax.jit(whole), jax.random.key(0)

    def work() -> int:
        nonlocal key, carry
        key, (carry, record) = jitted(key, carry)
        jax.block_until_ready((carry, record))
        return count

    work()  # twice: what it returns may be of stronger types than what it began with, and compile anew
    work()
    return work


def tuned(batch: int, steps: int) -> Callable[[], int]:
    """One draw of new states serves a whole call: an episode is as long as one."""
    angle, speed = fresh(jax.random.key(1), batch)

    def run(key: Any, carry: Any) -> Any:
        first, second = jax.random.split(key)
        torque = jax.random.uniform(first, (steps, batch), minval=-2.0, maxval=2.0)
        new = fresh(second, batch)
        carry, record = jax.lax.scan(lambda c, u: tuned_step(c, (u, *new)), carry, torque)
        return carry, (torque, record)

    return repeated(run, (angle, jnp.sin(angle), speed, jnp.zeros(batch)), batch * steps)


def plain(batch: int, steps: int) -> Callable[[], int]:
    """The batched step with its draws inside the scan."""
    angle, speed = fresh(jax.random.key(1), batch)

    def run(key: Any, carry: Any) -> Any:
        def step(c: Any, key: Any) -> Any:
            first, second = jax.random.split(key)
            torque = jax.random.uniform(first, (batch,), minval=-2.0, maxval=2.0)
            c, record = tuned_step(c, (torque, *fresh(second, batch)))
            return c, (torque, record)

        return jax.lax.scan(step, carry, jax.random.split(key, steps))

    return repeated(run, (angle, jnp.sin(angle), speed, jnp.zeros(batch)), batch * steps)


def in_gymnax(batch: int, steps: int) -> Callable[[], int]:
    """gymnax's own environment under jit, vmap and scan."""
    import gymnax

    env, params = gymnax.make("Pendulum-v1")
    _, state = jax.vmap(env.reset, (0, None))(jax.random.split(jax.random.key(1), batch), params)

    def run(key: Any, carry: Any) -> Any:
        def step(c: Any, key: Any) -> Any:
            first, second = jax.random.split(key)
            torque = jax.random.uniform(first, (batch,), minval=-2.0, maxval=2.0)
            found = jax.vmap(env.step, (0, 0, 0, None))(jax.random.split(second, batch), c, torque, params)
            return found[1], (found[0], torque, *found[2:-1])

        return jax.lax.scan(step, carry, jax.random.split(key, steps))

    return repeated(run, state, batch * steps)


def path(angle: list[float], speed: list[float], action: list[list[float]]) -> Any:
    """Observations [T, B, 3] and rewards [T, B] of given torques by the tuned step."""
    th, om = jnp.array(angle), jnp.array(speed)
    carry = (th, jnp.sin(th), om, jnp.zeros_like(th))
    _, (cosine, sine, after, reward, _) = jax.lax.scan(
        lambda c, u: tuned_step(c, (u, th, om)), carry, jnp.array(action)
    )
    obs = np.stack([np.asarray(x) for x in (cosine, sine, after)], -1)
    return {"angle": angle, "speed": speed, "obs": obs.tolist(), "reward": np.asarray(reward).tolist()}


def gymnax_path(angle: list[float], speed: list[float], action: list[list[float]]) -> Any:
    """The same by gymnax."""
    import gymnax

    env, params = gymnax.make("Pendulum-v1")
    keys = jax.random.split(jax.random.key(0), len(angle))
    _, state = jax.vmap(env.reset, (0, None))(keys, params)
    state = state.replace(theta=jnp.array(angle), theta_dot=jnp.array(speed))
    obs, reward = [], []
    for torque in action:
        found = jax.vmap(env.step_env, (0, 0, 0, None))(keys, state, jnp.array(torque), params)
        state = found[1]
        obs.append(np.asarray(found[0]).tolist())
        reward.append(np.asarray(found[2]).tolist())
    return {"angle": angle, "speed": speed, "obs": obs, "reward": reward}


WORKLOADS = {"tuned": tuned, "plain": plain, "gymnax": in_gymnax}
CHECKS = {"tuned": path, "gymnax": gymnax_path}
LIBRARIES = {"tuned": ("jax",), "plain": ("jax",), "gymnax": ("gymnax", "jax")}
