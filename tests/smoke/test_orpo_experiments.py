"""The experiments on reward hacking in miniature."""

import json
import math
from dataclasses import replace

import pytest
import torch

from rlcore.agents.orpo import RatioConfig
from rlcore.envs.hacking.tomato import Tomato, TomatoConfig
from rlcore.errors import ConfigError, UnknownNameError
from rlcore.experiments import (
    divergence_comparison,
    hacking_certificate,
    hacking_runs,
    orpo_bandit,
    orpo_market,
    orpo_tomato,
    orpo_traffic,
)
from rlcore.experiments.hacking_arm import Arm
from rlcore.nn.ensemble import Layers
from rlcore.training.recorder import RunFolder

RATIO = RatioConfig(layers=Layers((16,), activation="leaky_relu"), steps=2, rounds=1, rows=32)


def test_the_garden_records_every_arm(tmp_path):
    learner = replace(orpo_tomato.LEARNER, epochs=1)
    arms = (Arm(), Arm("kl", 0.1))
    config = orpo_tomato.Config(arms=arms, runs=2, paths=4, iterations=2, base_paths=8, ratio=RATIO, learner=learner)
    with RunFolder(tmp_path / "run", config, silent=True) as folder:
        found = orpo_tomato.run(config, 0, folder)
    assert found["baseline/true optimum/true"] == pytest.approx(9.74)
    assert all(math.isfinite(value) for value in found.values())
    assert {"sqrt_chi2/eval/true_1", "kl-0.1/hack/certificate"} <= set(found)
    assert (tmp_path / "run" / "figures" / "orpo_tomato.png").exists()
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == found


def test_certificates_of_a_few_random_problems(tmp_path):
    config = hacking_certificate.Config(draws=160, iterations=2)
    with RunFolder(tmp_path / "run", config, silent=True) as folder:
        found = hacking_certificate.run(config, 0, folder)
    assert found["violations/T"] == found["certified and worse"] == 0.0
    assert (tmp_path / "run" / "figures" / "hacking_certificate.png").exists()


def test_the_exact_occupancy_of_what_an_agent_sees():
    """A policy that is blind to the flag: summed over it, mu is sum_t (1 - g) g^t P^t / (1 - g^T), by a direct sum."""
    env = Tomato(TomatoConfig(steps=30))
    here = hacking_runs.known(env)
    policy = here.model.softened(0.15)
    mu = here.occupancy(policy.expand(2, -1, -1))
    moves = torch.einsum("sa,sat->st", policy, here.model.problem.transition)
    state, mass = here.model.problem.start, torch.zeros(len(moves), dtype=torch.float64)
    for t in range(30):
        mass, state = mass + 0.99**t * state, state @ moves
    torch.testing.assert_close(mu.sum(0), (mass / mass.sum()).unsqueeze(-1) * policy)
    assert 0.0 < float(mu[1].sum()) < 0.1  # with the flag: after the sprinkler, which few episodes see in 30 steps
    torch.testing.assert_close(here.model.index(here.observations[1]), torch.arange(len(policy)))


def test_estimated_certificates_beside_exact_ones(tmp_path):
    learner = replace(orpo_tomato.LEARNER, epochs=1)
    learning = orpo_tomato.Config(paths=4, iterations=2, base_paths=64, ratio=RATIO, learner=learner)
    config = hacking_certificate.Config(draws=160, iterations=2, learned=(Arm("none"),), learning=learning)
    with RunFolder(tmp_path / "run", config, silent=True) as folder:
        found = hacking_certificate.run(config, 0, folder)
    assert found["learned none/batches"] == 2.0
    assert 0.0 <= found["learned none/hacked and certified"] <= found["learned none/hacked"]
    assert (tmp_path / "run" / "figures" / "hacking_runs.png").exists()


def test_the_bandit_over_optimises_unless_it_is_held():
    found = orpo_bandit.run(orpo_bandit.Config(), 3)
    assert found["none/gold"] < 0.0 < found["none/gold highest"]
    assert found["sqrt_chi2/gold lowest"] >= -1e-9
    assert found["sqrt_chi2/certificate"] > 0.0 > found["none/certificate"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"paths": 0}, "effort.paths must be at least 1, got 0"),
        ({"base_paths": 1}, "effort.base_paths must be at least 2, got 1"),
        ({"iterations": -1}, "effort.iterations must be at least 0, got -1"),
        ({"evaluations": 0}, "effort.evaluations must be at least 1, got 0"),
        ({"corrections": -1}, "effort.corrections must be at least 0, got -1"),
        ({"cloning_steps": 1.5}, "effort.cloning_steps must be a whole number"),
        ({"cloning_rate": math.nan}, "effort.cloning_rate must be positive"),
        ({"cloning_rate_final": -1.0}, "effort.cloning_rate_final must not be negative"),
    ],
)
def test_efforts_at_the_door(change, said):
    config = orpo_market.PRESETS["quick"]
    with pytest.raises(ConfigError, match=said):
        orpo_market.run(replace(config, effort=replace(config.effort, **change)), 0)


@pytest.mark.parametrize(
    ("arms", "said"),
    [
        ((Arm("sqrt_chi"),), "did you mean 'sqrt_chi2'"),
        ((Arm("kl", -1.0),), "strength of kl must not be negative"),
        ((Arm("maxmin", 1.5),), r"\(0, 1\]"),
        ((Arm(), Arm()), "arms must differ, got sqrt_chi2, sqrt_chi2"),
    ],
)
def test_arms_at_the_door(arms, said):
    for experiment in (orpo_market, orpo_tomato):
        with pytest.raises((ConfigError, UnknownNameError), match=said):
            experiment.run(replace(experiment.PRESETS["quick"], arms=arms), 0)


@pytest.mark.parametrize(
    ("experiment", "change", "said"),
    [
        (divergence_comparison, {"temperatures": (math.nan,)}, "temperatures must not be negative"),
        (divergence_comparison, {"shares": (-1.0,)}, "shares must not be negative"),
        (divergence_comparison, {"kl": ()}, "at least one temperature"),
        (divergence_comparison, {"steps": 0}, "steps must be positive"),
        (divergence_comparison, {"learned": (Arm("nothing"),)}, "no way to regularise"),
        (hacking_certificate, {"states": (0,)}, "2 or more"),
        (hacking_certificate, {"actions": 1}, "2 or more"),
        (hacking_certificate, {"rate": math.nan}, "rate must be positive"),
        (hacking_certificate, {"temperature": 0.0}, "temperature must be positive"),
        (orpo_traffic, {"r": 1.5}, r"\(0, 1\]"),
    ],
)
def test_settings_at_the_door(experiment, change, said):
    with pytest.raises((ConfigError, UnknownNameError), match=said):
        experiment.run(replace(experiment.PRESETS["quick"], **change), 0)


@pytest.mark.slow
def test_divergences_side_by_side(tmp_path):
    pytest.importorskip("cvxpy")
    config = divergence_comparison.Config(temperatures=(0.15,), kl=(0.1,), ad_kl=(2.0,), shares=(1.0,))
    with RunFolder(tmp_path / "run", config, silent=True) as folder:
        found = divergence_comparison.run(config, 0, folder)
    assert found["tau 0.15/sqrt_chi2/true"] > found["tau 0.15/kl/true"] > found["tau 0.15/reference/true"]
    assert (tmp_path / "run" / "figures" / "table.csv").read_text().count("\n") == 7
