"""What quadrature rules refuse, before any wrong number."""

from __future__ import annotations

import math

import pytest
import torch

from rlcore.errors import ConfigError, NumericsError, RlcoreError, ShapeError
from rlcore.functional.quadrature import (
    ByPattern,
    IntegratedWiener,
    Matern,
    MaternKernel,
    NaturalSpline,
    Rule,
    Simpson,
    SquaredExponential,
    Trapezoid,
    clenshaw_curtis,
    dense_quadrature,
    fit_length_scale,
    gauss_legendre,
)

RULES: list[Rule] = [
    Trapezoid(),
    Simpson(),
    NaturalSpline(),
    IntegratedWiener(1),
    Matern(2, 1.0),
    SquaredExponential(1.0),
    ByPattern(Matern(1, 1.0)),
]
NODES = torch.linspace(0.0, 1.0, 9, dtype=torch.float64)


def nodes(*times: float) -> torch.Tensor:
    return torch.tensor(times, dtype=torch.float64)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize(("times", "error", "message"), [
    (nodes(0.0, 2.0, 1.0), ConfigError, "must rise strictly, got 2.0 before 1.0 at index .1.; sort the nodes"),
    (nodes(0.0, 1.0, 1.0), ConfigError, "must rise strictly.* drop the repeated ones"),
    (torch.stack([nodes(0.0, 1.0, 2.0), nodes(0.0, 2.0, 1.0)]), ConfigError, r"at index \[1, 1\]"),
    (nodes(0.5), ConfigError, "needs at least 2 nodes, got 1; sample the window more often"),
    (nodes(0.0, math.nan, 1.0), NumericsError, "times must be finite"),
    (nodes(0.0, math.inf), NumericsError, "times must be finite"),
    (torch.arange(4), ShapeError, "must be a float32 or float64 tensor"),
    ([0.0, 1.0], ShapeError, "must be a float32 or float64 tensor"),
    (torch.tensor([0.0, 1.0], dtype=torch.float16), ShapeError, "must be a float32 or float64 tensor"),
    (torch.tensor(1.0), ShapeError, "must be a float32 or float64 tensor"),
])  # fmt: skip
def test_nodes(rule, times, error, message):
    with pytest.raises(error, match=message) as caught:
        rule.at(times)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_windows_masks_and_values(rule):
    few = torch.zeros(9, dtype=torch.bool)
    few[0] = True
    cases = [
        ({"start": 0.1}, ConfigError, "must enclose the nodes"),
        ({"end": 0.9}, ConfigError, "must enclose the nodes"),
        ({"end": math.nan}, NumericsError, "end must be finite"),
        ({"observed": few}, ConfigError, "observed nodes, got a window with 1"),
        ({"observed": few.double()}, ShapeError, "must be a bool tensor"),
        ({"observed": few[:5]}, ShapeError, "must be a bool tensor"),
        ({"observed": few.tolist()}, ShapeError, "must be a bool tensor .*, got a list"),
        ({"start": "0"}, ConfigError, "start must be a number"),
        ({"end": math.inf}, NumericsError, "end must be finite"),
    ]
    for arguments, error, message in cases:
        with pytest.raises(error, match=message):
            rule.at(NODES, **arguments)
    three, two = NODES.repeat(3, 1), torch.ones(2, 9, dtype=torch.bool)
    for arguments in ({"observed": two}, {"start": torch.zeros(2)}, {"end": torch.ones(2)}):
        with pytest.raises(ShapeError, match=r"must fit times \[3\] in their leading dimensions"):
            rule.at(three, **arguments)
    with pytest.raises(ShapeError, match=r"values \[2\] must fit the weights \[3\]"):
        rule.at(three).integral(torch.ones(2, 9, dtype=torch.float64))
    found = rule.at(NODES)
    for values in (NODES[:-1], NODES.tolist(), NODES.numpy()):
        with pytest.raises(ShapeError, match="one for each node"):
            found.integral(values)
    for bad in (math.nan, math.inf):
        values = NODES.repeat(3, 1)
        values[1, 4] = bad
        asked = [found.integral] if found.variance is None else [found.integral, found.deviation, found.log_likelihood]
        for ask in asked:
            with pytest.raises(NumericsError, match=r"sampled values must be finite.*at index \[1, 4\]"):
                ask(values)


