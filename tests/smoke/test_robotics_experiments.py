"""Ants in mazes and the Adroit hand, in small: data are what they say, are made again alike, and are learned from."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlcore.agents.actor_critic import CqlConfig, NetworkConfig, SacConfig
from rlcore.data import Transitions, lengths
from rlcore.envs.robotics import adroit, ant_maze
from rlcore.envs.robotics.ant_gait import AntGait
from rlcore.errors import RlcoreError
from rlcore.experiments import adroit_data, adroit_search, ant_maze_data, ant_walk, wsrl_adroit, wsrl_ant_maze
from rlcore.functional.cross_entropy import SearchConfig
from rlcore.interop.minari import read_minari
from rlcore.nn.ensemble import Layers
from rlcore.training.prepare import with_returns
from rlcore.training.recorder import RunFolder

for package in ("mujoco", "imageio", "gymnasium_robotics", "minari", "h5py"):
    pytest.importorskip(package)

HAND = adroit_search.HandSearch(movements=3)
GOAL = 0.45  # m
ROWS_OF_TWO_PROCESSES = """
import hashlib, sys
from rlcore.envs.robotics.ant_gait import AntGait
from rlcore.experiments import adroit_data, adroit_search, ant_maze_data
hand = adroit_data.Config(steps=60, copies=2, search=adroit_search.HandSearch(movements=2))
for rows in (
    ant_maze_data.generate("umaze", "diverse", ant_maze_data.Config(steps=60, copies=2), AntGait(), 0),
    adroit_data.generate("door", hand, 0),
    adroit_data.generate("pen", hand, 0),
):
    columns = (rows.obs, rows.action, rows.reward, rows.discount, rows.next_obs)
    print(hashlib.sha256(b"".join(x.numpy().tobytes() for x in columns)).hexdigest())
