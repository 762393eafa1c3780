"""Every solver of policy evaluation against the closed forms of the Ornstein-Uhlenbeck process and its kin."""

from __future__ import annotations

import math
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from rlcore.agents.martingale import (
    ERGODIC,
    Clstd,
    ClstdConfig,
    Ctd,
    CtdConfig,
    CtdOnline,
    Gmm,
    GradientTd,
    GradientTdConfig,
    LinearMartingaleLoss,
    LinearMstde,
    MartingaleLoss,
    MartingaleLossConfig,
    Mstde,
    MstdeConfig,
    block_sums,
    centred,
)
from rlcore.agents.martingale.gradient_td import naive, tdc
from rlcore.data import Trajectory
from rlcore.envs.control.lqr import ERGODIC as ERGODIC_LQ
from rlcore.envs.control.lqr import ScalarLqr, ScalarLqrConfig
from rlcore.envs.control.ornstein_uhlenbeck import OrnsteinUhlenbeck, OrnsteinUhlenbeckConfig
from rlcore.errors import ConfigError, DataWarning, NumericsError, ShapeError
from rlcore.experiments.exact_samples import balanced_steps, gaussian_steps
from rlcore.functional.increments import Exponential, Increments, Left, PhiBe, Trapezoid
from rlcore.functional.martingale import reward_to_go
from rlcore.functional.test_functions import Given, Gradient, Trace, Weighted, bounded
from rlcore.nn.gradients import per_sample_gradient
from rlcore.nn.mlp import LinearInFeatures, Mlp, Scalar
from rlcore.simulation import GaussianFeedback, begin, rollout
from rlcore.training import PathSource, StepSource

BETA, KAPPA, SIGMA = 0.5, 1.0, 0.8


def squares(x: Tensor) -> Tensor:
    return torch.cat([x**2, torch.ones_like(x)], dim=-1)


def theta_1(dt: float, rule: Callable[[float], Increments]) -> float:
    steps = 3 if rule is not Left else 2
    agent = Clstd(torch.zeros_like, squares, 2, ClstdConfig(discount_rate=BETA), rule=rule)
    agent.update(gaussian_steps(KAPPA, SIGMA, [dt] * (steps - 1)))
    return float(agent.theta[0])


def fixed_points(dt: float) -> dict[str, float]:
    """theta_1 of every rule, from E[phi (change) theta + phi earned] = 0 for phi = x^2."""
    decay = math.exp(-2.0 * KAPPA * dt)
    return {
        "left": dt / (BETA * dt + 1.0 - decay),
        "exponential": dt / -math.expm1(-(BETA + 2.0 * KAPPA) * dt),
        "trapezoid": 0.5 * dt / math.tanh(0.5 * (BETA + 2.0 * KAPPA) * dt),
    }


@pytest.mark.parametrize("dt", [0.2, 0.05])
def test_every_rule_has_its_fixed_point(dt: float) -> None:
    expected = fixed_points(dt)
    assert theta_1(dt, Left) == pytest.approx(expected["left"], abs=1e-9)
    assert theta_1(dt, Exponential) == pytest.approx(expected["exponential"], abs=1e-9)
    assert theta_1(dt, Trapezoid) == pytest.approx(expected["trapezoid"], abs=1e-9)
    assert theta_1(dt, PhiBe) == pytest.approx(expected["left"], abs=1e-9)  # they agree on quadratics


@pytest.mark.parametrize(("rule", "order"), [(Left, 1), (Exponential, 1), (Trapezoid, 2), (partial(PhiBe, order=2), 2)])
def test_the_order_of_every_rule(rule: Callable[[float], Increments], order: int) -> None:
    grid = [0.08, 0.04, 0.02]
    errors = [abs(theta_1(dt, rule) - 0.4) for dt in grid]
    assert np.polyfit(np.log(grid), np.log(errors), 1)[0] == pytest.approx(order, abs=0.06)


