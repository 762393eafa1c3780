"""The studies of off-policy, adaptive, noisy and batched integral RL run in small, draw, and write their numbers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from rlcore.experiments import (
    integral_rl_adaptive,
    integral_rl_basis,
    integral_rl_noise,
    integral_rl_off_policy,
    integral_rl_scale,
)
from rlcore.training.recorder import RunFolder

SMALL: dict[str, tuple[Any, Any]] = {
    "integral_rl_adaptive": (
        integral_rl_adaptive,
        integral_rl_adaptive.Config(rtols=(1e-2, 1e-3), fixed=(5, 17), count=2, iterations=6),
    ),
    "integral_rl_basis": (
        integral_rl_basis,
        integral_rl_basis.Config(degrees=(2, 4), plane_degrees=(2, 4), widths=(4,), plane_widths=(6,), iterations=3),
    ),
    "integral_rl_noise": (integral_rl_noise, integral_rl_noise.Config(noises=(1e-5, 1e-4), trials=9)),
    "integral_rl_off_policy": (integral_rl_off_policy, integral_rl_off_policy.Config(nodes=(5, 9), count=20)),
    "integral_rl_scale": (integral_rl_scale, integral_rl_scale.Config(problems=64, states=3, block=40)),
}


@pytest.mark.parametrize("name", sorted(SMALL))
def test_an_experiment_draws_and_writes_its_numbers(name: str, tmp_path: Path) -> None:
    experiment, config = SMALL[name]
    with RunFolder(tmp_path / "run", {"experiment": name, "seed": 0}, silent=True) as recorder:
        found = experiment.run(config, 0, recorder)
    assert all(math.isfinite(value) for value in found.values())
    for suffix in (".png", ".pdf", ".csv"):
        assert (tmp_path / "run" / "figures" / f"{name}{suffix}").stat().st_size > 100
