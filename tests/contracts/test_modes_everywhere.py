"""Every registered environment gives the same numbers in every mode, with and without restarts."""

from __future__ import annotations

import logging
import warnings
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from rlcore.envs import CATALOG, make
from rlcore.envs.control.stopped_brownian import StoppedBrownian, StoppedBrownianConfig
from rlcore.errors import ConfigError
from rlcore.experiments.acceptance.modes import gap, gap_from, without_machine_code
from rlcore.simulation import EnvState, GaussianFeedback, begin, graphs, modes, rollout, rollout_with_reset
from rlcore.simulation.compiled import GRAPHS
from rlcore.simulation.graphs import Graph, RecompileWarning

FEW = ("rlcore/MatrixLqr-v0", "rlcore/PreferenceSequences-v0", "rlcore/ScalarLqr-v0", "rlcore/StoppedBrownian-v0")
EVERY = [pytest.param(name, marks=() if name in FEW else pytest.mark.slow) for name in sorted(CATALOG)]
LOOPS = ("paths", "reset")
POLICY = GaussianFeedback(lambda obs: -obs[:, :1], 0.3, 1)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("env_id", EVERY)
def test_an_environment_is_one_graph_with_the_numbers_of_eager(env_id: str, loop: str) -> None:
    """All but inductor's own work: Dynamo without a break, lowering, and the rewriting by columns."""
    with without_machine_code():
        assert gap(env_id, loop) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("env_id", sorted(CATALOG))
def test_the_compiler_gives_the_numbers_of_eager(env_id: str, loop: str) -> None:
    assert gap(env_id, loop) < 1e-12


def test_the_compiler_does_not_begin_a_graph_anew(capsys: pytest.CaptureFixture[str]) -> None:
    """As torch 2.13 does over a float64 scalar among a graph's arguments; it is said each time."""
    env = make("rlcore/ScalarLqr-v0")
    with without_machine_code():
        rollout(env, POLICY, begin(env, 8, seed=0), 2, mode="compiled")
    assert capsys.readouterr().err.count("compiling") == 1


@pytest.mark.parametrize("paths", [1, 2, 4])
def test_a_batch_as_large_as_a_matrix_is_no_special_case(paths: int) -> None:
    """The rewriting knows the rows by their number; a matrix of the problem may have as many."""
    with without_machine_code():
        assert gap("rlcore/MatrixLqr-v0", "reset", paths=paths) < 1e-12


class Asks(StoppedBrownian):
    def transition(self, state: EnvState, action: Tensor, noise: Tensor) -> tuple[EnvState, Tensor]:
        if state.x.abs().max() > 5.0:  # Python looks at the data
            action = -action
        return super().transition(state, action, noise)


def test_auto_serves_by_the_eager_loop_what_cannot_be_compiled(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(modes, "LARGE", 1)
    monkeypatch.setattr(modes, "REFUSED", set())
    env = Asks(StoppedBrownianConfig())
    start = begin(env, 24, seed=0)
    for loop in (rollout, rollout_with_reset):
        expected, end = loop(env, POLICY, start, 4)
        with caplog.at_level(logging.WARNING, "rlcore.simulation"), without_machine_code():
            found, last = loop(env, POLICY, start, 4, mode="auto")
        assert torch.equal(found.reward, expected.reward)
        assert torch.equal(found.obs, expected.obs)
        assert torch.equal(last.env.x, end.env.x)
    assert len(caplog.messages) == 1, "said once"
    assert "Asks" in caplog.messages[0]
    assert "test_modes_everywhere.py:" in caplog.messages[0]
    named = r"Asks with GaussianFeedback.*test_modes_everywhere\.py:\d+"
    with pytest.raises(ConfigError, match=named), without_machine_code():
        rollout(env, POLICY, start, 4, mode="compiled")


def test_more_numbers_than_a_graph_remembers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every value of a config is traced anew; a sweep must not end where the compiler's memory does."""
    monkeypatch.setattr(graphs, "KEPT", 2)
    with without_machine_code(), warnings.catch_warnings():
        warnings.simplefilter("ignore", RecompileWarning)
        for sigma in (0.1, 0.2, 0.3, 0.4, 0.5):
            env = StoppedBrownian(replace(StoppedBrownianConfig(), sigma=sigma), dtype=torch.float64)
            assert gap_from(begin(env, 24, seed=3), env, POLICY, "paths") < 1e-12


def test_the_stand_in_for_the_compiler_leaves_nothing_behind() -> None:
    before = dict(GRAPHS)
    with without_machine_code():
        gap("rlcore/ScalarLqr-v0", "paths")
    assert before == GRAPHS
    assert all(isinstance(graph, Graph) for graph in GRAPHS.values())