def test_second_order_phibe_takes_uneven_steps() -> None:
    errors = []
    for scale in (0.08, 0.04):
        agent = Clstd(torch.zeros_like, squares, 2, ClstdConfig(BETA), rule=partial(PhiBe, order=2))
        agent.update(gaussian_steps(KAPPA, SIGMA, [0.5 * scale, 1.5 * scale]))
        errors.append(abs(float(agent.theta[0]) - 0.4))
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.15)


def test_the_mean_square_td_error_finds_the_flattest_function() -> None:
    for dt in (0.01, 0.001):
        agent = LinearMstde(torch.zeros_like, squares, 2, MstdeConfig(discount_rate=BETA))
        agent.update(gaussian_steps(KAPPA, SIGMA, [dt]))
        assert float(agent.theta[0]) / dt == pytest.approx(0.625, abs=0.02)
        assert float(agent.theta[1]) == pytest.approx(0.32 / BETA, rel=0.02)


def test_the_residual_gradient_descends_to_the_same_wrong_place() -> None:
    batch = gaussian_steps(KAPPA, SIGMA, [0.1])
    value = LinearInFeatures(squares, 2, dtype=torch.float64)
    agent = Mstde(torch.zeros_like, value, MstdeConfig(discount_rate=BETA, learning_rate=0.5))
    for _ in range(2000):
        agent.update(batch)
    linear = LinearMstde(torch.zeros_like, squares, 2, MstdeConfig(discount_rate=BETA))
    linear.update(batch)
    assert value.theta.detach().tolist() == pytest.approx(linear.theta.tolist(), abs=2e-3)


def test_a_trace_is_the_adjoint_of_its_adjoint() -> None:
    generator = torch.Generator().manual_seed(0)
    batch = gaussian_steps(KAPPA, SIGMA, [0.1, 0.3, 0.05, 0.2])
    gradient = torch.randn(4, batch.reward.shape[1], 3, generator=generator, dtype=torch.float64)
    delta = torch.randn(*batch.reward.shape, generator=generator, dtype=torch.float64)
    for test in (Gradient(), Trace(0.3), Weighted(bounded(0.5), Trace(0.7))):
        forward = (test.forward(gradient, batch) * delta.unsqueeze(-1)).sum((0, 1))
        adjoint = (gradient * test.adjoint(delta, batch).unsqueeze(-1)).sum((0, 1))
        torch.testing.assert_close(forward, adjoint, rtol=1e-12, atol=1e-12)


def test_a_trace_per_second_hardly_moves_when_dt_is_halved() -> None:
    def theta(dt: float, steps: int) -> float:
        agent = Clstd(torch.zeros_like, squares, 2, ClstdConfig(BETA), test=Trace(0.1))
        agent.update(gaussian_steps(KAPPA, SIGMA, [dt] * steps))
        return float(agent.theta[0])

    coarse, middle, fine = theta(0.2, 1), theta(0.1, 2), theta(0.05, 4)
    assert (coarse - middle) / (middle - fine) == pytest.approx(2.0, abs=0.25)  # O(dt)
    assert abs(fine - 0.4) < 0.02


def test_ctd_lambda_reaches_what_clstd_lambda_solves_for() -> None:
    batch = gaussian_steps(KAPPA, SIGMA, [0.1] * 3)
    linear = Clstd(torch.zeros_like, squares, 2, ClstdConfig(BETA), test=Trace(0.5))
    linear.update(batch)
    value = LinearInFeatures(squares, 2, dtype=torch.float64)
    agent = Ctd(torch.zeros_like, value, CtdConfig(learning_rate=3.0, decay=False), test=Trace(0.5))
    for _ in range(3000):
        agent.update(batch)
    assert value.theta.detach().tolist() == pytest.approx(linear.theta.tolist(), abs=1e-4)


