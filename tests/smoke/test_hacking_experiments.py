"""Whole runs of the experiments on hacking, as small as they can be."""

import math
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from rlcore.agents.orpo import ppo
from rlcore.envs.hacking.glucose import HISTORY, Glucose, GlucoseConfig
from rlcore.errors import ConfigError
from rlcore.experiments import market_frontier, orpo_glucose, orpo_market, orpo_pandemic, orpo_traffic
from rlcore.experiments.hacking_study import constant
from rlcore.experiments.hacking_task import Arm, Effort, Task, clone, explorer, reference, stagger
from rlcore.simulation import GaussianFeedback
from rlcore.training import RolloutSource
from rlcore.training.recorder import RunFolder

TINY = Effort(paths=4, steps=8, iterations=1, base_paths=4, cloning_steps=20, evaluation_paths=4, evaluations=1)


@pytest.mark.parametrize(
    ("experiment", "horizon", "known"),
    [
        (orpo_pandemic, 12.0, "never"),
        pytest.param(orpo_traffic, 12.0, "constant -1.5", marks=pytest.mark.slow),
        (orpo_glucose, 120.0, "constant 0.034"),
        (orpo_market, 12.0 / 252.0, "Merton"),
    ],
)
def test_every_arm_is_trained_and_compared(experiment: ModuleType, horizon: float, known: str, tmp_path: Path) -> None:
    config = experiment.PRESETS["quick"]
    config = replace(config, env=replace(config.env, horizon=horizon), effort=TINY, arms=(Arm("sqrt_chi2", 0.01),))
    with RunFolder(tmp_path / "run", silent=True) as recorder:
        found = experiment.run(config, 0, recorder)
    assert all(math.isfinite(value) for value in found.values()), "a constant reward correlates with nothing"
    assert list((tmp_path / "run/figures").glob("orpo_*.png"))
    for who in ("controller", "clone", known):
        assert experiment is orpo_market or found[f"{who}/true"] <= 0.0
        assert f"{who}/proxy" in found
    assert experiment is orpo_market or found["sqrt_chi2-0.01/eval/true"] <= 0.0
    assert found["sqrt_chi2-0.01/reg/lambda"] == pytest.approx(0.01)


def test_paths_are_brought_to_all_ages_and_each_has_begun_anew() -> None:
    env = Glucose(GlucoseConfig(horizon=60.0))  # 12 steps
    source = RolloutSource(env, 64, 5, seed=0)
    stagger(source, constant(0.05), seed=1)
    ages = (source.stand.env.t / env.spec.dt).round().long()
    assert sorted(set(ages.tolist())) == list(range(12))
    infusions = source.stand.env.x[:, -1 - HISTORY : -1]  # latest last; before an episode they are the basal rate
    full = float(infusions[ages == 11][0, -1])
    for age, row in zip(ages.tolist(), infusions, strict=True):
        assert int((row - full).abs().lt(1e-4).sum()) == age, "as many steps of the policy as the path is old"


@pytest.mark.parametrize(("hold_time", "draws"), [(0.0, 12), (5.0, 12), (30.0, 2), (60.0, 1), (math.inf, 1)])
def test_noise_is_held_for_a_time_whatever_the_control_interval(hold_time: float, draws: int) -> None:
    env = Glucose(GlucoseConfig(horizon=60.0))  # 12 steps of 5 min
    policy = GaussianFeedback(lambda obs: torch.full_like(obs[:, :1], 0.05), 0.01, noise_dim=1)
    effort, task = replace(TINY, hold_time=hold_time), Task("glucose", env, policy, {})
    learned, compared = explorer(env, 4, 12, effort, seed=0).next(policy), reference(task, policy, effort, seed=1)
    for rows in (learned, compared):
        action = rows.action.squeeze(-1)
        assert action.shape == (12, 4), "whole episodes"
        assert [len(path.unique()) for path in action.T] == [draws] * 4
        assert len(action[0].unique()) == 4, "each path has its own"
    assert not torch.equal(learned.action, compared.action)


def test_a_time_to_hold_noise_is_not_negative() -> None:
    config = orpo_glucose.PRESETS["quick"]
    with pytest.raises(ConfigError, match="hold_time must not be negative"):
        orpo_glucose.run(replace(config, effort=replace(config.effort, hold_time=-1.0)), 0)


def test_a_clone_settles_where_its_rate_falls_to_zero() -> None:
    env = Glucose(GlucoseConfig(horizon=60.0))
    generator = torch.Generator().manual_seed(0)
    obs = torch.randn(4000, env.spec.observation_dim, generator=generator)
    mean = 0.05 + 0.01 * obs[:, :1].tanh()
    action = mean + 0.003 * torch.randn(4000, 1, generator=generator)

    def bias(seed: int, **rates: float) -> float:
        """How far the clone's actions are from the controller's on average: an integral sums that up for days."""
        agent = ppo(env.spec, seed=seed, head="beta")
        clone(agent, obs, action, replace(TINY, cloning_steps=600, cloning_rate=3e-3, **rates), seed)
        return abs(float((agent.act(obs) - mean).mean().detach()))

    falling, kept = (sum(bias(seed, **rates) for seed in range(4)) for rates in ({"cloning_rate_final": 0.0}, {}))
    assert falling < 0.5 * kept


def test_the_published_base_of_the_epidemic_raises_nothing(tmp_path: Path) -> None:
    config = orpo_pandemic.PRESETS["published"]
    config = replace(config, env=replace(config.env, horizon=12.0), effort=TINY, arms=())
    with RunFolder(tmp_path / "run", config, silent=True) as recorder:
        found = orpo_pandemic.run(config, 0, recorder)  # without arms there is nothing to draw
    assert found["controller/premature"] == found["controller/stage"] == 0.0
    assert found["controller/true"] == found["controller/proxy"]
    assert found["stage 2 at once/premature"] == 2.0, "politics are what its name says"


def test_the_market_is_solved_exactly_and_only_kl_gives_way(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run", silent=True) as recorder:
        found = market_frontier.run(market_frontier.Config(shares=(1.0, 0.1)), 0, recorder)
    assert found["sqrt_chi2/1/true"] == pytest.approx(3.295, abs=2e-3)
    assert found["sqrt_chi2/1/certificate"] > 0.04 > 0.0 > found["kl/0.1/certificate"]
    assert found["kl/0.1/true"] < found["desk/true"] < found["sqrt_chi2/0.1/true"] < found["best/true"]
    assert list((tmp_path / "run/figures").glob("market_frontier.png"))
