"""The studies of offline agents and of the runners, in small; what their scores and settings promise."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import get_args

import pytest
import torch

from rlcore.agents.actor_critic import SAC, Cql, CqlConfig, Iql, IqlConfig, NetworkConfig, SacConfig
from rlcore.data import Transitions, summary
from rlcore.envs.maze import PointMaze, PointMazeConfig, WaypointPolicy
from rlcore.errors import ConfigError
from rlcore.experiments import (
    locomotion_data,
    offline_agents,
    runner_history,
    runner_tasks,
    wsrl_locomotion,
    wsrl_study,
)
from rlcore.experiments.offline_agents import Learners
from rlcore.experiments.offline_tasks import MazeData, maze_task
from rlcore.experiments.runner_tasks import RunnerData, Score, runner_task, task_with
from rlcore.experiments.wsrl_arms import Beside, arm_called, learner, phases_of
from rlcore.experiments.wsrl_study import arms_of
from rlcore.nn.ensemble import Layers
from rlcore.parallel import World
from rlcore.seeding import Streams
from rlcore.simulation.policy import UniformPolicy
from rlcore.training.offline import MixedSource
from rlcore.training.recorder import SILENT, RunFolder

TINY = NetworkConfig(critics=2, critic=Layers((8,)), actor=Layers((8,)))
SOFT = SacConfig(TINY, target_actions=2)
LEARNERS = Learners(CqlConfig(SOFT, actions=2))
OFFLINE = offline_agents.Config(
    mazes=("umaze",),
    maze_kinds=("waypoint",),
    robots=(),
    seeds=2,
    updates=4,
    minibatch=16,
    evaluations=2,
    episodes=2,
    maze_data=MazeData(dt=0.1, data_steps=500),
    maze_learners=LEARNERS,
)


def test_every_offline_agent_learns_from_a_maze_and_is_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with RunFolder(tmp_path / "run", {"experiment": "offline_agents", "seed": 0}, silent=True) as recorder:
        found = offline_agents.run(OFFLINE, 0, recorder)
    assert set(found) == {f"umaze maze, waypoint data/{name}" for name in (*OFFLINE.agents, "data")}
    assert all(0.0 <= value <= 1.0 for value in found.values())
    with (tmp_path / "run/figures/offline_agents.csv").open() as file:
        drawn = [(row["line"], float(row["x"])) for row in csv.DictReader(file)]
    for name in OFFLINE.agents:
        assert [x for label, x in drawn if label == name] == [0.0, 2.0, 4.0]
    assert [x for label, x in drawn if label == "expert"] == [0.0, 4.0]
    assert "Cal-QL" in capsys.readouterr().out
    metrics = (tmp_path / "run/umaze-maze-waypoint-data-IQL/metrics.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in metrics if "eval/score" in row] == ["2", "4"], "logged over updates"


def test_seeds_that_processes_cannot_share_are_refused_before_any_data_are_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = maze_task(MazeData(), seeds=5, episodes=1, seed=0)
    monkeypatch.setattr(wsrl_study, "world", lambda: World(0, 2))
    with pytest.raises(ConfigError, match=r"seeds of a study.* multiple of the 2 processes, got 5; take 4"):
        wsrl_study.pretrain(replace(task, rows=lambda: pytest.fail("made data")), wsrl_study.Study(), 0, SILENT)


def test_a_score_is_0_for_random_1_for_the_expert_and_has_no_unit() -> None:
    score = Score(-280.0, 12135.0)
    assert (score.of(-280.0), score.of(12135.0)) == (0.0, 1.0)
    assert torch.allclose(score.of(torch.tensor([-280.0, 5927.5])), torch.tensor([0.0, 0.5]))
    assert Score(-2800.0, 121350.0).of(40000.0) == pytest.approx(score.of(4000.0)), "rewards ten times as large"
    with pytest.raises(ConfigError, match="must exceed"):
        Score(1.0, 1.0)


def test_the_expert_of_the_maze_scores_1_and_the_data_what_their_episodes_earned() -> None:
    about = MazeData("medium", "diverse", dt=0.05, data_steps=2000)
    task = maze_task(about, seeds=2, episodes=3, seed=0)
    env = PointMaze(PointMazeConfig("medium_far", dt=0.05))
    assert task.score(WaypointPolicy(env)).tolist() == [1.0, 1.0]
    rows = task.rows()
    last = rows.extras["last"]
    assert task.behaviour() == pytest.approx(float(rows.reward[last].mean()))
    assert float(task.data().reward.max()) == 0.0
    assert float(task.data().reward.min()) == pytest.approx(-about.time_cost * about.dt)


@pytest.mark.parametrize("name", get_args(Beside))
def test_only_arms_that_say_so_look_at_the_data_again(name: Beside) -> None:
    """No row is drawn and none is held by an arm that lets the data go; the others have them in half of each batch."""
    asked: list[int] = []
    task = maze_task(MazeData("umaze", "waypoint", dt=0.1, data_steps=500), seeds=2, episodes=1, seed=0)
    data = task.rows()

    def rows() -> Transitions:
        asked.append(len(data))
        return data

    task, arm, conservative = replace(task, rows=rows), arm_called(name, 5), CqlConfig(SOFT, actions=2)
    giver = Iql(task.spaces, IqlConfig(TINY), seeds=2) if arm.implicit else Cql(task.spaces, conservative, seeds=2)
    agent = learner(arm, giver, task, conservative, replace(SOFT, critic_steps=2), seed=0)
    warm_up, online = phases_of(arm, agent, giver, task, steps=7, minibatch=16, updates=2, streams=Streams(0))
    assert len(asked) == int(arm.keeps_data) == int(name == "RLPD" or "data" in name)
    assert isinstance(online.source, MixedSource) == arm.keeps_data
    assert (warm_up.iterations, online.iterations, warm_up.update) == (5, 7, None)
    assert online.source.next(agent).reward.shape == (2, 32)


@pytest.fixture
def robotics() -> None:
    pytest.importorskip("mujoco")
    pytest.importorskip("imageio")


BRIEF = locomotion_data.Config(training_steps=260, warm_up=200, evaluate_every=130, learner=replace(SAC, networks=TINY))
RUNNER = wsrl_locomotion.Config(
    robot="Hopper",
    making=BRIEF,
    seeds=2,
    offline_updates=3,
    offline=CqlConfig(SOFT, actions=2),
    online=replace(SOFT, critic_steps=2),
    minibatch=16,
    warm_ups=(0, 5),
    beside=("RLPD", "CQL with data", "JSRL"),
    steps=6,
    early=(2, 4),
    late=3,
    episodes=1,
)


@pytest.fixture
def learned(monkeypatch: pytest.MonkeyPatch, robotics: None) -> None:
    """Runs of SAC that learned something: the returns of random, and of two moments of the run, are given."""
    returns = cycle([1.0, 150.0, 301.0])
    for module in (runner_history, locomotion_data):
        monkeypatch.setattr(module, "earned", lambda *_: next(returns))


@pytest.mark.usefixtures("learned")
def test_wsrl_locomotion(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run", {"experiment": "wsrl_locomotion", "seed": 0}, silent=True) as recorder:
        found = wsrl_locomotion.run(RUNNER, 0, recorder)
    assert all(math.isfinite(value) for value in found.values())
    assert {name.partition("/")[0] for name in found} == {*arms_of(RUNNER), "behaviour"}
    assert found["K = 0/before"] == found["K = 5/before"] == found["CQL with data/before"], "the same hand-over"
    assert (tmp_path / "run/figures/wsrl_locomotion.png").stat().st_size > 10_000


@pytest.mark.usefixtures("learned")
def test_offline_agents_with_a_runner() -> None:
    config = replace(OFFLINE, mazes=(), robots=("Hopper",), robot_kinds=("medium-replay",), robot_data=BRIEF)
    found = offline_agents.run(replace(config, agents=("TD3+BC",), robot_learners=LEARNERS), 0)
    assert set(found) == {"Hopper, medium-replay/TD3+BC", "Hopper, medium-replay/data"}
    assert all(math.isfinite(value) for value in found.values())


@pytest.mark.usefixtures("learned")
def test_a_set_on_the_disk_serves_as_the_one_that_was_made(tmp_path: Path) -> None:
    """Rows, references and scores of the Minari set are those of the data made in memory."""
    pytest.importorskip("minari")
    pytest.importorskip("h5py")
    making = replace(BRIEF, robots=("Hopper",), kinds=("medium-replay",), root=str(tmp_path))
    locomotion_data.run(making, 0)
    size, recorder = {"seeds": 2, "episodes": 1, "seed": 0}, SILENT
    (folder,) = (tmp_path / "locomotion").iterdir()
    made = runner_task(RunnerData("Hopper", making=BRIEF), **size, recorder=recorder)
    read = runner_task(RunnerData("Hopper", dataset=str(folder)), **size, recorder=recorder)
    assert torch.equal(made.data().obs, read.data().obs)
    assert torch.equal(made.data().extras["mc_return"], read.data().extras["mc_return"])
    assert made.behaviour() == read.behaviour() == pytest.approx((summary(read.rows())["return/mean"] - 1.0) / 300.0)
    box = UniformPolicy(-1.0, 1.0, 3)
    assert torch.equal(made.score(box), read.score(box))


@pytest.mark.usefixtures("robotics")
def test_scores_of_runners_belong_to_their_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copy b of the robot is judged for seed b mod S."""
    monkeypatch.setattr(runner_tasks, "returns", lambda *_, episodes, seed: torch.arange(float(episodes)))
    rows = maze_task(MazeData("umaze", data_steps=100), seeds=1, episodes=1, seed=0).rows()
    task = task_with("Hopper", "any", rows, Score(0.0, 1.0), seeds=3, episodes=2, seed=0)
    assert task.score(UniformPolicy(-1.0, 1.0, 3)).tolist() == [1.5, 2.5, 3.5]
    assert len(task.source(0).next(UniformPolicy(-1.0, 1.0, 3))) == 3