def test_ctd_online_carries_its_trace_from_call_to_call() -> None:
    env = OrnsteinUhlenbeck(OrnsteinUhlenbeckConfig(dt=0.1, horizon=math.inf), dtype=torch.float64)

    def learn(steps_per_call: int) -> Tensor:
        value = LinearInFeatures(squares, 2, dtype=torch.float64)
        agent = CtdOnline(torch.zeros_like, value, CtdConfig(learning_rate=0.3), trace_decay=0.2)
        agent.learn(StepSource(env, 64, steps_per_call, seed=3), 400 // steps_per_call)
        return value.theta.detach()

    torch.testing.assert_close(learn(1), learn(8), rtol=0, atol=0)
    assert learn(8).tolist() == pytest.approx([0.4, 0.512], abs=0.12)


def test_gmm_with_more_tests_than_unknowns() -> None:
    def tests(x: Tensor) -> Tensor:
        return torch.cat([torch.ones_like(x), x**2, x**4], dim=-1)

    batch = balanced_steps(0.001, exponent=16)
    for efficient in (True, False):
        agent = Gmm(torch.zeros_like, squares, 2, Given(tests), 3, BETA, efficient=efficient)
        agent.update(batch)
        assert agent.theta.tolist() == pytest.approx([0.4, 0.512], abs=2e-3)
    with pytest.raises(ConfigError, match="as many test functions"):
        Gmm(torch.zeros_like, squares, 2, Given(tests), 1)


def test_gradient_td_reaches_the_fixed_point_and_the_naive_form_does_not() -> None:
    batch = gaussian_steps(KAPPA, SIGMA, [0.1])
    exact = Clstd(torch.zeros_like, squares, 2, ClstdConfig(BETA))
    exact.update(batch)

    def learn(rate: float = 6.0, **form: object) -> list[float]:
        value = LinearInFeatures(squares, 2, dtype=torch.float64)
        agent = GradientTd(torch.zeros_like, value, GradientTdConfig(BETA, rate, 2.0 * rate), **form)  # type: ignore[arg-type]
        for _ in range(1500):
            agent.update(batch)
        found: list[float] = value.theta.detach().tolist()
        return found

    assert learn() == pytest.approx(exact.theta.tolist(), abs=5e-3)
    assert learn(direction=tdc) == pytest.approx(exact.theta.tolist(), abs=2e-2)
    assert abs(learn(0.3, direction=naive)[0] - float(exact.theta[0])) > 0.1


def test_the_martingale_loss_projects_in_mean_square() -> None:
    """Outside the family, the minimiser is the least-squares fit of the value along the data."""
    env = OrnsteinUhlenbeck(OrnsteinUhlenbeckConfig(dt=0.02, horizon=2.0), dtype=torch.float64)
    batch = rollout(env, GaussianFeedback(torch.zeros_like, 0.0, 1), begin(env, 20_000, seed=1), 100)[0]

    def line(x: Tensor) -> Tensor:
        return torch.cat([x, torch.ones_like(x)], dim=-1)

    agent = LinearMartingaleLoss(torch.zeros_like, line, 2, MartingaleLossConfig(BETA), tail=env.value)
    agent.update(batch)
    assert float(agent.theta[0]) == pytest.approx(0.0, abs=0.02)
    assert float(agent.theta[1]) == pytest.approx(0.4 * 0.32 + 0.512, abs=0.01)  # E J under the stationary law
    value = LinearInFeatures(line, 2, dtype=torch.float64)
    gradient = MartingaleLoss(torch.zeros_like, value, MartingaleLossConfig(BETA, 1.0), tail=env.value)
    for _ in range(60):
        gradient.update(batch)
    assert value.theta.detach().tolist() == pytest.approx(agent.theta.tolist(), abs=1e-3)


def test_reward_to_go_by_hand() -> None:
    reward, dt = torch.tensor([[1.0], [2.0]]), torch.tensor([0.5, 0.25])
    running = torch.zeros(2, 1, dtype=torch.bool)
    got = reward_to_go(reward, dt, running, 2.0, torch.tensor([3.0]))
    second = 2.0 + math.exp(-0.5) * 3.0
    assert got[:, 0].tolist() == pytest.approx([1.0 + math.exp(-1.0) * second, second])
    ended = torch.tensor([[False], [True]])
    assert float(reward_to_go(reward, dt, ended, 2.0)[1]) == pytest.approx(2.0 * math.exp(-0.5))


def test_ergodic_evaluation_finds_the_average_reward() -> None:
    env = ScalarLqr(ERGODIC_LQ, dtype=torch.float64)
    policy = GaussianFeedback(lambda x: -0.3 * x - 0.5, 0.4, 1)
    truth = env.value_of_policy(-0.3, -0.5, 0.16)
    entropy = 0.05 * (1.0 + math.log(2.0 * math.pi * 0.16))

    def features(x: Tensor) -> Tensor:
        return torch.cat([0.5 * x**2, x], dim=-1)

    agent = Clstd(policy.act, features, 2, ClstdConfig(0.0), running=ERGODIC)
    agent.learn(PathSource(_With(policy, env), 2048, 400, seed=0), 4)
    assert float(agent.rates[0]) + entropy == pytest.approx(truth.value_per_second, abs=0.02)
    assert float(agent.theta[0]) == pytest.approx(truth.K.item(), abs=0.05)
    assert float(agent.theta[1]) == pytest.approx(truth.k.item(), abs=0.05)


def test_off_policy_evaluation_needs_no_importance_weights() -> None:
    """Data of N(0.2 x, 1); under judgement N(-0.6 x - 0.1, 0.2). q is quadratic in (x, a), centred under the latter."""
    config = ScalarLqrConfig(dt=0.01)
    env = ScalarLqr(config, dtype=torch.float64)
    truth = env.value_of_policy(-0.6, -0.1, 0.2)
    behaviour = GaussianFeedback(lambda x: 0.2 * x, 1.0, 1)

    def phi(x: Tensor) -> Tensor:
        return torch.cat([0.5 * x**2, x, torch.ones_like(x)], dim=-1)

    def psi(x: Tensor, a: Tensor) -> Tensor:
        return torch.cat([a, a * x, a**2], dim=-1)

    def mean_psi(x: Tensor) -> Tensor:
        mean = -0.6 * x - 0.1
        return torch.cat([mean, mean * x, mean**2 + 0.2], dim=-1)

    agent = Clstd(behaviour.act, phi, 3, ClstdConfig(config.discount_rate), running=centred(psi, mean_psi, 3))
    batch = rollout(env, behaviour, begin(env, 20_000, seed=2), 100)[0]
    agent.update(batch)
    assert float(agent.theta[0]) == pytest.approx(truth.K.item(), abs=0.06)
    assert float(agent.theta[1]) == pytest.approx(truth.k.item(), abs=0.06)


class _With(ScalarLqr):
    """The problem under a fixed random policy, so that any agent's deterministic act does not enter the data."""

    def __init__(self, policy: GaussianFeedback, env: ScalarLqr) -> None:
        super().__init__(env.config, dtype=torch.float64)
        self.policy = policy

    @property
    def step_noise_dim(self) -> int:
        return super().step_noise_dim + 1

    def transition(self, state, action, noise):  # type: ignore[no-untyped-def]
        return super().transition(state, self.policy.act(state.x, noise=noise[:, -1:]), noise[:, :-1])


def test_a_network_is_a_value_function_too() -> None:
    env = OrnsteinUhlenbeck(OrnsteinUhlenbeckConfig(dt=0.05, horizon=5.0))
    generator = torch.Generator().manual_seed(0)
    value = Scalar(Mlp(1, [16, 16], 1, generator=generator, activation=torch.nn.SiLU))
    agent = MartingaleLoss(torch.zeros_like, value, MartingaleLossConfig(BETA, 0.02), torch.optim.Adam, tail=env.value)
    agent.learn(PathSource(env, 512, 50, seed=0), 300)
    x = torch.linspace(-1.0, 1.0, 9).unsqueeze(1)
    assert float((value(x) - env.value(x)).abs().max()) < 0.06


def test_per_sample_gradients_of_a_network() -> None:
    value = Scalar(Mlp(2, [5], 1, generator=torch.Generator().manual_seed(1)))
    x = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(2))
    got = per_sample_gradient(value, x)[1, 2]
    value(x[1, 2]).backward()
    torch.testing.assert_close(got, torch.cat([p.grad.flatten() for p in value.parameters()]))  # type: ignore[union-attr]


