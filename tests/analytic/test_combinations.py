"""What is claimed to combine, combined: solvers, rules, test functions, kinds of problem and forms of the value."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

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
    MartingaleLoss,
    MartingaleLossConfig,
    centred,
)
from rlcore.agents.martingale.gradient_td import gtd2, tdc
from rlcore.data import Trajectory
from rlcore.envs.control.lqr import ERGODIC as ERGODIC_LQ
from rlcore.envs.control.lqr import ScalarLqr, ScalarLqrConfig
from rlcore.envs.control.ornstein_uhlenbeck import OrnsteinUhlenbeck, OrnsteinUhlenbeckConfig
from rlcore.envs.control.stopped_brownian import StoppedBrownian, StoppedBrownianConfig
from rlcore.errors import ConfigError
from rlcore.experiments import black_scholes
from rlcore.experiments.exact_samples import gaussian_steps, squares
from rlcore.functional.increments import Exponential, Increments, Left, PhiBe, Trapezoid
from rlcore.functional.test_functions import Given, Gradient, Instrument, Trace, Weighted, bounded
from rlcore.nn.mlp import LinearInFeatures, Mlp, Scalar
from rlcore.simulation import Feedback, GaussianFeedback, begin, rollout

BETA, KAPPA, SIGMA = 0.5, 1.0, 0.8
DT = 0.05
RULES: list[Callable[[float], Increments]] = [Left, Exponential, Trapezoid, PhiBe, partial(PhiBe, order=2)]
TESTS: list[Instrument] = [Gradient(), Trace(0.1), Weighted(bounded(0.3)), Weighted(bounded(0.3), Trace(0.1))]
NOTHING = torch.zeros_like


class Curvature(nn.Module):
    """J = exp(theta_1) x^2 + theta_0: a form that is not linear in its parameters, as the papers' are."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(2, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return torch.exp(self.theta[1]) * x[..., 0] ** 2 + self.theta[0]


def linear() -> nn.Module:
    return LinearInFeatures(squares, 2, dtype=torch.float64)


def network() -> nn.Module:
    body = Mlp(1, [8], 1, generator=torch.Generator().manual_seed(0), activation=nn.Tanh)
    return Scalar(body).double()


FORMS = {"linear": linear, "parametric": Curvature, "network": network}


def worst(value: Callable[[Tensor], Tensor]) -> float:
    """Largest error of a value of the Ornstein-Uhlenbeck problem over where its paths are."""
    x = torch.linspace(-1.0, 1.0, 9, dtype=torch.float64).unsqueeze(1)
    return float((value(x) - (0.4 * x[:, 0] ** 2 + 0.512)).detach().abs().max())


@pytest.mark.parametrize("test", TESTS, ids=["gradient", "trace", "weighted", "weighted-trace"])
@pytest.mark.parametrize("rule", RULES, ids=["left", "exponential", "trapezoid", "phibe-1", "phibe-2"])
def test_every_rule_with_every_test_function_on_uneven_times(
    rule: Callable[[float], Increments], test: Instrument
) -> None:
    """The value is in the family, so all of them find it, up to the bias of the rule."""
    batch = gaussian_steps(KAPPA, SIGMA, [0.3 * DT, DT, 0.6 * DT])
    for agent in (
        Clstd(NOTHING, squares, 2, ClstdConfig(BETA), rule=rule, test=test),
        Gmm(NOTHING, squares, 2, test, 2, BETA, rule=rule),
    ):
        agent.update(batch)
        assert worst(agent.value) < 0.06
    given = Gmm(
        NOTHING, squares, 2, Given(lambda x: torch.cat([x**2, torch.ones_like(x), x**4], -1)), 3, BETA, rule=rule
    )
    given.update(batch)
    assert worst(given.value) < 0.06


@pytest.mark.parametrize(("rule", "order"), [(Left, 1), (Exponential, 1), (Trapezoid, 2), (partial(PhiBe, order=2), 2)])
def test_uneven_times_keep_the_order(rule: Callable[[float], Increments], order: int) -> None:
    errors = []
    for scale in (0.08, 0.04):
        agent = Clstd(NOTHING, squares, 2, ClstdConfig(BETA), rule=rule)
        agent.update(gaussian_steps(KAPPA, SIGMA, [0.4 * scale, 1.6 * scale, 0.7 * scale]))
        errors.append(abs(float(agent.theta[0]) - 0.4))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15)


def gradient_agents(value: nn.Module, rate: float) -> dict[str, Ctd | CtdOnline | GradientTd | MartingaleLoss]:
    """Every solver that takes any differentiable value."""
    ctd, loss = CtdConfig(BETA, rate, decay=False), MartingaleLossConfig(BETA, 2.0 * rate)

    def tail(obs: Tensor) -> Tensor:
        return 0.4 * obs[:, 0] ** 2 + 0.512

    return {
        "CTD(0)": Ctd(NOTHING, value, ctd),
        "CTD(lambda)": Ctd(NOTHING, value, replace(ctd, learning_rate=8.0 * rate), test=Trace(0.5)),
        "CTD(0), trapezoid, weighted": Ctd(NOTHING, value, ctd, rule=Trapezoid, test=Weighted(bounded(0.1))),
        "CTD(0), PhiBE": Ctd(NOTHING, value, ctd, rule=PhiBe),
        "online CTD(0)": CtdOnline(NOTHING, value, ctd, trace_decay=0.0),
        "online CTD(lambda)": CtdOnline(NOTHING, value, ctd, trace_decay=0.5),
        "GTD2": GradientTd(NOTHING, value, GradientTdConfig(BETA, 2.0 * rate, 4.0 * rate), direction=gtd2),
        "TDC": GradientTd(NOTHING, value, GradientTdConfig(BETA, rate, 0.2 * rate), direction=tdc),
        "martingale loss": MartingaleLoss(NOTHING, value, loss, torch.optim.SGD, tail=tail),
    }


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", list(gradient_agents(linear(), 1.0)))
def test_every_gradient_method_takes_every_form_of_the_value(name: str, form: str) -> None:
    value = FORMS[form]()
    agent, before = gradient_agents(value, 2.0)[name], worst(value)
    if isinstance(agent, CtdOnline):  # one long path each, not the same short ones again and again
        env = OrnsteinUhlenbeck(OrnsteinUhlenbeckConfig(dt=0.1, horizon=math.inf), dtype=torch.float64)
        agent.update(rollout(env, Feedback(NOTHING), begin(env, 128, seed=0), 300)[0])
    else:
        batch = gaussian_steps(KAPPA, SIGMA, [2.0 * DT, 2.0 * DT])
        for _ in range(150):
            agent.update(batch)
    assert worst(value) < 0.6 * before  # on the way; where it ends is checked in test_policy_evaluation.py


