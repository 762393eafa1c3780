"""Control-affine problems: the HJB equation, the known optima, the integration and the converse construction."""

from __future__ import annotations

import math

import gymnasium
import pytest
import torch

from rlcore.envs import affine, make
from rlcore.envs.affine import AffineConfig, AffineProblem, ControlAffine, Matrix, converse, gradient
from rlcore.errors import ConfigError, ShapeError
from rlcore.functional import saturation
from rlcore.simulation import EnvState, Feedback, Rk4, begin, check_environment, rollout

LINEAR = [affine.ThirdOrderLinear, affine.F16ShortPeriod, affine.LoadFrequency]
CLOSED = [affine.SineSystem, affine.CosineInput, affine.ArctanSpring, affine.CubicDecay, affine.CubicGrowth]
GENERATED = [
    affine.QuarticValue,
    affine.HyperbolicValue,
    affine.TwoInputs,
    affine.SaturatedInput,
    affine.ConverseHjb,
]
ALL = LINEAR + CLOSED + GENERATED
REPRESENTED = [*LINEAR, *CLOSED[:3], affine.QuarticValue, affine.TwoInputs, affine.SaturatedInput]


def states(env: ControlAffine, batch: int = 500, *, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    box = 2.0 * torch.rand(batch, env.spec.state_dim, dtype=env.dtype, generator=generator) - 1.0
    return env.config.start * box


def follow(
    env: ControlAffine, law, x: torch.Tensor, seconds: float, substeps: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """State after some seconds under a feedback that acts at every instant, and the cost [B] on the way."""
    t, u = torch.zeros(len(x), dtype=x.dtype), x.new_zeros(len(x), env.spec.action_dim)
    after, reward = Rk4(substeps).step(env.closed_loop(law), t, x, u, seconds, x.new_zeros(len(x), 0))
    return after, -reward


@pytest.mark.parametrize("cls", ALL)
def test_hjb_residual(cls):
    env = cls(dtype=torch.float64)
    x = states(env)
    slope = gradient(env.optimal_value, x)  # by automatic differentiation, also where the class has it written out
    torch.testing.assert_close(env.optimal_gradient(x), slope, rtol=1e-12, atol=1e-12)
    assert float(env.hjb_residual(x).abs().max()) < 1e-11
    u = env.optimal_action(x)
    direct = (slope * env.drift(x[:, 0], x, u)).sum(-1) + env.cost_rate(x, u)
    assert float(direct.abs().max()) < 1e-11, "the drift and the cost of u* add up as well"
    assert bool((env.optimal_value(x) > 0.0).all())
    assert float(env.optimal_value(torch.zeros_like(x[:1])).abs().max()) == 0.0


@pytest.mark.parametrize("cls", ALL)
def test_no_action_is_better(cls):
    """u* minimises the Hamiltonian: every other action leaves it larger."""
    env = cls(dtype=torch.float64)
    x = states(env, 200)
    slope = env.optimal_gradient(x)
    generator = torch.Generator().manual_seed(1)
    for size in (1e-2, 1.0):
        other = env.optimal_action(x) + size * torch.randn(200, env.spec.action_dim, dtype=x.dtype, generator=generator)
        left = (slope * env.drift(x[:, 0], x, other)).sum(-1) + env.cost_rate(x, other)
        assert float(left.min()) > -1e-12
        assert float(left.mean()) > 1e-6


FORMULAS = {
    affine.SineSystem: lambda a, b: -b * torch.sin(a),
    affine.CosineInput: lambda a, b: -(torch.cos(2 * a) + 2) * b,
    affine.ArctanSpring: lambda a, b: -3 * b,
    affine.CubicDecay: lambda a: a**3 - a * torch.sqrt(1 + a**4),
    affine.CubicGrowth: lambda a: -(a**3) - a * torch.sqrt(1 + a**4),
    affine.QuarticValue: lambda a, b: -0.5 * b * (a**2 + b**2 + 1),
    affine.HyperbolicValue: lambda a, b: -0.5 * b * (1 + a**2) ** 2,
    affine.SaturatedInput: lambda a, b: -0.5 * torch.tanh(2 * b),
}


@pytest.mark.parametrize("cls", FORMULAS)
def test_optimal_actions_are_those_of_the_literature(cls):
    env = cls(dtype=torch.float64)
    x = states(env)
    expected = FORMULAS[cls](*x.unbind(-1)).unsqueeze(-1)
    torch.testing.assert_close(env.optimal_action(x), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(env.optimal_policy().act(x), expected, rtol=1e-12, atol=1e-12)


def test_generated_drift_is_the_polynomial():
    env = affine.QuarticValue(dtype=torch.float64)
    x = states(env)
    a, b = x.unbind(-1)
    first = -0.5 * a**3 + a**2 * b - 0.5 * a * b**2 - a + b**3 + b
    torch.testing.assert_close(env.f(x), torch.stack([first, -(a**3) - a * b**2 - 2 * a], -1), rtol=1e-12, atol=1e-12)


def test_values_in_figures():
    one = torch.ones(1, 1, dtype=torch.float64)
    decay = affine.CubicDecay(dtype=torch.float64)
    assert float(decay.optimal_value(one)) == pytest.approx(0.647793574696, abs=1e-12)
    assert float(decay.optimal_action(one)) == pytest.approx(1.0 - math.sqrt(2.0), abs=1e-14)
    gain = affine.ThirdOrderLinear(dtype=torch.float64).optimal_gain
    assert gain[0].tolist() == pytest.approx([0.904987562112, 1.893095222031, 1.596995960829], abs=1e-12)


@pytest.mark.parametrize("cls", ALL)
def test_the_optimal_loop_costs_the_value(cls):
    """V*(x_0) = cost over a second + V* where the path stands then, with the feedback at every instant."""
    env = cls(dtype=torch.float64)
    x = states(env, 16)
    after, cost = follow(env, env.optimal_action, x, 1.0, 160)
    expected = env.optimal_value(x) - env.optimal_value(after)
    torch.testing.assert_close(cost, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("cls", ALL)
def test_substeps_make_a_control_step_exact_to_ten_digits(cls):
    env = cls(dtype=torch.float64)
    x = states(env, 64)
    u = env.spec.action_high * (2.0 * torch.rand(64, env.spec.action_dim, dtype=x.dtype) - 1.0)
    t, none = torch.zeros(64, dtype=torch.float64), x.new_zeros(64, 0)
    (_, fine), reward = env.transition(EnvState(t, x), u, none)
    finer, finer_reward = Rk4(3 * env.config.substeps).step(env, t, x, u, env.spec.dt, none)
    torch.testing.assert_close(fine, finer, rtol=0.0, atol=2e-10)
    torch.testing.assert_close(reward, finer_reward, rtol=1e-10, atol=2e-10)


@pytest.mark.parametrize("cls", REPRESENTED)
def test_optimal_weights_and_where_policy_iteration_may_start(cls):
    env = cls(dtype=torch.float64)
    x = states(env)
    torch.testing.assert_close(env.features(x) @ env.optimal_weights, env.optimal_value(x), rtol=1e-12, atol=1e-12)
    weights = env.admissible_weights

    def law(x: torch.Tensor) -> torch.Tensor:
        return env.problem.best_action(x, gradient(lambda z: env.features(z) @ weights, x))

    after, cost = follow(env, law, x[:16], 10.0, 200)
    assert bool(torch.isfinite(cost).all())
    assert float(env.optimal_value(after).max()) < float(env.optimal_value(x[:16]).max())
    assert bool((cost + env.optimal_value(after) > 0.999 * env.optimal_value(x[:16])).all()), "no policy beats V*"


@pytest.mark.parametrize("cls", [affine.CubicDecay, affine.CubicGrowth, affine.HyperbolicValue])
def test_no_finite_basis(cls):
    with pytest.raises(ConfigError, match="finite basis"):
        cls().optimal_weights  # noqa: B018


def test_escape_leaves_the_value_as_it_is():
    """A path that leaves is paid -V* there: from an unstable start without control, cost on the way + V* at the end."""
    env = affine.CosineInput(AffineConfig(dt=0.01, substeps=8, start=1.0, escape=2.0), dtype=torch.float64)
    path, _ = rollout(env, Feedback(lambda obs: obs.new_zeros(len(obs), 1)), begin(env, 64, seed=0), 600)
    ended = path.terminated[-1]
    assert int(ended.sum()) > 0
    total = -path.reward.sum(0)[ended]
    start, last = path.obs[0][ended], path.obs[-1][ended]
    assert bool((last.norm(dim=-1) >= 2.0).all())
    assert bool((total > env.optimal_value(start)).all()), "leaving never pays"
    assert bool((total > env.optimal_value(last)).all())
    assert env.terminates
    assert not affine.SineSystem().terminates
    nowhere = EnvState(torch.zeros(1, dtype=torch.float64), torch.full((1, 2), math.nan, dtype=torch.float64))
    assert bool(env.terminated(nowhere).all()), "a state that is no number has left"


def test_start_is_uniform_in_the_box():
    x = begin(affine.ThirdOrderLinear(), 20_000, seed=0).env.x
    assert float(x.abs().max()) <= 3.0
    assert x.var(0).tolist() == pytest.approx([3.0] * 3, rel=0.03)


def test_saturation():
    d = torch.tensor([0.0, 1e-12, 1e-6, 1e-3, 0.3, 0.999, 1.001, 5.0, 18.0, 300.0], dtype=torch.float64)
    d = torch.cat([d, -d])
    even = torch.tensor([0.0, 0.5e-24, 4.99999999999916667e-13, 4.99999916666688889e-7], dtype=torch.float64)
    torch.testing.assert_close(saturation.log_cosh(d)[:4], even, rtol=1e-13, atol=0.0)
    torch.testing.assert_close(
        saturation.log_cosh(d[9:10]), 300.0 - torch.full((1,), 2.0).double().log(), rtol=0, atol=0
    )
    middle = d.abs() < 6.0
    torch.testing.assert_close(saturation.log_cosh(d)[middle], torch.log(torch.cosh(d[middle])), rtol=1e-9, atol=1e-16)
    ratio = saturation.log_cosh_ratio(d)
    torch.testing.assert_close(ratio * d, saturation.log_cosh(d), rtol=1e-15, atol=0.0)
    weight, bound = torch.tensor([1.5], dtype=torch.float64), 0.5
    action = saturation.saturated_action(d, bound).unsqueeze(-1)
    by_action = saturation.saturated_cost(action, weight, bound)
    torch.testing.assert_close(
        by_action, saturation.saturated_cost_at(d.unsqueeze(-1), weight, bound), rtol=1e-12, atol=0
    )
    end = 2.0 * math.log(2.0) * bound**2 * 1.5
    ends = saturation.saturated_cost(torch.tensor([[0.5], [-0.5], [7.0]]).double(), weight, bound)
    assert ends.tolist() == pytest.approx([end] * 3)
    u = torch.tensor([[0.31]], dtype=torch.float64)
    slope = gradient(lambda z: saturation.saturated_cost(z, weight, bound), u)
    torch.testing.assert_close(slope, 2.0 * bound * 1.5 * torch.atanh(u / bound))
    wide = saturation.saturated_cost(u, weight, 1e4)
    torch.testing.assert_close(wide, (1.5 * u**2)[:, 0], rtol=1e-8, atol=0.0)


def test_a_larger_action_acts_as_the_largest():
    env = affine.SaturatedInput(dtype=torch.float64)
    x = states(env, 1).expand(2, -1)
    u = torch.tensor([[0.5], [9.0]], dtype=torch.float64)
    after, reward = env.transition(EnvState(torch.zeros(2, dtype=torch.float64), x), u, x.new_zeros(2, 0))
    assert torch.equal(after.x[0], after.x[1])
    assert torch.equal(reward[0], reward[1])


def test_saturated_problem_tends_to_the_unsaturated_one():
    def value(x: torch.Tensor) -> torch.Tensor:
        return (x**2).sum(-1) + 0.1 * x[..., 0] ** 4

    parts = (((0.0,), (1.0,)), ((2.0,),), ((0.0, 1.0), (-1.0, 0.0)), ((1.0, 0.0), (0.0, 0.5)))
    plain, wide = (converse(value, *parts, state_dim=2, saturation=bound) for bound in (math.inf, 1e5))
    x = torch.randn(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(plain.f(x), wide.f(x), rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(
        plain.best_action(x, plain.slope(x)), wide.best_action(x, wide.slope(x)), rtol=1e-7, atol=0
    )


@pytest.mark.parametrize("bound", [math.inf, 0.7])
def test_converse_in_six_dimensions_from_the_value_alone(bound):
    """J, S and g that depend on the state; only V is given, and its gradient is found."""
    mix = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def value(x: torch.Tensor) -> torch.Tensor:
        return torch.log(torch.cosh(x)).sum(-1) + 0.3 * (x @ mix.to(x) * torch.tanh(x @ mix.to(x))).sum(-1)

    def skew(x: torch.Tensor) -> torch.Tensor:
        outer = torch.sin(x).unsqueeze(-1) * x.unsqueeze(-2)
        return outer - outer.mT

    def damping(x: torch.Tensor) -> torch.Tensor:
        return x.unsqueeze(-1) * x.unsqueeze(-2) + torch.eye(6, dtype=x.dtype)

    def gain(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.cos(x), 1.0 + x**2], dim=-1)

    weight = ((1.0, 0.0), (0.0, 3.0)) if math.isfinite(bound) else ((1.0, 0.4), (0.4, 3.0))
    problem = converse(value, gain, weight, skew, damping, state_dim=6, saturation=bound)
    x = torch.randn(300, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert float((problem.residual(x) / (1.0 + problem.q(x))).abs().max()) < 1e-12
    slope = problem.slope(x)
    descent = (slope * problem.velocity(x, problem.best_action(x, slope))).sum(-1)
    assert bool((descent < 0.0).all()), "V* falls along the optimal loop"
    env = ControlAffine(problem, AffineConfig(start=0.5, escape=5.0), dtype=torch.float64)
    check_environment(env)
    assert env.control_weight.shape == (2, 2)


@pytest.mark.parametrize(("n", "m", "seed"), [(1, 1, 3), (2, 3, 1), (7, 2, 4), (30, 5, 2)])
def test_a_drawn_problem_of_any_size(n, m, seed):
    """The HJB equation, the descent of V* and the cost along the optimal loop; the seed is the problem."""
    env = make("rlcore/ConverseHjb-v0", state_dim=n, action_dim=m, problem_seed=seed, dtype=torch.float64)
    assert isinstance(env, ControlAffine)
    assert env.control_weight.shape == (m, m)
    x = states(env, 40)
    assert float((env.hjb_residual(x) / (1.0 + env.state_cost(x))).abs().max()) < 1e-13
    after, cost = follow(env, env.optimal_action, x, 2.0, 200)
    torch.testing.assert_close(cost, env.optimal_value(x) - env.optimal_value(after), rtol=1e-7, atol=0.0)
    again = affine.random_converse(n, m, seed)
    assert torch.equal(again.f(x), env.f(x))
    assert not torch.equal(affine.random_converse(n, m, seed + 1).f(x), env.f(x))
    still, _ = follow(env, lambda x: x.new_zeros(len(x), m), x, 10.0, 400)
    assert float(still.abs().max()) < 1e3, "without control no path leaves for infinity"


def test_a_drawn_problem_by_gymnasium():
    single = gymnasium.make("rlcore/ConverseHjb-v0", state_dim=6, action_dim=3, problem_seed=5)
    several = gymnasium.make_vec("rlcore/ConverseHjb-v0", num_envs=2, state_dim=6, action_dim=3, problem_seed=5)
    assert single.observation_space.shape == (6,)
    assert several.action_space.shape == (2, 3)
    for sizes in ({"state_dim": 0}, {"action_dim": 0}, {"problem_seed": -1}, {"state_dim": 2.5}):
        with pytest.raises(ConfigError) as caught:
            make("rlcore/ConverseHjb-v0", **sizes)
        assert "\n" not in str(caught.value)


def test_what_makes_no_problem_is_refused():
    def value(x: torch.Tensor) -> torch.Tensor:
        return (x**2).sum(-1)

    g, one, turn, eye = ((0.0,), (1.0,)), ((1.0,),), ((0.0, 1.0), (-1.0, 0.0)), ((1.0, 0.0), (0.0, 1.0))
    bad = [
        ({"skew": eye}, ConfigError, "minus its transpose"),
        ({"damping": ((-1.0, 0.0), (0.0, 1.0))}, ConfigError, "positive semidefinite"),
        ({"value": lambda x: -value(x)}, ConfigError, "value must be positive"),
        ({"value": lambda x: 1.0 + value(x)}, ConfigError, "0 at 0"),
        ({"value": lambda x: x}, ShapeError, "value must give"),
        ({"control_weight": ((-1.0,),)}, ConfigError, "R must be symmetric and positive definite"),
        ({"control_weight": eye}, ShapeError, r"R must have shape \[1, 1\]"),
        ({"input_gain": ((1.0,),)}, ShapeError, "input_gain must give"),
        ({"saturation": 0.0}, ConfigError, "saturation must be positive"),
        ({"value_gradient": lambda x: x}, ConfigError, "gradient of value"),
    ]
    good = {"value": value, "input_gain": g, "control_weight": one, "skew": turn, "damping": eye, "state_dim": 2}
    for change, error, message in bad:
        with pytest.raises(error, match=message) as caught:
            converse(**{**good, **change})
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="diagonal"):
        AffineProblem(2, 2, value, Matrix(eye), value, ((2.0, 1.0), (1.0, 2.0)), value, saturation=1.0)
    problem = converse(**good)
    for setting, message in [
        ({"escape": 1.0}, "escape must lie outside"),
        ({"start": 0.0}, "start"),
        ({"action_bound": -1.0}, "action_bound"),
        ({"substeps": 0}, "substeps"),
    ]:
        with pytest.raises(ConfigError, match=message):
            ControlAffine(problem, AffineConfig(**setting))
