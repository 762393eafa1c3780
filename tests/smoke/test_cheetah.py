"""The cheetah's experiment in miniature; skipped where the extra `robotics` is not installed."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from rlcore.errors import RlcoreError
from rlcore.experiments import cheetah, time_step_sweep

MINI = replace(
    cheetah.PRESETS["quick"],
    copies=2,
    seconds=2.0,
    replay=replace(cheetah.REPLAY, updates=2, rows=16),
    cppo_gather=1.0,
    hidden=(8,),
    judged_dt=0.1,
    evaluations=1,
)


@pytest.mark.parametrize("agent", ["ct-sac", "ct-ddpg", "cppo"])
def test_the_cheetah_learns_at_another_control_interval(agent: Any) -> None:
    pytest.importorskip("mujoco")
    pytest.importorskip("imageio")
    found = cheetah.run(replace(MINI, agent=agent, dt=0.1), seed=0)
    assert all(math.isfinite(value) for value in found.values())


def test_rivals_of_the_cheetah() -> None:
    pytest.importorskip("mujoco")
    pytest.importorskip("imageio")
    agents = time_step_sweep.RIVALS
    found = time_step_sweep.run(time_step_sweep.Config("cheetah", agents, dts=(0.1,), runner=MINI), seed=0)
    assert len(found) == len(agents)
    assert all(math.isfinite(value) for value in found.values())


def test_without_the_extra_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mujoco", None)
    with pytest.raises(RlcoreError, match=r"pip install 'rlcore-lab\[robotics\]'"):
        cheetah.run(MINI, seed=0)
