"""Off-policy integral RL: known tables, the error law, discount, value iteration, bad input."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from rlcore.agents.integral_rl import OffPolicyConfig, OffPolicyIntegralRl, ValueIterationConfig, Windows
from rlcore.agents.integral_rl.data_integrals import iterate, sample_nodes, value_change
from rlcore.agents.integral_rl.value_iteration import linear_model, stabilising_gain
from rlcore.envs.affine import LinearRegulator, ThirdOrderLinear, TwoInputs
from rlcore.errors import ConfigError, NumericsError, ShapeError
from rlcore.experiments.integral_rl_off_policy import excited, gain_error, identity, learn_linear, pendulum_error
from rlcore.experiments.integral_rl_off_policy import sine_error as error_on_sine_system
from rlcore.functional import riccati
from rlcore.functional.bases import half_vector, quadratic
from rlcore.functional.quadrature import IntegratedWiener, Matern, Simpson
from rlcore.simulation.policy import Feedback
from rlcore.training.excited_source import ExcitedSource

ONE = ((1.0,),)


def tensor(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def no_action(x: torch.Tensor) -> torch.Tensor:
    return x.new_zeros(*x.shape[:-1], 1)


def third_order(nodes: int = 17, count: int = 60) -> tuple[ThirdOrderLinear, Windows]:
    env = ThirdOrderLinear(dtype=torch.float64)
    source = excited(env, tensor([2.0, -2.0, 3.0]), window=0.1, count=count, nodes=nodes)
    return env, source.next(Feedback(no_action))


def learner(env: LinearRegulator, first: torch.Tensor | None = None, **settings: object) -> OffPolicyIntegralRl:
    n = env.spec.state_dim
    config = replace(OffPolicyConfig(), **settings)  # type: ignore[arg-type]
    return OffPolicyIntegralRl(
        n, quadratic(n), identity, env.state_cost, env.control_weight, IntegratedWiener(3), first, config
    )


def test_an_excited_path_is_that_of_the_closed_form():
    """dx = (-x + sin 2 t) dt from 0: x = (sin 2 t - 2 cos 2 t + 2 exp(-t)) / 5."""
    source = ExcitedSource(lambda x, u: u - x, 1, tensor([0.0]), (2.0,), window=0.5, count=8, nodes=5)
    found = source.next(Feedback(no_action))
    t = (0.5 * torch.arange(8)[:, None] + found.times).double()
    expected = (torch.sin(2 * t) - 2 * torch.cos(2 * t) + 2 * torch.exp(-t)) / 5
    torch.testing.assert_close(found.states[..., 0], expected, rtol=0.0, atol=5e-14)
    torch.testing.assert_close(found.actions[..., 0], torch.sin(2 * t), rtol=0.0, atol=5e-14)


@pytest.mark.parametrize(
    ("name", "window", "count", "nodes", "expected"),
    [
        ("trapezoid", 0.1, 60, 9, 2.98e-4),
        ("Simpson", 0.5, 40, 17, 2.51e-6),
        ("Matern-7/2, l = 0.3", 0.1, 60, 17, 1.61e-8),
        ("Matern-7/2, l = 10 T", 0.5, 40, 9, 1.82e-5),
        ("IWP3", 0.5, 40, 33, 1.15e-8),
    ],
)
def test_errors_are_those_of_the_table_and_inside_their_bound(name, window, count, nodes, expected):
    error, bound = gain_error(name, window=window, count=count, nodes=nodes)
    assert error == pytest.approx(expected, rel=0.02)
    assert math.isnan(bound) or error <= bound


def test_one_step_from_exact_integrals_is_kleinmans():
    """With integrals to rounding, (w, F) is the exact value of the policy judged and its exact improvement."""
    env, windows = third_order(nodes=129, count=40)
    nodes = sample_nodes(windows, env.state_cost, identity, Matern(4, 3.0))
    data = nodes.integrals(value_change(quadratic(3), windows))
    judged = tensor([-0.3, -0.2, -0.4])
    step = iterate(data, judged, env.control_weight)
    P = riccati.value_of_gain(env.A, env.B, env.Q, env.R, -judged)
    torch.testing.assert_close(step.weights, half_vector(P), rtol=0.0, atol=1e-10)
    torch.testing.assert_close(step.policy, -riccati.feedback_gain(env.B, env.R, P), rtol=0.0, atol=1e-10)


def test_the_error_is_minus_the_pseudo_inverse_of_the_quadrature_errors():
    """(dw, dF) = -Theta^+ delta, delta the quadrature error of -dV/dt along the data at the true unknowns: exact."""
    env, windows = third_order(nodes=9)
    nodes = sample_nodes(windows, env.state_cost, identity, Simpson())
    data = nodes.integrals(value_change(quadratic(3), windows))
    judged = tensor([-0.3, -0.2, -0.4])
    step = iterate(data, judged, env.control_weight)
    P = riccati.value_of_gain(env.A, env.B, env.Q, env.R, -judged)
    truth = torch.cat([half_vector(P), -riccati.feedback_gain(env.B, env.R, P)[0]])
    x, u = windows.states, windows.actions
    rate = 2.0 * ((x @ P) * (x @ env.A.T + u @ env.B.T)).sum(-1)  # dV/dt
    delta = value_change(quadratic(3), windows) @ half_vector(P) - (rate * nodes.quadrature.weights).sum(-1)
    predicted = -step.fit.pseudo_inverse @ delta
    found = torch.cat([step.weights, step.policy[0]]) - truth
    torch.testing.assert_close(found, predicted, rtol=1e-6, atol=1e-14)


def test_discounted_optimum_is_that_of_the_shifted_system():
    """With discount rate beta, V and u* are those of A - beta / 2 I without."""
    env, windows = third_order(nodes=17)
    beta = 0.8
    agent = learner(env, torch.zeros(1, 3), discount_rate=beta)
    agent.update(windows)
    P = riccati.care(env.A - 0.5 * beta * torch.eye(3, dtype=torch.float64), env.B, env.Q, env.R)
    error = (agent.policy + riccati.feedback_gain(env.B, env.R, P)).norm()
    assert float(error) < 3e-9
    assert bool(((agent.weights - half_vector(P)).abs() <= agent.weight_bound).all())


def test_nonlinear_value_and_policy_with_features_to_spare():
    error, bound = error_on_sine_system(17, 0.1)
    assert error < 5e-8
    assert error <= bound


def test_two_inputs_are_learned_from_sinusoids_of_their_own():
    env = TwoInputs(dtype=torch.float64)

    def actor(x: torch.Tensor) -> torch.Tensor:  # what u* = -R^-1 g'grad V / 2 consists of
        x1, x2, x3 = x.unbind(-1)
        scale = 1.0 + 0.5 * x1**2
        return torch.stack([x1, x2, scale * x3, scale * x3**3], -1)

    first = tensor([-0.25, -1.0, 0.0, 0.0], [0.0, 0.0, -0.5, 0.0])
    starts = 0.7 * (2.0 * torch.rand(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 1.0)
    source = ExcitedSource(
        env.problem.velocity, 2, starts, (0.9, 1.7, 2.9, 4.3), window=0.1, count=10, nodes=17, amplitude=0.5
    )
    agent = OffPolicyIntegralRl(
        3, env.basis.features, actor, env.state_cost, env.control_weight, IntegratedWiener(3), first
    )
    agent.update(source.next(agent))
    x = starts
    torch.testing.assert_close(agent.weights, env.optimal_weights, rtol=0.0, atol=1e-6)
    torch.testing.assert_close(agent.act(x), env.optimal_action(x), rtol=0.0, atol=1e-6)


def unstable(growth: float = 0.8) -> LinearRegulator:
    return LinearRegulator(((growth, 1.0), (0.0, -0.3)), ((0.0,), (1.0,)), ((1.0, 0.0), (0.0, 1.0)), ONE,
                           dtype=torch.float64)  # fmt: skip


def test_value_iteration_starts_where_no_gain_is_known():
    env = unstable()
    source = excited(env, tensor([1.0, 0.0], [0.0, 1.0], [-1.0, 1.0]), window=0.1, count=8, nodes=17)
    agent = learn_linear(env, source, IntegratedWiener(3), None)
    assert float((agent.policy + env.optimal_gain).norm()) < 1e-7
    error, bound = pendulum_error(17, 0.1)
    assert error < 1e-7
    assert error <= bound


def test_the_data_tell_the_poles_of_any_closed_loop():
    env = unstable()
    source = excited(env, tensor([1.0, 0.0], [0.0, 1.0], [-1.0, 1.0]), window=0.1, count=8, nodes=33)
    windows = source.next(Feedback(no_action))
    nodes = sample_nodes(windows, env.state_cost, identity, IntegratedWiener(3))
    model = linear_model(nodes.integrals(value_change(quadratic(2), windows)))
    for gain in (tensor([0.0, 0.0]), tensor([3.0, 4.0]), tensor([5.0, 1.0])):
        expected = float(riccati.largest_real_part(env.A - env.B @ gain))
        assert float(model.growth(gain)) == pytest.approx(expected, abs=1e-6)


def test_value_iteration_says_when_it_does_not_get_there():
    """No input reaches the mode that grows, so there is no stabilising gain."""
    A, B = tensor([0.5, 0.0], [0.0, -1.0]), tensor([0.0], [1.0])
    source = ExcitedSource(
        lambda x, u: x @ A.T + u @ B.T, 1, tensor([1.0, 0.0], [0.0, 1.0], [-1.0, 1.0]), (0.7, 1.9, 3.1, 4.7),
        window=0.1, count=8, nodes=9,
    )  # fmt: skip
    windows = source.next(Feedback(no_action))
    nodes = sample_nodes(windows, lambda x: (x**2).sum(-1), identity, Simpson())
    data = nodes.integrals(value_change(quadratic(2), windows))
    eye = torch.eye(2, dtype=torch.float64)
    with pytest.raises(NumericsError, match=r"leaves a mode at \+0\.5 1/s"):
        stabilising_gain(data, eye, eye[:1, :1], ValueIterationConfig(steps=400))


def test_too_few_windows():
    env, windows = third_order(count=8)
    with pytest.raises(ConfigError, match=r"6 of the value and 3 of the policy, got 8"):
        learner(env, torch.zeros(1, 3)).update(windows)


@pytest.mark.parametrize("first", [torch.zeros(1, 3), None])
def test_an_input_that_does_not_excite(first):
    """Under linear feedback the action features are combinations of the others."""
    env = ThirdOrderLinear(dtype=torch.float64)
    start = tensor([2.0, -2.0, 3.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0])
    source = ExcitedSource(env.problem.velocity, 1, start, (1.0,), window=0.1, count=10, nodes=5, amplitude=0.0)
    windows = source.next(Feedback(lambda x: -x @ tensor([0.1, 0.2, 0.3]).T))
    with pytest.raises(NumericsError, match="excite the input"):
        learner(env, first).update(windows)


def test_samples_that_are_not_finite():
    env, windows = third_order()
    windows.states[3, 2, 1] = math.nan
    with pytest.raises(NumericsError, match=r"sampled states must be finite"):
        learner(env, torch.zeros(1, 3)).update(windows)


def test_a_policy_that_does_not_stabilise_is_refused_and_kept_out():
    env = unstable()
    source = excited(env, tensor([1.0, 0.0], [0.0, 1.0], [-1.0, 1.0]), window=0.1, count=8, nodes=17)
    agent = learner(env, torch.zeros(1, 2))
    with pytest.raises(NumericsError, match=r"iteration 1.*admissible"):
        agent.update(source.next(agent))
    assert float(agent.policy.abs().max()) == 0.0


def test_settings_are_checked():
    env = ThirdOrderLinear(dtype=torch.float64)
    with pytest.raises(ShapeError, match="first"):
        learner(env, torch.zeros(3))
    with pytest.raises(ConfigError, match="iterations"):
        learner(env, None, iterations=0)
    with pytest.raises(ConfigError, match="step"):
        learner(env, None, start=ValueIterationConfig(step=2.0)).update(third_order()[1])
    with pytest.raises(ConfigError, match="frequency"):
        ExcitedSource(env.problem.velocity, 2, torch.zeros(1, 3), (1.0,), window=0.1, count=1, nodes=3)


def test_an_agent_is_saved_and_loaded(tmp_path):
    env, windows = third_order()
    agent, other = learner(env), learner(env)
    agent.update(windows)
    agent.save(tmp_path / "agent.pt")
    other.load(tmp_path / "agent.pt")
    assert torch.equal(other.act(windows.states), agent.act(windows.states))
    assert torch.equal(other.weight_bound, agent.weight_bound)
