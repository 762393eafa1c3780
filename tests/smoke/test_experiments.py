"""Every experiment runs in small, and returns finite numbers that mean something."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from rlcore.experiments import baseline, ergodic_lqr, integrator_orders, pendulum


def test_ergodic_lqr() -> None:
    found = ergodic_lqr.run(replace(ergodic_lqr.PRESETS["quick"], seconds=20.0, evaluations=2), seed=0)
    assert all(math.isfinite(value) for value in found.values())
    assert found["eval/gap"] < 0.5


def test_pendulum() -> None:
    found = pendulum.run(replace(pendulum.PRESETS["quick"], seconds=2.0, evaluations=1, rows=64), seed=0)
    assert all(math.isfinite(value) for value in found.values())
    assert found["eval/return"] < 0.0 < found["eval/gap"]


@pytest.mark.parametrize("algorithm", ["PPO", "SAC"])
def test_baseline(algorithm: str) -> None:
    config = replace(
        baseline.PRESETS["quick"],
        algorithm=algorithm,
        simulated=80.0,
        updates=5,
        evaluations=1,  # type: ignore[arg-type]
    )
    found = baseline.run(config, seed=0)
    assert math.isfinite(found["eval/return"])


def test_integrator_orders_are_measured_for_every_claim() -> None:
    found = integrator_orders.run(integrator_orders.PRESETS["quick"], seed=0)
    for name, (order, _) in integrator_orders.THEORY.items():
        assert found[f"order/{name}"] == pytest.approx(order, abs=0.1)
