"""What integral reinforcement learning refuses: data and functions of the wrong shape or type, in one line."""

from __future__ import annotations

import math

import pytest
import torch

from rlcore.agents.integral_rl import (
    IntegralRl,
    KnownParts,
    LinearBatch,
    NeuralIntegralRl,
    OffPolicyIntegralRl,
    RefusalError,
    linear_quadratic,
)
from rlcore.data import Windows
from rlcore.errors import ConfigError, RlcoreError, ShapeError
from rlcore.functional.bases import quadratic
from rlcore.functional.least_squares import least_squares
from rlcore.functional.quadrature import IntegratedWiener
from rlcore.simulation import Feedback, LinearPaths, SmoothPaths
from rlcore.training import ClosedLoopSource, ExcitedSource

A = torch.tensor([[0.0, 1.0], [-1.0, -0.5]], dtype=torch.float64)
B = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
EYE, ONE = torch.eye(2, dtype=torch.float64), torch.eye(1, dtype=torch.float64)
STARTS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
STILL = Feedback(lambda x: torch.zeros_like(x[..., :1]))
KNOWN, RULE, GAIN = linear_quadratic(B, EYE, ONE), IntegratedWiener(2), torch.zeros(1, 1, 2, dtype=torch.float64)


class Quadratic(torch.nn.Module):
    """A value that is linear in its parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return quadratic(2)(x) @ self.weights


def source(starts=STARTS, paths=None, nodes=9) -> ClosedLoopSource:
    return ClosedLoopSource(paths or LinearPaths(A, B), starts, window=0.2, count=3, nodes=nodes)


WINDOWS = source().next(STILL)


def windows(**changes) -> Windows:
    return WINDOWS.replace(**changes)


def on_policy(basis=None, known=KNOWN, features=3) -> IntegralRl:
    return IntegralRl(basis or quadratic(2), known, RULE, torch.zeros(features, dtype=torch.float64))


def off_policy(basis=None, actor=lambda x: x, cost=lambda x: x.square().sum(-1), first=GAIN[0]) -> OffPolicyIntegralRl:
    return OffPolicyIntegralRl(2, basis or quadratic(2), actor, cost, ONE, RULE, first)


def neural(value=None, known=KNOWN) -> NeuralIntegralRl:
    return NeuralIntegralRl(value or Quadratic(), known, RULE, law=STILL.act)


def batch(q=EYE[None], r=ONE[None]) -> LinearBatch:
    return LinearBatch(B[None], q, r, RULE.at(torch.linspace(0.0, 1.0, 5, dtype=torch.float64)))


THREE_STATES = torch.cat([WINDOWS.states, WINDOWS.states[..., :1]], -1)
TWO_ACTIONS = WINDOWS.actions.expand(*WINDOWS.actions.shape[:-1], 2)
WHOLE = torch.ones(1, 1, dtype=torch.int64)


@pytest.mark.parametrize(("make", "kind", "message"), [
    (lambda: windows(times=[0.0, 1.0]), ShapeError, "times must be a tensor, got a list"),
    (lambda: windows(states=WINDOWS.states[:0], actions=WINDOWS.actions[:0]), ShapeError, "at least one window"),
    (lambda: on_policy(quadratic(3), features=6).update(WINDOWS), ShapeError, r"must be \[\.\.\., 3\] for this basis"),
    (lambda: on_policy(quadratic(3), features=6).act(STARTS), ShapeError, r"must be \[\.\.\., 3\] for this basis"),
    (lambda: on_policy().act([1.0, 2.0]), ShapeError, "states must be a tensor"),
    (lambda: on_policy().update(windows(states=THREE_STATES)), ShapeError, r"must be \[\.\.\., 2\] for this basis"),
    (lambda: on_policy(known=KnownParts(lambda x: x @ torch.eye(3).double(), KNOWN.input_gain, ONE)).update(WINDOWS),
     ShapeError, "state_cost at states .* failed"),
    (lambda: on_policy(known=KnownParts(lambda x: 1.0, KNOWN.input_gain, ONE)).update(WINDOWS), ShapeError,
     "state_cost .* got a float"),
    (lambda: linear_quadratic(B, torch.eye(3).double(), ONE), ShapeError, r"need B .* and Q .*\[3, 3\]"),
    (lambda: linear_quadratic(B, EYE, WHOLE), ShapeError, "control_weight must be floating"),
    (lambda: linear_quadratic(B, EYE, 1.0), ShapeError, "control_weight must be a tensor, got a float"),
    (lambda: IntegralRl(quadratic(2), KNOWN, RULE, [0.0, 0.0, 0.0]), ShapeError, "weights must be a tensor"),
    (lambda: off_policy().update(windows(actions=TWO_ACTIONS)), ShapeError, r"actions \[W, N, 1\]"),
    (lambda: off_policy().update(windows(states=THREE_STATES)), ShapeError, r"must be \[\.\.\., 2\] for this basis"),
    (lambda: off_policy().update(WINDOWS.map(lambda x: x[None])), ShapeError, "one problem"),
    (lambda: off_policy(cost=lambda x: x.square()).update(WINDOWS), ShapeError, "state_cost must have shape"),
    (lambda: off_policy(first=GAIN[0] / 0.0), RlcoreError, "first must be finite"),
    (lambda: off_policy(first=[[0.0, 0.0]]), ShapeError, "first must be a tensor"),
    (lambda: off_policy().act(STARTS[:, :1]), ShapeError, r"states must be \[\.\.\., 2\], got \[3, 1\]"),
    (lambda: off_policy().act(torch.ones(4, 3)), ShapeError, r"states must be \[\.\.\., 2\], got \[4, 3\]"),
    (lambda: off_policy().act([0.0, 0.0]), ShapeError, "states must be a tensor"),
    (lambda: off_policy().value(torch.tensor(1.0)), ShapeError, r"states must be \[\.\.\., 2\], got \[\]"),
    (lambda: neural().update(WINDOWS.map(lambda x: x[None])), ShapeError, "one problem"),
    (lambda: neural(torch.nn.Linear(2, 1)).update(WINDOWS), ShapeError, "the network must have shape"),
    (lambda: neural().update(windows(states=THREE_STATES)), ShapeError, r"must be \[\.\.\., 2\] for this basis"),
    (lambda: batch(q=EYE.expand(3, 2, 2)), ShapeError, r"Q \[P, n, n\]"),
    (lambda: batch(r=WHOLE[None]), ShapeError, "of one dtype"),
    (lambda: batch().run(lambda gain: torch.ones(1, 4, 3, 2, dtype=torch.float64), GAIN, 3), ShapeError, "the plant"),
    (lambda: batch().run(lambda gain: torch.ones(1, 5, 3, 2, dtype=torch.float64), GAIN[0], 3), ShapeError, "gain"),
    (lambda: LinearPaths(A[:1], B), ShapeError, "need A"),
    (lambda: source(torch.ones(4, 3, dtype=torch.float64)).next(STILL), ShapeError, r"starts must be .*S, 2\] like A"),
    (lambda: source(STARTS.float()).next(STILL), ShapeError, "starts must be torch.float64"),
    (lambda: source(STARTS.tolist()), ShapeError, "starts must be a tensor"),
    (lambda: source(paths=SmoothPaths(lambda x, u: x[..., :1])).next(STILL), ShapeError, "velocity must give"),
    (lambda: source(nodes=-3), ConfigError, "nodes must be a number >= 2"),
    (lambda: source(nodes=[0.0, 1.0]), ShapeError, "nodes must be a tensor"),
    (lambda: ExcitedSource(lambda x, u: x, 1, STARTS, (math.nan,), window=0.1, count=1, nodes=5), ConfigError,
     "positive frequency"),
    (lambda: ExcitedSource(lambda x, u: x, 0, STARTS, (), window=0.1, count=1, nodes=5), ConfigError,
     "positive frequency"),
    (lambda: least_squares(torch.ones(2, 4, 2), torch.ones(3, 4)), ShapeError, "need a matrix"),
    (lambda: least_squares(torch.ones(4, 2, dtype=torch.int64), torch.ones(4)), ShapeError, "one floating dtype"),
])  # fmt: skip
def test_one_line(make, kind, message):
    with pytest.raises(kind, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_path_whose_cost_overflows_is_refused_and_leaves_the_others_alone():
    """States near 1e200 are finite, their squares are not."""
    scales = torch.tensor([1.0, 1e200], dtype=torch.float64)[:, None, None, None]
    agent = IntegralRl(quadratic(2), KNOWN, RULE, torch.zeros(2, 3, dtype=torch.float64))
    alone = on_policy()
    alone.update(WINDOWS)
    agent.update(Windows(WINDOWS.times, scales * WINDOWS.states, WINDOWS.actions.expand(2, -1, -1, -1)))
    assert agent.improvements.tolist() == [1, 0]
    torch.testing.assert_close(agent.weights[0], alone.weights, rtol=1e-12, atol=1e-12)
    with pytest.raises(RefusalError, match="keep the state finite"):
        on_policy().update(windows(states=1e200 * WINDOWS.states))


def test_observations_in_single_precision_get_actions_in_single_precision():
    agent = on_policy()
    agent.update(WINDOWS)
    action = agent.act(STARTS.float())
    assert action.dtype == torch.float32
    torch.testing.assert_close(action, agent.act(STARTS).float())