def student_paths(freedom: float) -> Trajectory:
    """One step from each of 20 000 states with Student's law, which stay where they are."""
    torch.manual_seed(0)
    obs = torch.distributions.StudentT(freedom).sample((1, 20_000, 1)).double().expand(2, -1, -1)
    reward, dt = 0.1 * obs[:1, :, 0] ** 2, torch.full((1,), 0.1, dtype=torch.float64)
    ends = torch.zeros_like(reward, dtype=torch.bool)
    return Trajectory(torch.tensor([0.0, 0.1]).double(), obs, torch.zeros_like(obs[1:]), reward, dt, ends)


@pytest.mark.parametrize(
    "make",
    [
        lambda **given: Clstd(torch.zeros_like, squares, 2, **given),
        lambda **given: Gmm(torch.zeros_like, squares, 2, given.pop("test", Gradient()), 2, **given),
    ],
)
def test_test_functions_without_a_second_moment_are_reported(make: Callable[..., Clstd | Gmm]) -> None:
    """E x^4 is infinite for Student's law of 3 degrees of freedom, under x^2 as a test function."""
    heavy = make()
    with pytest.warns(DataWarning, match="square-integrable under the data"):
        found = heavy.update(student_paths(3.0))
    assert float(found["train/test_function_share"]) > 0.1
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        assert float(make(test=Weighted(bounded(1.0))).update(student_paths(3.0))["train/test_function_share"]) < 0.01
        assert float(make().update(student_paths(50.0))["train/test_function_share"]) < 0.1
        heavy.update(student_paths(3.0))  # said once


