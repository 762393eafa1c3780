"""The same equation in JAX: diffrax with `UnsafeBrownianPath`, its quickest, and a scan by hand, both jitted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

DIM, STEPS, DT, KEPT, RATE, SIGMA = 4, 100, 0.1, 10, 1.0, 0.5


def repeated(run: Callable[[Any], Any], batch: int) -> Callable[[], int]:
    """A workload that waits for the saved states; the key is split in its graph."""

    def whole(key: Any) -> Any:
        key, now = jax.random.split(key)
        return key, run(now)

    jitted, key = jax.jit(whole), jax.random.key(0)

    def work() -> int:
        nonlocal key
        key, kept = jitted(key)
        jax.block_until_ready(kept)
        return batch * STEPS

    return work


def in_diffrax(batch: int) -> Callable[[], int]:
    """One batched solve with constant steps and without the adjoint."""
    import diffrax

    times = jnp.linspace(0.0, STEPS * DT, KEPT + 1)

    def run(key: Any) -> Any:
        motion = diffrax.UnsafeBrownianPath(shape=(batch, DIM), key=key)
        terms = diffrax.MultiTerm(
            diffrax.ODETerm(lambda t, x, _: -RATE * x),
            diffrax.WeaklyDiagonalControlTerm(lambda t, x, _: jnp.full_like(x, SIGMA), motion),
        )
        kept = diffrax.SaveAt(ts=times)
        start = jnp.zeros((batch, DIM))
        adjoint = diffrax.ForwardMode()
        return diffrax.diffeqsolve(
            terms, diffrax.Euler(), 0.0, STEPS * DT, DT, start, saveat=kept, adjoint=adjoint, max_steps=STEPS + 1
        ).ys

    return repeated(run, batch)


def by_hand(batch: int) -> Callable[[], int]:
    """Ten scans of ten steps, each step with its own draw."""
    push = SIGMA * DT**0.5

    def step(x: Any, key: Any) -> Any:
        return x - RATE * DT * x + push * jax.random.normal(key, (batch, DIM)), None

    def block(x: Any, keys: Any) -> Any:
        after = jax.lax.scan(step, x, keys)[0]
        return after, after

    def run(key: Any) -> Any:
        keys = jax.random.split(key, (KEPT, STEPS // KEPT))
        return jax.lax.scan(block, jnp.zeros((batch, DIM)), keys)[1]

    return repeated(run, batch)


WORKLOADS = {"diffrax": in_diffrax, "scan": by_hand}
LIBRARIES = {"diffrax": ("diffrax", "jax"), "scan": ("jax",)}
