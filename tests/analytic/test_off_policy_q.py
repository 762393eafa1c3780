"""Off-policy q-learning: what a bounded weight, a fixed behaviour and the watch on the test functions do."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rlcore.agents.martingale import QLearning, QLearningConfig, bounded_weight
from rlcore.agents.martingale.tails import TestFunctionShare
from rlcore.envs.control.lqr import LQ_B
from rlcore.errors import ConfigError, DataWarning, NumericsError, UnknownNameError
from rlcore.experiments import ergodic_lq, off_policy_q
from rlcore.experiments.acceptance.martingale.control import exact_rows, lq_b_agent, sampled_data_fixed_point
from rlcore.nn.quadratic_q import QuadraticQ
from rlcore.simulation import GaussianFeedback
from rlcore.training import BehaviourSource, RolloutSource
from rlcore.training.recorder import RunFolder

CONFIG = off_policy_q.Config(paths=500, seconds=60.0, evaluations=1)


def test_the_sampled_data_fixed_point_has_its_known_bias() -> None:
    """LQ-B at dt .1: errors of k2, gain, variance, k0."""
    expected = (-1.381e-2, 5.243e-2, -1.198e-2, -3.295e-2)
    assert sampled_data_fixed_point(0.1) == pytest.approx(expected, rel=1e-3)


def test_the_fixed_point_tends_to_the_truth_at_first_order() -> None:
    coarse, fine = sampled_data_fixed_point(0.02), sampled_data_fixed_point(0.01)
    assert [c / f for c, f in zip(coarse, fine, strict=True)] == pytest.approx([2.0] * 4, abs=0.05)


def test_exact_rows_hold_the_moments_of_a_step() -> None:
    batch, probability = exact_rows(0.1)
    mean = (probability @ batch.next_obs.squeeze(-1)).numpy()
    grown = math.exp(0.05)
    expected = grown * batch.obs[0, :, 0] + 2.0 * (grown - 1.0) * batch.action[0, :, 0]
    assert mean == pytest.approx(expected.numpy())
    second = probability @ ((batch.next_obs.squeeze(-1) - torch.as_tensor(mean)) ** 2)
    assert second.numpy() == pytest.approx(LQ_B.sigma**2 * (math.exp(0.1) - 1.0))


def test_a_weight_multiplies_every_test_function() -> None:
    """A constant weight c is a rate multiplied by c, the average reward's included."""
    batch = exact_rows(0.1)[0]

    def moved(weight: float | None, rate: float) -> list[float]:
        plain = lq_b_agent()
        config = QLearningConfig(value_rate=rate, q_rate=rate, scale_rate=rate, decay=False)
        given = None if weight is None else lambda obs, action: torch.full_like(obs[..., 0], weight)
        assert isinstance(plain.q, QuadraticQ)
        agent = QLearning(plain.value, plain.q, config, weight=given).double()
        agent.update(batch)
        return [float(v) for p in agent.parameters() for v in p.detach().flatten()] + [float(agent.average_reward)]

    assert moved(0.25, 0.4) == pytest.approx(moved(None, 0.1), abs=1e-14)
    assert max(abs(v) for v in moved(None, 0.1)) > 0.0


def test_bounded_weight_bounds_quadratic_test_functions() -> None:
    x = torch.logspace(-2, 8, 50).unsqueeze(1)
    products = bounded_weight(0.1)(x, -x) * x[:, 0] ** 2
    assert float(products.max()) <= 0.25 / 0.1 / 2.0 * (1.0 + 1e-4)  # y / (1 + 2 c y)^2 <= 1 / (8 c), y = x^2


def test_the_share_of_one_row_falls_only_if_the_moment_is_finite() -> None:
    """xi = x^2 / 2 of Pareto states: E xi^2 is infinite for tails of index 3, finite for index 9."""
    generator = torch.Generator().manual_seed(0)
    shares = {}
    for index in (3.0, 9.0):
        tests = TestFunctionShare(1)
        tests.see(0.5 * torch.rand(100_000, 1, generator=generator) ** (-2.0 / index))
        shares[index] = float(tests.share)
        assert tests.heavy == (index == 3.0)
    assert shares[3.0] > 30.0 * shares[9.0]


def test_a_behaviour_acts_while_the_agent_learns() -> None:
    env = ergodic_lq.make_env(0.1, 0.1)
    behaviour = GaussianFeedback(lambda x: torch.full_like(x, 7.0), 0.0, 1)
    source = BehaviourSource(RolloutSource(env, 4, 3, seed=0), behaviour)
    batch = source.next(off_policy_q.make_agent(off_policy_q.CASES["normal"], CONFIG, 0.1))
    assert bool((batch.action == 7.0).all())
    assert (source.steps, source.simulated) == (12, pytest.approx(1.2))
    other = BehaviourSource(RolloutSource(env, 4, 3, seed=0), behaviour)
    other.load_state_dict(source.state_dict())
    assert torch.equal(source.next(behaviour).obs, other.next(behaviour).obs)


@pytest.mark.parametrize("name", ["normal", "inward-bounded"])
def test_learning_from_another_policy_finds_the_optimum(name: str) -> None:
    found = off_policy_q.train(name, replace(CONFIG, paths=1000, seconds=100.0), seed=0)
    assert found["diverged"] == 0.0
    assert found["eval/largest_error"] < 0.1


@pytest.mark.parametrize("name", ["inward-plain", "outward-plain"])
def test_plain_test_functions_diverge_under_heavy_tails(name: str) -> None:
    found = off_policy_q.train(name, replace(CONFIG, paths=1000, seconds=200.0), seed=0)
    assert found["diverged"] == 1.0
    assert found["seconds"] < 100.0


def test_the_whole_experiment_draws_its_figure(tmp_path: Path) -> None:
    config = off_policy_q.Config(paths=20, seconds=4.0, evaluations=4)
    with RunFolder(tmp_path / "run", {}, silent=True) as recorder:
        found = off_policy_q.run(config, 0, recorder)
    assert all(math.isfinite(value) for value in found.values())
    assert 0.0 < found["data/share/normal"] < 1.0
    assert (tmp_path / "run" / "figures" / "off_policy_q.png").stat().st_size > 10_000
    assert (tmp_path / "run" / "figures" / "off_policy_q-3.csv").read_text().startswith("label,")


def test_the_error_names_the_cause_and_the_weight() -> None:
    config = replace(CONFIG, paths=1000)
    case = off_policy_q.CASES["outward-plain"]
    agent = off_policy_q.make_agent(case, config, 0.1)
    with (
        pytest.warns(DataWarning, match=r"must be square-integrable.*bounded_weight"),
        pytest.raises(NumericsError, match=r"iteration \d+ of 2000, .*not square-integrable.*bounded_weight"),
    ):
        agent.learn(off_policy_q.behave(case, config, 0), 2000)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="strength"):
        bounded_weight(-1.0)
    plain = lq_b_agent()
    with pytest.raises(ConfigError, match="watch"):
        QLearning(plain.value, plain.q, QLearningConfig(watch=-1))
    with pytest.raises(UnknownNameError, match="inward"):
        off_policy_q.train("inward", CONFIG, 0)