def ending_paths(dts: list[float], paths: int = 150) -> Trajectory:
    """Gaussian paths, some of which have ended."""
    batch = gaussian_steps(KAPPA, SIGMA, dts).map(lambda x: x[:, :paths] if x.dim() > 1 else x)
    ended = (torch.arange(paths) % 5 == 0).expand(len(dts), -1).clone()
    ended[0] = False
    return batch.replace(terminated=ended)


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("case", ["plain", "weighted, ergodic, trapezoid, ended"])
def test_a_compiled_pass_gives_the_same_sums(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_sums, "COMPILED_ROWS", 128)  # several blocks and a remainder
    ended = case != "plain"
    batch = ending_paths([0.1, 0.2, 0.1]) if ended else gaussian_steps(KAPPA, SIGMA, [0.1, 0.2])

    def line(x: Tensor) -> Tensor:
        return torch.cat([x**2, torch.cos(x)], dim=-1)

    parts = {"rule": Trapezoid, "test": Weighted(bounded(0.2)), "running": ERGODIC} if ended else {}
    agents = [
        Clstd(torch.zeros_like, line, 2, ClstdConfig(0.0 if ended else BETA, compiled=c), **parts) for c in (0, 1)
    ]
    shares = [float(agent.update(batch)["train/test_function_share"]) for agent in agents]
    torch.testing.assert_close(agents[0].equations.gram, agents[1].equations.gram, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(agents[0].theta, agents[1].theta, rtol=1e-10, atol=1e-10)
    assert all(0.0 < share < 1.0 for share in shares)


def test_features_that_do_not_compile_are_named() -> None:
    def features(x: Tensor) -> Tensor:
        return squares(x) * float(x.abs().max() > 0.0)

    agent = Clstd(torch.zeros_like, features, 2, ClstdConfig(BETA, compiled=True))
    with pytest.raises(ConfigError, match=r"must compile.*compiled=False"):
        agent.update(gaussian_steps(KAPPA, SIGMA, [0.1]))


def test_bad_input_ends_in_one_clear_line() -> None:
    good = gaussian_steps(KAPPA, SIGMA, [0.1, 0.1])
    repeated = good.replace(t=torch.tensor([0.0, 0.1, 0.1]), dt=torch.tensor([0.1, 0.0]))
    for agent in (
        Clstd(torch.zeros_like, squares, 2),
        LinearMstde(torch.zeros_like, squares, 2),
        Ctd(torch.zeros_like, LinearInFeatures(squares, 2, dtype=torch.float64)),
    ):
        with pytest.raises(NumericsError, match=r"time stamps must grow, got 0.1 s and 0.1 s at steps 1 and 2"):
            agent.update(repeated)
    with pytest.raises(NumericsError, match="not finite"):
        Clstd(torch.zeros_like, squares, 2).update(good.replace(obs=good.obs * math.nan))
    for bad in (lambda: Trace(0.0), lambda: Trace(1.5), lambda: PhiBe(0.5, 3), lambda: Left(-1.0)):
        with pytest.raises(ConfigError, match="got"):
            bad()
    with pytest.raises(ConfigError, match="ergodic"):
        CtdConfig(discount_rate=0.5, ergodic=True)
    ended = good.replace(terminated=torch.ones_like(good.terminated))
    for compiled in (False, True):
        with pytest.raises(ConfigError, match="paths that end"):
            Clstd(torch.zeros_like, squares, 2, ClstdConfig(BETA, compiled=compiled), rule=PhiBe).update(ended)


def test_balanced_steps_have_exact_moments() -> None:
    batch: Trajectory = balanced_steps(0.1, exponent=14)
    assert float((batch.obs[0] ** 2).mean()) == pytest.approx(0.32, rel=1e-3)


def test_data_that_contradict_the_problem_are_refused() -> None:
    batch = gaussian_steps(KAPPA, SIGMA, [0.1, 0.1])
    with pytest.raises(NumericsError, match=r"dt must be the difference.*got dt = 0.2 s and stamps 0 s and 0.1 s"):
        Clstd(torch.zeros_like, squares, 2).update(batch.replace(dt=2.0 * batch.dt))
    for agent in (
        Clstd(torch.zeros_like, squares, 3),
        Gmm(torch.zeros_like, squares, 3, Gradient(), 3),
        LinearMartingaleLoss(torch.zeros_like, squares, 3),
        LinearMstde(torch.zeros_like, squares, 3),
    ):
        with pytest.raises(ShapeError, match=r"must give 3 numbers for each observation, got shape \[1, 2\]"):
            agent.update(batch)
    with pytest.raises(ConfigError, match="ERGODIC"):
        Clstd(torch.zeros_like, squares, 2, running="ergodic")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="choose one of the two"):
        Clstd(torch.zeros_like, squares, 2, ClstdConfig(0.5), running=ERGODIC)


def test_an_average_reward_needs_a_stable_policy() -> None:
    env = ScalarLqr(replace(ERGODIC_LQ, A=1.0, B=1.0, dt=0.1, initial_sd=1.0), dtype=torch.float64)
    batch = rollout(env, GaussianFeedback(lambda x: 2.0 * x, 0.1, 1), begin(env, 64, seed=0), 100)[0]
    value = LinearInFeatures(squares, 2, dtype=torch.float64)
    for agent in (
        Clstd(torch.zeros_like, squares, 2, ClstdConfig(0.0), running=ERGODIC),
        Ctd(torch.zeros_like, value, CtdConfig(0.0, ergodic=True)),
    ):
        with pytest.raises(NumericsError, match=r"needs a policy that keeps the states bounded.*stabilising"):
            agent.update(batch)