def test_a_rule_without_a_prior_says_so():
    seen = torch.ones(9, dtype=torch.bool)
    seen[-1] = False
    for rule in (Trapezoid(), Simpson()):
        with pytest.raises(ConfigError, match="no prior, so no error bar; use IntegratedWiener or Matern"):
            rule.at(NODES).deviation(NODES)
        for arguments in ({"start": -0.1}, {"end": 1.1}, {"observed": seen}):
            with pytest.raises(ConfigError, match="an observed node at either end"):
                rule.at(NODES, **arguments)


def test_no_scale_without_a_node_to_spare():
    for rule in (IntegratedWiener(2), Matern(2, 1.0, mean_degree=2), SquaredExponential(1.0, mean_degree=2)):
        found = rule.at(NODES[:3])
        assert float(found.integral(NODES[:3] ** 2)) == pytest.approx(float(NODES[2]) ** 3 / 3.0)
        for ask in (found.scale, found.deviation, found.log_likelihood):
            with pytest.raises(ConfigError, match="a scale needs more observed nodes"):
                ask(NODES[:3])


def test_too_few_nodes_for_the_mean():
    seen = torch.zeros(2, 9, dtype=torch.bool)
    seen[:, :3] = seen[0, 5] = True
    for rule in (IntegratedWiener(3), NaturalSpline(7), Matern(1, 1.0, 3), SquaredExponential(1.0, 3)):
        with pytest.raises(ConfigError, match="at least 4 nodes, got 3"):
            rule.at(NODES[:3])
        with pytest.raises(ConfigError, match="at least 4 observed nodes, got a window with 3"):
            rule.at(NODES, observed=seen)


@pytest.mark.parametrize("make", [
    lambda: Matern(5, 1.0),
    lambda: Matern(-1, 1.0),
    lambda: Matern(1.5, 1.0),
    lambda: Matern(1, 0.0),
    lambda: Matern(1, math.nan),
    lambda: Matern(1, torch.tensor([1.0, -1.0])),
    lambda: Matern(1, 1.0, mean_degree=5),
    lambda: Matern(1, 1.0, noise=-1e-9),
    lambda: IntegratedWiener(5),
    lambda: IntegratedWiener(1, noise=math.inf),
    lambda: NaturalSpline(4),
    lambda: SquaredExponential(-1.0),
    lambda: SquaredExponential(0.01).at(NODES),
    lambda: SquaredExponential(1.0).at(torch.linspace(0.0, 1.0, 33, dtype=torch.float64)),
    lambda: gauss_legendre(0),
    lambda: SquaredExponential(5.0, mean_degree=1).at(torch.linspace(0.0, 1.0, 12, dtype=torch.float64)),
    lambda: gauss_legendre(3, 1.0, 1.0),
    lambda: gauss_legendre(3, 0.0, math.inf),
    lambda: clenshaw_curtis(1),
    lambda: ByPattern(Trapezoid(), tolerance=-1.0),
    lambda: dense_quadrature(MaternKernel(4, 10.0), torch.linspace(0.0, 1.0, 65, dtype=torch.float64)),
    lambda: fit_length_scale(Matern(1, 1.0), NODES, 0.0 * NODES),
    lambda: fit_length_scale(IntegratedWiener(1), NODES, NODES),
    lambda: fit_length_scale(Simpson(), NODES, NODES),
    lambda: fit_length_scale(Matern(1, 1.0), NODES, NODES, bounds=(1.0, 0.5)),
    lambda: fit_length_scale(Matern(1, 1.0, mean_degree=4), NODES[:5], NODES[:5]),
])  # fmt: skip
def test_settings(make):
    with pytest.raises(RlcoreError) as caught:
        make()
    assert "got" in str(caught.value) or ";" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_batch_of_length_scales_must_fit_the_windows():
    for rule in (Matern(1, torch.ones(2)), SquaredExponential(torch.ones(2))):
        with pytest.raises(ShapeError, match=r"length_scale \[2\] must fit times \[3\]"):
            rule.at(NODES.repeat(3, 1))