"""


@pytest.fixture(scope="module")
def ants() -> dict[str, Transitions]:
    config = ant_maze_data.Config(steps=1200, copies=3)
    return {kind: ant_maze_data.generate("umaze", kind, config, AntGait(), 0) for kind in ("fixed", "play")}


def test_ants_are_paid_where_the_goal_is(ants: dict[str, Transitions]) -> None:
    for rows in ants.values():
        assert len(rows) == 1200
        apart = (rows.next_obs[:, :2] - rows.next_obs[:, 2:4]).norm(dim=1)
        arrived = rows.reward == 1.0
        assert bool((arrived == (apart <= GOAL)).all())
        assert bool((arrived == (rows.discount == 0.0)).all())
        assert float(rows.action.abs().max()) <= 1.0
    assert ants["fixed"].reward.sum() > 0, "a gait that knows the way arrives"
    first = torch.cat([torch.tensor([True]), ants["fixed"].extras["last"][:-1]])
    corner = torch.tensor([-4.0, 4.0])
    assert float((ants["fixed"].obs[first, :2] - corner).abs().max()) <= 1.0


def test_ants_rewards_for_the_learner(ants: dict[str, Transitions]) -> None:
    """+5 at the goal and -5 elsewhere; an episode without success is worth -5 / (1 - gamma) everywhere."""
    rows = with_returns(ants["fixed"], scale=10.0, bias=-5.0, failure_reward=0.0)
    assert set(rows.reward.unique().tolist()) == {-5.0, 5.0}
    for reward, got in zip(*(x.split(lengths(rows)) for x in (rows.reward, rows.extras["mc_return"])), strict=True):
        if float(reward[-1]) == 5.0:
            assert float(got[-1]) == 5.0
            assert float(got[0]) > -500.0
        else:
            assert torch.allclose(got, torch.full_like(got, -500.0), atol=1e-2)


@pytest.mark.parametrize("task", ["door", "pen"])
def test_hands_are_paid_when_done(task: str) -> None:
    rows = adroit_data.generate(task, adroit_data.Config(steps=400, copies=4, search=HAND), 0)
    d, m = {"door": (39, 28), "pen": (45, 24)}[task]
    assert (rows.obs.shape, rows.action.shape) == ((400, d), (400, m))
    assert set(rows.reward.unique().tolist()) <= {-1.0, 0.0}
    assert bool(((rows.reward == 0.0) == (rows.discount == 0.0)).all())
    if task == "pen":
        cosine = (rows.next_obs[:, 33:36] * rows.next_obs[:, 36:39]).sum(1)
        near = rows.next_obs[:, 39:42].norm(dim=1) < 0.075
        assert bool(((rows.reward == 0.0) == (near & (cosine > 0.95))).all())
    ready = with_returns(rows, scale=10.0, bias=5.0, failure_reward=-1.0)
    assert set(ready.reward.unique().tolist()) <= {-5.0, 5.0}
    failed = ready.extras["mc_return"][: lengths(rows)[0]]
    if float(rows.discount[lengths(rows)[0] - 1]) > 0.0:
        assert torch.allclose(failed, torch.full_like(failed, -500.0), atol=1e-2)


def test_a_search_finds_its_way_up() -> None:
    """A generation moves the numbers; the same seed moves them alike."""
    small = SearchConfig(generations=1, population=3, elite=2)
    config = ant_walk.WalkSearch(search=small, trials=1)
    one, two = (ant_walk.find_gait(AntGait(), config, seed=1) for _ in range(2))
    assert one == two != AntGait()
    assert ant_walk.find_gait(AntGait(), ant_walk.WalkSearch(), seed=1) == AntGait()
    assert ant_walk.speed(AntGait(), config, seed=1) > 0.5, "m/s"
    hand = replace(HAND, search=small, trials=1, from_scratch=True)
    found = adroit_search.find_pull(hand, seed=1)
    assert torch.equal(found, adroit_search.find_pull(hand, seed=1))
    assert float(found.abs().max()) > 0.0


def test_sets_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ant = ant_maze_data.Config(mazes=("umaze",), steps=120, copies=2, root=str(tmp_path))
    hand = adroit_data.Config(steps=60, copies=2, search=HAND, root=str(tmp_path))
    found = ant_maze_data.run(ant, 0, RunFolder(tmp_path / "run")) | adroit_data.run(hand, 0)
    assert (tmp_path / "run" / "figures" / "visits.png").stat().st_size > 10_000
    told = capsys.readouterr().out
    for name, figures in {
        "ant-maze/umaze-play-120": "umaze-play",
        "ant-maze/umaze-diverse-120": "umaze-diverse",
        "adroit/door-60": "door",
        "adroit/pen-60": "pen",
    }.items():
        rows = read_minari(tmp_path / f"{name}-seed0-v0", discount_rate=1.0)
        assert found[f"{figures}/steps"] == len(rows)
        assert f"made {name}-seed0-v0" in told
    assert ant_maze_data.run(ant, 0).items() <= found.items(), "the same again, or the folders were refused"
    assert adroit_data.run(hand, 0).items() <= found.items()


@pytest.mark.slow
def test_two_processes_make_the_same_arrays() -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", ROWS_OF_TWO_PROCESSES]
    one, two = (subprocess.run(command, env=environment, capture_output=True, text=True, check=True) for _ in range(2))
    assert len(one.stdout.split()) == 3
    assert one.stdout == two.stdout


TINY = Layers((8,), layer_norm=True)
SOFT = SacConfig(NetworkConfig(critics=3, critic=TINY, actor=TINY))
SHORT: dict[str, Any] = {
    "data_steps": 60,
    "seeds": 2,
    "offline_updates": 2,
    "offline": CqlConfig(SOFT, calibrate=True, actions=2),
    "online": replace(SOFT, critic_steps=2),
    "minibatch": 8,
    "warm_ups": (0, 3),
    "steps": 4,
    "early": (2, 2),
    "late": 2,
    "episodes": 1,
}


@pytest.mark.parametrize(
    ("experiment", "config"),
    [
        (wsrl_ant_maze, wsrl_ant_maze.Config(**SHORT)),
        (wsrl_adroit, wsrl_adroit.Config(**SHORT, task="door", search=HAND)),
        (wsrl_adroit, wsrl_adroit.Config(**SHORT, task="pen", search=HAND)),
    ],
)
def test_studies(experiment: Any, config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ant_maze.LIMITS, "umaze", 30)  # short episodes
    monkeypatch.setitem(adroit.TASKS, "door", ("AdroitHandDoorSparse-v1", 40))
    with RunFolder(tmp_path / "run", {"seed": 0}, silent=True) as recorder:
        found = experiment.run(config, 0, recorder)
    assert all(math.isfinite(value) for value in found.values())
    for arm in ("K = 0", "K = 3", "RLPD"):
        assert 0.0 <= found[f"{arm}/lowest"] <= found[f"{arm}/mean"] <= 1.0
    (figure,) = (tmp_path / "run" / "figures").glob("*.csv")
    assert np.genfromtxt(figure, delimiter=",", skip_header=1, dtype=str).shape[0] > 5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ant_maze_data.run(ant_maze_data.Config(mazes=("umaz",)), 0), "did you mean 'umaze'"),
        (lambda: ant_maze_data.run(ant_maze_data.Config(kinds=("plays",)), 0), "did you mean 'play'"),
        (lambda: ant_maze_data.run(ant_maze_data.Config(steps=5, copies=6), 0), "steps >= copies"),
        (lambda: adroit_data.run(adroit_data.Config(tasks=("pens",)), 0), "did you mean 'pen'"),
        (lambda: adroit_data.run(adroit_data.Config(tasks=()), 0), "at least one task"),
        (lambda: wsrl_adroit.run(wsrl_adroit.Config(task="relocate"), 0), "Adroit task"),
    ],
)
def test_bad_settings(call: Any, message: str) -> None:
    with pytest.raises(RlcoreError, match=message):
        call()
