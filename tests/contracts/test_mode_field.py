"""The `mode` of an experiment's settings is that of its rollouts."""

from __future__ import annotations

from dataclasses import fields, replace
from importlib import import_module
from typing import Any, NoReturn

import pytest

from rlcore.cli.run import with_settings
from rlcore.errors import ConfigError
from rlcore.experiments import divergence_comparison, hacking_runs, orpo_market, wsrl_point_maze
from rlcore.experiments.hacking_arm import Arm
from rlcore.experiments.offline_tasks import maze_task
from rlcore.reporting.listing import experiments
from rlcore.simulation import UniformPolicy
from rlcore.training import sources
from rlcore.training.recorder import SILENT

TAKE_IT = ("black_scholes", "deep_control", "ergodic_lq", "ergodic_lqr", "large_lq", "mean_variance", "orpo_tomato")
TAKE_IT += ("off_policy_q", "pendulum")
SHORT = {"deep_control": ["--task", "lq"]}


class ReachedError(Exception):
    """A rollout was asked for."""


def reached(*args: Any, mode: str = "eager", **settings: Any) -> NoReturn:
    raise ReachedError(mode)


@pytest.fixture(autouse=True)
def _stop_at_the_rollout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "rollout", reached)
    monkeypatch.setattr(sources, "rollout_with_reset", reached)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "orpo_tomato" else ()) for name in TAKE_IT]
)
def test_the_mode_reaches_the_rollout(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_module(f"rlcore.experiments.{name}")
    if name == "black_scholes":
        monkeypatch.setattr(module, "rollout", reached)
    config = with_settings(module.PRESETS["quick"], ["--mode", "compiled", *SHORT.get(name, [])], f"rlcore run {name}")
    assert module.PRESETS["quick"].mode == "eager"
    with pytest.raises(ReachedError, match="compiled"):
        module.run(config, 0)


def test_the_studies_of_hacking_take_it_with_their_effort() -> None:
    config = orpo_market.PRESETS["quick"]
    tiny = {"cloning_steps": 1, "base_paths": 4, "evaluation_paths": 4}
    with pytest.raises(ReachedError, match="auto"):
        orpo_market.run(replace(config, effort=replace(config.effort, mode="auto", **tiny)), 0)


def test_the_learned_gardens_take_it_with_their_learning() -> None:
    for mode in ("compiled", "auto"):
        learning = replace(divergence_comparison.PRESETS["quick"].learning, mode=mode)
        config = replace(divergence_comparison.PRESETS["quick"], learning=learning)
        with pytest.raises(ReachedError, match=mode):
            divergence_comparison.learned(config, Arm(), 0, SILENT)
        with pytest.raises(ReachedError, match=mode):
            hacking_runs.estimates(learning, Arm(), 0)


def test_the_studies_of_a_maze_take_it_with_its_data() -> None:
    """What is learned from there is gathered in the mode; the data are made as ever."""
    config = with_settings(wsrl_point_maze.PRESETS["quick"], ["--mode", "compiled"], "rlcore run wsrl_point_maze")
    task = maze_task(config, seeds=2, episodes=1, seed=0)
    with pytest.raises(ReachedError, match="compiled"):
        task.source(0).next(UniformPolicy(-1.0, 1.0, 2))


def test_every_experiment_with_the_field_is_tested() -> None:
    found = set()
    for name in experiments():
        config = import_module(f"rlcore.experiments.{name}").PRESETS["quick"]
        if any(field.name == "mode" for field in fields(config)):
            found.add(name)
    assert found == {*TAKE_IT, "wsrl_point_maze"}


def test_another_word_is_refused_with_those_that_are_known() -> None:
    pendulum = import_module("rlcore.experiments.pendulum")
    with pytest.raises(ConfigError, match="eager"):
        with_settings(pendulum.PRESETS["quick"], ["--mode", "fast"], "rlcore run pendulum")