def test_ctd_learns_an_average_reward() -> None:
    env = ScalarLqr(replace(ERGODIC_LQ, dt=0.05), dtype=torch.float64)
    law = GaussianFeedback(lambda x: -0.3 * x - 0.5, 0.4, 1)
    batch = rollout(env, law, begin(env, 1000, seed=0), 100)[0]

    def features(x: Tensor) -> Tensor:
        return torch.cat([0.5 * x**2, x], dim=-1)

    exact = Clstd(law.act, features, 2, ClstdConfig(0.0), running=ERGODIC)
    exact.update(batch)
    value = LinearInFeatures(features, 2, dtype=torch.float64)
    agent = Ctd(law.act, value, CtdConfig(0.0, 0.1, decay=False, ergodic=True))
    for _ in range(400):
        agent.update(batch)
    assert float(agent.average_reward) == pytest.approx(float(exact.rates[0]), abs=0.02)
    assert value.theta.detach().tolist() == pytest.approx(exact.theta.tolist(), abs=0.05)


@pytest.mark.parametrize("rule", [Left, Exponential, Trapezoid])
def test_a_stopped_process(rule: Callable[[float], Increments]) -> None:
    """Reward 1 until the exit from (-1, 1): J = 1 - x^2."""
    env = StoppedBrownian(StoppedBrownianConfig(dt=0.01))
    batch = rollout(env, Feedback(lambda obs: obs[:, :1]), begin(env, 3000, seed=0), 500)[0]

    def features(obs: Tensor) -> Tensor:
        return torch.cat([torch.ones_like(obs[..., :1]), obs[..., :1] ** 2], dim=-1)

    linear_loss = LinearMartingaleLoss(NOTHING, features, 2, MartingaleLossConfig(0.0))
    for agent in (Clstd(NOTHING, features, 2, ClstdConfig(0.0), rule=rule), linear_loss):
        agent.update(batch)
        assert agent.theta.tolist() == pytest.approx([1.0, -1.0], abs=0.08)


def test_a_finite_horizon_with_its_payoff() -> None:
    """The price of an option from features that are its payoff at the end."""
    obs = black_scholes.grid()
    truth = black_scholes.make_env(0.02).value(torch.zeros_like(obs[:, 0]), obs[:, 0])
    config = replace(black_scholes.PRESETS["quick"], paths=8000, batches=1)
    for agent in black_scholes.linear_prices(config, seed=0).values():
        assert float((agent.value(obs) - truth).square().mean().sqrt()) < 4e-3


def test_off_policy_data_serve_every_rule() -> None:
    """Data of N(0.2 x, 1); judged N(-0.6 x - 0.1, 0.2): q comes out beside J, without importance weights."""
    env = ScalarLqr(ScalarLqrConfig(dt=0.02), dtype=torch.float64)
    truth = env.value_of_policy(-0.6, -0.1, 0.2)
    batch: Trajectory = rollout(env, GaussianFeedback(lambda x: 0.2 * x, 1.0, 1), begin(env, 20_000, seed=3), 60)[0]

    def phi(x: Tensor) -> Tensor:
        return torch.cat([0.5 * x**2, x, torch.ones_like(x)], dim=-1)

    def psi(x: Tensor, a: Tensor) -> Tensor:
        return torch.cat([a, a * x, a**2], dim=-1)

    def mean_psi(x: Tensor) -> Tensor:
        mean = -0.6 * x - 0.1
        return torch.cat([mean, mean * x, mean**2 + 0.2], dim=-1)

    running = centred(psi, mean_psi, 3)
    for rule in (Left, Exponential, PhiBe):
        agent = Clstd(NOTHING, phi, 3, ClstdConfig(env.spec.discount_rate), rule=rule, running=running)
        agent.update(batch)
        found = np.array([float(agent.theta[0]), float(agent.theta[1])])
        np.testing.assert_allclose(found, [truth.K.item(), truth.k.item()], atol=0.09)


def test_phibe_names_an_activation_without_second_derivatives() -> None:
    body = Mlp(1, [8], 1, generator=torch.Generator().manual_seed(0), activation=nn.SiLU)
    agent = Ctd(NOTHING, Scalar(body).double(), CtdConfig(BETA), rule=PhiBe)
    with pytest.raises(ConfigError, match=r"PhiBE differentiates the value twice.*Tanh"):
        agent.update(gaussian_steps(KAPPA, SIGMA, [DT]))
